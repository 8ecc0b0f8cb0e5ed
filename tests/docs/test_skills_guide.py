"""docs/guides/skills.md: its files are sound and do what the page says, at a server that was started before they were there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from holdfast.agents.skill import model
from holdfast.agents.skill.library import Library
from tests.support.server import ServerProcess, running_server
from tests.unit.test_skill_diagnostics import ERRORS, OF_CAPABILITIES, WARNINGS

PAGE = (Path(__file__).parents[2] / "docs/guides/skills.md").read_text()
FILES = dict(re.findall(r"^```(?:yaml|python)\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_the_page_has_its_files() -> None:
    assert len(FILES) == 7


def test_the_files_have_no_problems(tmp_path: Path) -> None:
    write_files(tmp_path)
    library = Library([tmp_path])
    library.refresh()

    assert library.problems() == []


def test_a_capability_in_python_takes_ten_lines() -> None:
    both = FILES["capabilities/text.shout.yaml"] + FILES["shouting.py"]

    assert len(both.splitlines()) <= 10


def test_the_slip_that_the_page_makes_is_told_as_it_says(tmp_path: Path) -> None:
    write_files(tmp_path)
    file = tmp_path / "skills/notes.digest.skill.yaml"
    file.write_text(file.read_text().replace("{text: note,", "{txt: note,"))
    library = Library([tmp_path])
    library.refresh()

    assert [problem.code for problem in library.problems()] == ["missing_input", "unknown_input_field"]


def test_every_code_of_a_problem_and_every_key_of_config_is_on_the_page() -> None:
    codes = {*ERRORS, *OF_CAPABILITIES, *WARNINGS, "duplicate_id", "depth_exceeded", "shadowed"}
    keys = {
        name for name in model.Step.__struct_encode_fields__ if name not in ("id", "uses", "input", "output", "config")
    }

    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []
    assert [key for key in sorted(keys - {"pre_gates", "post_gates"}) if f"| `{key}` |" not in PAGE] == []


def test_every_capability_that_is_built_in_is_on_the_page_with_its_fields() -> None:
    library = Library([])
    library.refresh()

    for capability in library.capabilities():
        row = re.search(rf"^\| `{re.escape(capability.id)}` \| (.*?) → (.*?)(?::| \|)", PAGE, re.MULTILINE)
        assert row is not None, capability.id
        assert row[1].split(", ") == list(capability.inputs)
        assert row[2].split(", ") == list(capability.outputs)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("skills")
    with running_server(folder / "data", environment={"HOLDFAST_SKILLS_ROOTS": str(folder)}) as started:
        write_files(folder)
        with started.client() as client:
            _until_loaded(client)
        yield started


def _until_loaded(client: httpx.Client) -> None:
    """What is written takes effect within a second; here the machine may be busy."""
    while client.get("/v1/skills/notes.post/describe").status_code != 200:
        time.sleep(0.05)


def execute(client: httpx.Client, skill: str, **inputs: Any) -> httpx.Response:
    return client.post(f"/v1/skills/{skill}/execute", json={"inputs": inputs})


@pytest.mark.slow
def test_the_digest_is_what_the_page_promises(server: ServerProcess) -> None:
    with server.client() as client:
        notes = ["The ship is in. It rains.", "All quiet."]
        plain = execute(client, "notes.digest", notes=notes).json()["outputs"]
        full = execute(client, "notes.digest", notes=notes, with_keywords=True, title="Now").json()["outputs"]

    assert plain == {"digest": "Today: The ship is in. It rains. | All quiet.", "keywords": None}
    assert full == {
        "digest": "Now: The ship is in. It rains. | All quiet.",
        "keywords": ["ship", "rains", "quiet"],
    }


@pytest.mark.slow
def test_the_capability_works_without_a_restart(server: ServerProcess) -> None:
    with server.client() as client:
        reply = client.post("/v1/capabilities/text.shout/execute", json={"inputs": {"text": "land"}})

    assert reply.json()["outputs"] == {"text": "LAND!"}


@pytest.mark.slow
def test_what_is_posted_was_agreed_to_and_holds_no_personal_data(server: ServerProcess) -> None:
    with server.client() as client:
        asked = execute(client, "notes.post", text="The ship is in.")
        approved = client.post(f"/v1/runs/{asked.json()['run_id']}/approve", json={"notes": "fine"})
        denied = client.post(f"/v1/runs/{execute(client, 'notes.post', text='x').json()['run_id']}/deny", json={})
        gated = execute(client, "notes.post", text="Write to jane@example.com")
        wire = client.post("/v1/capabilities/notes.wire/execute", json={"inputs": {"text": "x"}})

    assert (asked.status_code, asked.json()["interrupt"]["question"]) == (202, "Post this?")
    assert approved.json()["answer"] == "approve"
    assert denied.json()["answer"] == "deny"
    assert (gated.status_code, gated.json()["error"]["code"]) == (403, "safety_denied")
    assert (wire.status_code, wire.json()["error"]["code"]) == (403, "safety_denied")


def test_the_yaml_of_the_page_is_yaml_for_others_too() -> None:
    for name, text in FILES.items():
        if name.endswith(".yaml"):
            assert isinstance(yaml.safe_load(text), dict)
