"""The catalog of a real server, its agents and prompt skills: check 28 of the specification."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import Engine
from tests.support.catalogs import write, write_agent, write_skill
from tests.support.providers import Provider, Reply, provider
from tests.support.server import ServerProcess, running_server, start_server

SERVED = {"HOLDFAST_LEARNING": "false"}


@pytest.fixture(scope="module")
def model() -> Iterator[Provider]:
    with provider("openai-chat") as made:
        yield made


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalog")
    write_agent(root, "clerk", "You are the clerk.", tools=["sum"], default=True)
    write_agent(root, "gone", "You will be gone.")
    write_skill(root, "brief", "Brief: {{text}}")
    write(root / "core_soul.json", {"identity": "One of the office.", "values": ["care"]})
    return root


@pytest.fixture(scope="module")
def settings(catalog: Path, model: Provider) -> dict[str, str]:
    return {"HOLDFAST_CATALOG": str(catalog), **SERVED, **model.settings}


@pytest.fixture(scope="module")
def server(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("data"), agents=None, environment=settings) as process:
        yield process


@pytest.fixture
def engine(server: ServerProcess) -> Iterator[Engine]:
    with server.client() as client:
        yield Engine(client)


def refused(response: httpx.Response, status: int, code: str, **details: Any) -> None:
    body = response.json()
    assert (response.status_code, body["error"]) == (status, code), body
    assert {name: body.get("details", {}).get(name) for name in details} == details


def test_the_catalogs_default_agent_answers_with_its_prompt_tools_and_soul(
    engine: Engine, model: Provider, task_id: str
) -> None:
    model.reset(Reply("Good day."))

    found = engine.execute("Hello", task_id)

    assert found[0].data["agent"] == "clerk"
    (request,) = model.requests
    system = "\n".join(str(each["content"]) for each in request["messages"] if each["role"] in ("system", "developer"))
    assert "You are the clerk." in system
    assert "One of the office." in system
    assert [tool["function"]["name"] for tool in request["tools"]] == ["sum"]
    assert engine.client.get("/memory/soul").json()["values"] == ["care"]


def test_a_reload_reaches_the_next_turn_and_a_broken_catalog_changes_nothing(
    engine: Engine, model: Provider, catalog: Path, task_id: str
) -> None:
    write_agent(catalog, "fresh", "You are fresh.")
    broken = write(catalog / "policy.json", "[")
    refused(
        engine.post("/admin/reload-catalog", {}),
        422,
        "CATALOG_INVALID",
        errors=[{"file": "policy.json", "message": "Input data was truncated"}],
    )
    assert engine.post("/execute", {"task_id": task_id, "message": "Hi", "agent": "fresh"}).status_code == 404
    broken.unlink()

    reloaded = engine.post("/admin/reload-catalog", {}).json()

    assert reloaded == {
        "status": "reloaded",
        "agents": ["clerk", "fresh", "gone"],
        "skills": ["brief"],
        "tools": [],
        "changed": ["fresh"],
    }
    model.reset(Reply("Fresh."))
    assert engine.execute("Hi", task_id, agent="fresh")[-1].data["output"] == "Fresh."
    assert "You are fresh." in json.dumps(model.requests[0])


def test_a_turn_keeps_its_definition_also_after_a_crash_and_without_its_agent(
    settings: dict[str, str], model: Provider, catalog: Path, tmp_path: Path
) -> None:
    server = start_server(tmp_path, agents=None, environment=settings)
    try:
        model.reset(Reply(calls=[("c1", "ask_human", {"question": "Which?"})]), Reply("So be it."))
        write_agent(catalog, "gone", "You will be gone.", tools=["ask_human"])
        with server.client() as client:
            assert client.post("/admin/reload-catalog").status_code == 200
            Engine(client).begin("Hello", "t", agent="gone")
            wait_pending(client)
        server.kill()
        for file in ("agent.json", "prompt.md"):
            (catalog / "agents" / "gone" / file).unlink()
        (catalog / "agents" / "gone").rmdir()
        server = start_server(tmp_path, agents=None, environment=settings)
        with server.client() as client:
            engine = Engine(client)
            assert engine.respond("t", "This one").status_code == 200
            assert engine.replay(task_id="t")[-1].data["output"] == "So be it."
            assert "You will be gone." in json.dumps(model.requests[-1])
            refused(engine.post("/execute", {"task_id": "t", "message": "Again"}), 404, "AGENT_NOT_FOUND")
    finally:
        server.kill()


def wait_pending(client: httpx.Client) -> None:
    with client.stream("GET", "/execute/replay", params={"task_id": "t"}) as stream:
        for line in stream.iter_lines():
            if line == "event: hitl_request":
                return
    raise AssertionError("nothing was asked")


def test_a_server_does_not_start_with_a_broken_catalog(tmp_path: Path) -> None:
    write_agent(tmp_path / "catalog", "one", name="other")
    environment = {"HOLDFAST_CATALOG": str(tmp_path / "catalog")}

    with pytest.raises(RuntimeError, match=r"agents/one/agent\.json"):
        start_server(tmp_path / "data", agents=None, environment=environment)


# Prompt skills


def test_skills_are_made_changed_and_deleted(engine: Engine) -> None:
    made = engine.post(
        "/skills/create", {"name": "daily-report", "prompt": "Report {{day}}.", "scripts": {"a.sh": "x"}}
    )
    assert made.status_code == 201
    shown = {
        "name": "daily-report",
        "description": "",
        "category": "",
        "prompt_template": "Report {{day}}.",
        "scripts": {"a.sh": "x"},
        "capabilities": [],
    }
    assert made.json() == engine.client.get("/skills/daily-report").json() == shown
    listed = engine.client.get("/skills").json()
    assert [(each["name"], each["source"], each["confidence"]) for each in listed] == [
        ("brief", "platform", 1.0),
        ("daily-report", "custom", 1.0),
    ]
    refused(engine.post("/skills/create", {"name": "daily-report", "prompt": "x"}), 409, "SKILL_EXISTS")
    refused(engine.post("/skills/create", {"name": "brief", "prompt": "x"}), 409, "SKILL_EXISTS")
    changed = engine.client.put("/skills/daily-report", json={"description": "Of a day.", "name": "daily-report"})
    assert changed.json() == shown | {"description": "Of a day."}
    refused(engine.client.put("/skills/daily-report", json={"name": "x"}), 422, "INVALID_REQUEST", field="name")
    assert engine.client.get("/memory/export").json()["skills"][0]["description"] == "Of a day."
    gone = engine.client.delete("/skills/daily-report")
    assert (gone.status_code, gone.json()) == (200, {"status": "deleted", "name": "daily-report"})
    for response in (
        engine.client.get("/skills/daily-report"),
        engine.client.put("/skills/daily-report", json={}),
        engine.client.delete("/skills/daily-report"),
    ):
        refused(response, 404, "SKILL_NOT_FOUND")


def test_skills_of_the_catalog_are_changed_by_its_files_alone(engine: Engine) -> None:
    assert engine.client.get("/skills/brief").json()["prompt_template"] == "Brief: {{text}}"
    for response in (engine.client.put("/skills/brief", json={"prompt": "x"}), engine.client.delete("/skills/brief")):
        refused(response, 403, "PERMISSION_DENIED", rule="platform")
    assert engine.client.get("/skills/brief").json()["prompt_template"] == "Brief: {{text}}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": "x"}, "name"),
        ({"name": "Upper", "prompt": "x"}, "name"),
        ({"name": "a--b", "prompt": "x"}, "name"),
        ({"name": "a" * 65, "prompt": "x"}, "name"),
        ({"name": "a"}, "prompt"),
        ({"name": "a", "scripts": {}}, "prompt"),
        ({"name": "a", "scripts": {"../x": ""}}, "scripts.../x"),
        ({"name": "a", "scripts": {f"{n}": "" for n in range(21)}}, "scripts"),
        ({"name": "a", "scripts": {"big": "x" * 262_145}}, "scripts.big"),
        ({"name": "a", "prompt": "x", "more": 1}, "more"),
    ],
)
def test_a_skill_that_does_not_fit_is_refused(engine: Engine, body: Any, field: str) -> None:
    refused(engine.post("/skills/create", body), 422, "INVALID_REQUEST", field=field)
    assert [each["name"] for each in engine.client.get("/skills").json()] == ["brief"]
