"""The catalog of a real server on each store, its agents and prompt skills: check 28 of the specification."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import Engine
from tests.support.catalogs import write, write_agent, write_skill, write_tool
from tests.support.providers import Fault, Provider, Reply, provider
from tests.support.server import ServerProcess, running_server, start_server

SERVED = {"HOLDFAST_LEARNING": "false"}
ONE_STORE = pytest.mark.one_store("what a call looks like is judged before any store is asked")


@pytest.fixture(scope="module")
def model() -> Iterator[Provider]:
    with provider("openai-chat") as made:
        yield made


@pytest.fixture(scope="module")
def catalog(store_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(f"catalog_{store_kind}")
    write_agent(root, "clerk", "You are the clerk.", tools=["sum"], default=True)
    write_agent(root, "gone", "You will be gone.")
    write_skill(root, "brief", "Brief: {{text}}")
    write_agent(root, "writer", "You write.", tools=["skill.*", "shorten"])
    write_tool(
        root,
        "shorten",
        "skill",
        "brief",
        input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    )
    write_tool(root, "dear_sum", "platform", "sum", high_cost=True)
    write(root / "core_soul.json", {"identity": "One of the office.", "values": ["care"]})
    return root


@pytest.fixture(scope="module")
def settings(catalog: Path, model: Provider) -> dict[str, str]:
    return {"HOLDFAST_CATALOG": str(catalog), **SERVED, **model.settings}


@pytest.fixture(scope="module")
def server(
    module_store: dict[str, str], settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    environment = {**settings, **module_store}
    with running_server(tmp_path_factory.mktemp("data"), agents=None, environment=environment) as process:
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
        "agents": ["clerk", "fresh", "gone", "writer"],
        "skills": ["brief"],
        "tools": ["dear_sum", "shorten"],
        "changed": ["fresh"],
    }
    served = engine.client.get("/agents").json()
    assert served["default"] == "clerk"
    names = [agent["name"] for agent in served["agents"] if not agent["name"].startswith("skill:")]
    assert names == ["assistant", "clerk", "fresh", "gone", "writer"]
    model.reset(Reply("Fresh."))
    assert engine.execute("Hi", task_id, agent="fresh")[-1].data["output"] == "Fresh."
    assert "You are fresh." in json.dumps(model.requests[0])


def test_a_turn_keeps_its_definition_also_after_a_crash_and_without_its_agent(
    settings: dict[str, str], own_store: dict[str, str], model: Provider, catalog: Path, tmp_path: Path
) -> None:
    environment = {**settings, **own_store}
    server = start_server(tmp_path, agents=None, environment=environment)
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
        server = start_server(tmp_path, agents=None, environment=environment)
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


@ONE_STORE
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


def test_skills_are_tools_of_a_turn(engine: Engine, model: Provider, task_id: str) -> None:
    engine.post("/skills/create", {"name": "greet", "prompt": "Greet {{who}}."})
    calls = [("c1", "skill__greet", {"who": "Ann {{x}}"}), ("c2", "shorten", {"text": "a long text"})]
    model.reset(Reply(calls=calls), Reply("One."), Reply("Two."), Reply("Done."))

    found = engine.execute("Hello", task_id, agent="writer")

    engine.client.delete("/skills/greet")
    assert found[-1].data["output"] == "Done."
    first, *asked, _ = model.requests
    names = {tool["function"]["name"] for tool in first["tools"]}
    assert names == {"skill__brief", "skill__greet", "shorten"}
    prompts = {request["messages"][-1]["content"] for request in asked}
    assert prompts == {"Greet Ann {{x}}.", "Brief: a long text"}  # a value is text: no gap of it is filled
    results = {frame.data["tool"]: frame.data["output"] for frame in found if frame.event == "tool_result"}
    assert set(results) == {"skill.greet", "shorten"}
    assert sorted(results.values()) == ["One.", "Two."]
    told = [frame.data["input_tokens"] for frame in found if frame.event == "usage"]
    assert len(told) == 4
    assert found[-1].data["usage"]["input_tokens"] == sum(told)


# Calls without a conversation


def test_rpc_calls_tools_skills_and_the_memory(engine: Engine, model: Provider) -> None:
    model.reset(Reply("Short."))

    def result(method: str, **params: Any) -> Any:
        response = engine.post("/rpc", {"method": method, "params": params})
        assert response.status_code == 200, response.text
        assert set(response.json()) == {"result"}
        return response.json()["result"]

    assert (
        result("tool.sum", numbers=[1, 2])
        == engine.post("/rpc", {"method": "tool.sum", "params": {"numbers": [1, 2]}}).json()["result"]
    )
    made = result("skill.brief", text="a long text")
    assert made["output"] == "Short."
    assert set(made["usage"]) == {"input_tokens", "output_tokens", "cache_hit_tokens"}
    item = result("memory.write", store="knowledge", content="The Café pays on the 5th.")
    assert [each["id"] for each in result("memory.search", store="knowledge", query="cafe")] == [item["id"]]
    assert result("memory.delete", store="knowledge", id=item["id"]) == {"status": "deleted", "id": item["id"]}
    assert result("memory.soul")["identity"] == "One of the office."


def test_what_a_person_would_be_asked_about_is_refused_by_rpc_without_effect(
    engine: Engine, catalog: Path, model: Provider
) -> None:
    model.reset()
    call = {"method": "tool.dear_sum", "params": {"numbers": [1]}}
    refused(engine.post("/rpc", call), 403, "PERMISSION_DENIED", rule="high_cost")
    denied = [{"tool": "knowledge_write", "action": "deny"}, {"tool": "skill.brief", "action": "ask", "rule": "costly"}]
    policy = write(catalog / "policy.json", denied)
    assert engine.post("/admin/reload-catalog", {}).status_code == 200
    try:
        written = {"method": "tool.knowledge_write", "params": {"content": "Never."}}
        refused(engine.post("/rpc", written), 403, "PERMISSION_DENIED", rule="policy")
        asked = {"method": "skill.brief", "params": {"text": "x"}}
        refused(engine.post("/rpc", asked), 403, "PERMISSION_DENIED", rule="costly")
    finally:
        policy.unlink()
        assert engine.post("/admin/reload-catalog", {}).status_code == 200
    assert engine.client.get("/memory/knowledge").json()["items"] == []
    assert model.requests == []
    assert engine.client.get("/hitl/pending").json()["pending"] == []


@ONE_STORE
@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "INVALID_REQUEST", "method"),
        ({"method": "tool.sum", "params": []}, 422, "INVALID_REQUEST", "params"),
        ({"method": "tool.sum", "params": {"numbers": "x"}}, 422, "INVALID_REQUEST", "params"),
        ({"method": "tool.sum", "more": 1}, 422, "INVALID_REQUEST", "more"),
        ({"method": "skill.brief"}, 422, "INVALID_REQUEST", "params"),
        ({"method": "skill.brief", "params": {"text": "x", "more": 1}}, 422, "INVALID_REQUEST", "params"),
        ({"method": "memory.search", "params": {"store": "knowledge"}}, 422, "INVALID_REQUEST", "params.query"),
        ({"method": "memory.write", "params": {"store": "knowledge"}}, 422, "INVALID_REQUEST", "params.content"),
        ({"method": "memory.write", "params": {"content": "x"}}, 422, "INVALID_REQUEST", "params.store"),
        ({"method": "tool.nothing"}, 404, "METHOD_NOT_FOUND", None),
        ({"method": "nothing"}, 404, "METHOD_NOT_FOUND", None),
        ({"method": "tool.ask_human", "params": {"question": "?"}}, 404, "METHOD_NOT_FOUND", None),
        ({"method": "skill.nothing"}, 404, "SKILL_NOT_FOUND", None),
        ({"method": "memory.delete", "params": {"store": "knowledge", "id": "x"}}, 404, "ITEM_NOT_FOUND", None),
    ],
)
def test_rpc_refuses_what_does_not_fit_and_starts_no_run(
    engine: Engine, body: Any, status: int, code: str, field: str | None
) -> None:
    before = engine.client.get("/runs").json()["runs"]

    refused(engine.post("/rpc", body), status, code, field=field)

    assert engine.client.get("/runs").json()["runs"] == before


@ONE_STORE
@pytest.mark.parametrize(
    ("method", "params", "rule"),
    [
        ("tool.write_file", {"path": "/etc/holdfast-test", "content": "x"}, "outside_roots"),
        ("tool.read_file", {"path": "/etc/passwd"}, "outside_roots"),
        ("tool.bash", {"command": "rm -rf /srv/old"}, "destructive_shell"),
        ("tool.web_fetch", {"url": "http://127.0.0.1:1/"}, "address_refused"),
    ],
)
def test_rpc_lets_nothing_out_of_its_bounds(engine: Engine, method: str, params: Any, rule: str) -> None:
    refused(engine.post("/rpc", {"method": method, "params": params}), 403, "PERMISSION_DENIED", rule=rule)

    assert not Path("/etc/holdfast-test").exists()


def test_rpc_works_while_the_model_library_is_loaded(tmp_path: Path) -> None:
    """The first call of a server comes while its assistant is made in another thread."""
    with running_server(tmp_path, agents=None, environment=SERVED, fresh=True) as server, server.client() as client:
        done = client.post("/rpc", json={"method": "tool.sum", "params": {"numbers": [1, 2]}}, timeout=60)

    assert (done.status_code, done.json()) == (200, {"result": 3})


def test_rpc_with_a_key_is_done_once(engine: Engine, model: Provider) -> None:
    model.reset(Reply("First."), Reply("Second."))
    body = {"method": "skill.brief", "params": {"text": "x"}}

    first, second = (engine.post("/rpc", body, **{"Idempotency-Key": "rpc-1"}) for _ in range(2))

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(model.requests) == 1


@ONE_STORE
def test_a_failing_model_is_told_by_its_own_code(engine: Engine, model: Provider) -> None:
    model.reset(Fault(400, "invalid_request_error", "no"))

    refused(engine.post("/rpc", {"method": "skill.brief", "params": {"text": "x"}}), 502, "LLM_PROVIDER_ERROR")
