"""A real server with skills from files, that is killed and started again, over the Skills API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hook_receiver import hook_receiver
from tests.support.server import running_server

SKILL = """
id: notes.keep
version: 1.0.0
name: Keep a note
description: Writes a note into a file and says how many there are.
inputs: {text: {type: string, required: true}}
outputs: {count: {type: integer, required: true}, style: {type: string}}
steps:
  - {id: ask, uses: text.content.template, input: {template: STYLE}, output: {text: outputs.style}, config: {confirm: true}}
  - {id: keep, uses: note.keep, input: {text: inputs.text}, output: {count: outputs.count}}
"""
CAPABILITY = """
id: note.keep
version: 1.0.0
description: Appends a line to a file.
inputs: {text: {type: string, required: true}}
outputs: {count: {type: integer, required: true}}
bind: {python: "notekeeping:keep"}
"""
MODULE = """
from pathlib import Path

def keep(text: str) -> dict:
    file = Path(__file__).with_name("notes")
    with file.open("a") as notes:
        notes.write(text + "\\n")
    return {"count": len(file.read_text().splitlines())}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a skill that asks before it calls a capability of its own."""
    folder = tmp_path / "root"
    for name, text in (
        ("skills/notes.keep.skill.yaml", SKILL),
        ("capabilities/note.keep.yaml", CAPABILITY),
        ("notekeeping.py", MODULE),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def frames(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in client.get(path).text.splitlines() if line.startswith("data: ")]


@pytest.mark.crash
@pytest.mark.slow
def test_a_run_outlives_its_server_and_goes_on_with_the_files_that_it_began_with(tmp_path: Path, root: Path) -> None:
    """One run under one Idempotency-Key, one answer, one call, across a kill; a new run has the new text."""
    environment = {"HOLDFAST_SKILLS_ROOTS": str(root)}
    path, body = "/v1/skills/notes.keep/execute", {"inputs": {"text": "once"}}
    headers = {"Idempotency-Key": "note-1"}
    with running_server(tmp_path / "data", environment=environment) as server, server.client() as client:
        first = client.post(path, json=body, headers=headers)
    file = root / "skills/notes.keep.skill.yaml"
    file.write_text(file.read_text().replace("STYLE", "other"))

    with running_server(tmp_path / "data", environment=environment) as server, server.client() as client:
        again = client.post(path, json=body, headers=headers)
        other = client.post(path, json={"inputs": {"text": "twice"}}, headers=headers)
        run_id = first.json()["run_id"]
        approved = client.post(f"/v1/runs/{run_id}/approve", json={})
        old = frames(client, f"/v1/runs/{run_id}/stream")
        new = client.post(path, json=body).json()
        client.post(f"/v1/runs/{new['run_id']}/approve", json={})
        newer = frames(client, f"/v1/runs/{new['run_id']}/stream")
        total = client.get("/v1/runs").json()["pagination"]["total"]

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422
    assert approved.json()["answer"] == "approve"
    assert [frame["sequence"] for frame in old] == list(range(len(old)))
    assert old[-1]["outputs"] == {"count": 1, "style": "STYLE"}
    assert newer[-1]["outputs"] == {"count": 2, "style": "other"}
    assert total == 2


@pytest.mark.slow
def test_a_file_counts_without_a_restart_and_tells_what_is_wrong_with_it(tmp_path: Path, root: Path) -> None:
    (root / "capabilities/note.keep.yaml").unlink()
    with (
        running_server(tmp_path / "data", environment={"HOLDFAST_SKILLS_ROOTS": str(root)}) as server,
        server.client() as client,
    ):
        refused = client.post("/v1/skills/notes.keep/execute", json={"inputs": {"text": "x"}})
        told = client.get("/v1/skills/diagnostics").json()
        packaged = client.post("/v1/skills/my.skill/execute", json={"inputs": {"text": "Hello world"}})
        (root / "capabilities/note.keep.yaml").write_text(CAPABILITY)
        while (answer := client.post("/v1/capabilities/note.keep/execute", json={"inputs": {"text": "x"}})).is_error:
            assert answer.status_code == 404
        listed = {item["id"] for item in client.get("/v1/skills/list?limit=100").json()["skills"]}

        waits = client.post("/v1/skills/notes.keep/execute", json={"inputs": {"text": "old"}}).json()
        file = root / "skills/notes.keep.skill.yaml"
        file.write_text(file.read_text().replace("STYLE", "other"))
        while client.get("/v1/skills/notes.keep/describe").json()["steps"][0]["input"] != {"template": "other"}:
            pass
        later = client.post("/v1/skills/notes.keep/execute", json={"inputs": {"text": "new"}}).json()
        styles = []
        for run in (waits, later):
            client.post(f"/v1/runs/{run['run_id']}/approve", json={})
            styles.append(frames(client, f"/v1/runs/{run['run_id']}/stream")[-1]["outputs"]["style"])

    assert styles == ["STYLE", "other"], "a run keeps the file that it began with"
    assert refused.status_code == 409
    (problem,) = [item for item in refused.json()["error"]["problems"] if item["severity"] == "error"]
    assert (problem["code"], problem["skill_id"], problem["step_id"]) == ("unknown_capability", "notes.keep", "keep")
    assert problem in told["problems"]
    assert packaged.json()["outputs"] == {"result": "Hello world"}
    assert answer.json()["outputs"] == {"count": 1}
    assert {"notes.keep", "my.skill", "news.briefing", "news.publish"} <= listed


@pytest.mark.slow
def test_the_packaged_skill_posts_once_a_person_has_agreed_over_another_api(tmp_path: Path) -> None:
    environment = {"HOLDFAST_SKILLS_ROOTS": str(tmp_path), "HOLDFAST_SKILLS_HTTP_ALLOW": "127.0.0.1"}
    with (
        hook_receiver() as receiver,
        running_server(tmp_path / "data", environment=environment) as server,
        server.client() as client,
    ):
        body = {"inputs": {"articles": ["One. Two."], "hook": f"{receiver.url}/briefings"}}
        waits = client.post("/v1/skills/news.publish/execute", json=body)
        run_id, asked = waits.json()["run_id"], waits.json()["interrupt"]
        denied = client.post("/v1/skills/news.publish/execute", json=body).json()["run_id"]
        client.post(f"/v1/runs/{denied}/deny", json={})
        client.post(f"/runs/{run_id}/interrupts/{asked['interrupt_id']}", json={"answer": True})
        done, refused = frames(client, f"/v1/runs/{run_id}/stream"), frames(client, f"/v1/runs/{denied}/stream")
        posted = receiver.received("/briefings")

    assert (waits.status_code, waits.json()["status"], asked["step_id"]) == (202, "waiting_for_human", "post")
    assert (asked["question"], asked["default"]) == ("Post this briefing?", "deny")
    assert [frame["step_id"] for frame in done if frame["type"] == "step_completed"][-2:] == ["brief", "post"]
    assert "brief/shorten" in {frame["step_id"] for frame in done}
    assert [frame["type"] for frame in done].count("skill_start") == 1
    assert done[-1]["outputs"] == {"status_code": 200}
    assert [item.event for item in posted] == [{"text": "For everyone. One. Two. "}]
    assert (refused[-1]["status"], refused[-1]["error"]["status"]) == ("failed", 403)
