"""Registered tools: kept, checked, told to the assistant's model, and retired; what can be started; feedback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.workflow.conftest import AGENTS
from tests.support.server import ServerProcess, running_server
from tests.support.sse import read_all
from tests.support.tasks import Task, result, start
from tests.support.workflow_agents import CLOCK_ID

LOOKUP = {
    "name": "lookup",
    "namespace": "crm",
    "description": "Finds a customer.",
    "schema_data": {
        "type": "object",
        "properties": {"name": {"$ref": "#/$defs/name"}, "deep": {"type": "object", "properties": {"a": {}}}},
        "required": ["name"],
        "$defs": {"name": {"type": "string", "minLength": 1}},
    },
    "expires_in": 3600,
    "overrides_quasi_tool": True,
}


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The built-in assistant with its offline model, which uses a tool if it is told to."""
    with running_server(tmp_path_factory.mktemp("assistant") / "data", agents=None) as process:
        yield process


def register(client: httpx.Client, *tools: dict[str, Any]) -> httpx.Response:
    return client.post("/api/tools/register", json={"tools": list(tools)})


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["detail"]["code"]


def test_a_tool_is_registered_replaced_retired_and_revived(client: httpx.Client) -> None:
    first = register(client, LOOKUP).json()["tools"][0]
    again = register(client, {**LOOKUP, "description": "Finds one."}).json()["tools"][0]
    shown = client.get("/api/tools", params={"namespace": "crm"})
    listed = shown.json()["schemas"]

    assert first == again == {"id": first["id"], "name": "lookup", "namespace": "crm"}
    assert shown.content == client.get("/api/tools/", params={"namespace": "crm"}).content
    assert listed[0]["schema_data"] == {
        "type": "function",
        "name": "lookup",
        "description": "Finds one.",
        "parameters": LOOKUP["schema_data"],
        "strict": False,
    }
    assert (listed[0]["status"], listed[0]["created_by"]) == ("active", "environment")
    assert client.delete(f"/api/tools/{first['id']}").json() == {"success": True}
    assert client.get("/api/tools", params={"status": "active", "namespace": "crm"}).json() == {"schemas": []}
    assert register(client, LOOKUP).json()["tools"][0] == first
    assert len(client.get("/api/tools", params={"status": "active", "namespace": "crm"}).json()["schemas"]) == 1
    assert code(client.delete("/api/tools/tool_0")) == (404, "tool_not_found")


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"name": "1st"}, "invalid_request"),
        ({"name": "a", "namespace": "b.c"}, "invalid_request"),
        ({"name": "a", "expires_in": 0}, "invalid_request"),
        ({"name": "a", "on_expiry": "wait"}, "invalid_request"),
        ({"name": "a", "schema_data": []}, "invalid_tool_schema"),
        ({"name": "a", "schema_data": {"type": "string"}}, "invalid_tool_schema"),
        ({"name": "a", "schema_data": {"type": "object", "properties": 5}}, "invalid_tool_schema"),
        ({"name": "a", "schema_data": {"type": "object", "$ref": "https://example.com/x"}}, "invalid_tool_schema"),
        ({"name": "a", "schema_data": {"type": "object", "x": "y" * 70_000}}, "invalid_tool_schema"),
    ],
)
@pytest.mark.one_store("what a definition means does not depend on the store")
def test_what_is_no_definition_registers_nothing(client: httpx.Client, tool: dict[str, Any], expected: str) -> None:
    before = client.get("/api/tools").json()

    assert code(register(client, {"name": "good_one"}, tool)) == (422, expected)
    assert client.get("/api/tools").json() == before


def test_arguments_that_break_the_schema_ask_nobody(client: httpx.Client) -> None:
    register(client, LOOKUP)

    wrong = start(client, "finder", {"name": 5}).ended()
    right = start(client, "finder", {"name": "x"})
    (call,) = right.paused()
    pending = right.status()["task_info"]["pending_tool_calls"][0]
    right.post(result(call, "found"))

    assert wrong["result"] == "failed: the arguments of crm.lookup do not fit: name: 5 is not of type 'string'"
    assert wrong["prior_nodes_execution_records"][0]["tool_call_requests"] == []
    assert (pending["namespace"], pending["name"]) == ("crm", "lookup")
    assert "T" in pending["expires_at"]
    assert right.ended()["result"] == "found"


def test_the_assistant_has_its_caller_execute_a_registered_tool(assistant: ServerProcess) -> None:
    with assistant.client() as client:
        assert register(client, LOOKUP).status_code == 200
        listed = client.get("/api/workflow/list").json()
        workflow = next(item for item in listed if item["name"] == "assistant")
        reply = client.post(
            "/api/workflow/execute/assistant",
            json={"inputs": {"strings": {"1": 'Use the tool lookup with {"name": "x"}'}}},
        ).json()
        task = Task(client, "assistant", reply["task_id"], reply["run_id"])
        (call,) = task.paused()
        pending = task.status()["task_info"]["pending_tool_calls"][0]
        assert code(register(client, {"name": "lookup"})) == (422, "tool_name_ambiguous")
        task.post(result(call, "Ada"))
        row = task.ended()
        events = read_all(client, "GET", f"/runs/{task.run_id}/events")
        misfit = start(client, "assistant", 'Use the tool lookup with {"name": 5}').ended()

    assert (workflow["name"], workflow["client_tools"]) == ("assistant", ["crm.lookup"])
    assert reply["client_tools"] == ["crm.lookup"]
    assert (pending["namespace"], pending["name"], pending["arguments"]) == ("crm", "lookup", '{"name":"x"}')
    assert row["result"] == "The tool lookup answered: Ada"
    calls = [frame.data for frame in events if frame.event in ("tool_call", "tool_result")]
    assert [(item["tool"], item["tool_call_id"]) for item in calls] == [("crm.lookup", call)] * 2
    assert misfit["status"] == "completed"
    assert "do not fit" in misfit["result"]


def test_a_registered_tool_takes_the_place_of_one_that_the_assistant_has_of_its_own(assistant: ServerProcess) -> None:
    with assistant.client() as client:
        registered = register(client, {"name": "find", "namespace": "crm"})  # the assistant's own finds files
        task = start(client, "assistant", 'Use the tool find with {"query": "Ada"}')
        (call,) = task.paused()
        pending = task.status()["task_info"]["pending_tool_calls"][0]
        task.post(result(call, "Ada Lovelace"))
        row = task.ended()

    assert registered.status_code == 200
    assert (pending["namespace"], pending["name"], pending["arguments"]) == ("crm", "find", '{"query":"Ada"}')
    assert row["result"] == "The tool find answered: Ada Lovelace"


def test_files_reach_the_agent_by_every_way(client: httpx.Client) -> None:
    one = client.post("/api/workflow/upload-run-input", files={"file_1": ("a.txt", b"abc", "text/plain")}).json()
    both = client.post(
        "/api/workflow/upload-run-input",
        files={"file_1": ("a.bin", b"\x00" * 10), "file_2": ("b.bin", b"\xff" * 20, "application/x-b")},
    ).json()["references"]
    references = start(client, "reader", one["reference"], both["1"], both["2"]).ended()
    form = client.post(
        "/api/workflow/execute/reader/with-files",
        files={"file_1": ("c.txt", b"12345", "text/plain"), "file_2": ("d.txt", b"1", "text/plain")},
        data={"metadata": '{"order":"A-7"}', "environment": "test"},
    )
    row = Task(client, "reader", form.json()["task_id"], "").ended()
    images = client.post(
        "/api/workflow/execute/reader",
        json={"inputs": {"images": {"1": "data:image/png;base64,iVBORw0KGgo=", "2": "iVBORw0KGgo="}}},
    ).json()
    shown = Task(client, "reader", images["task_id"], "").ended()

    assert references["result"] == (
        '[["a.txt","text/plain",3],["a.bin","application/octet-stream",10],["b.bin","application/x-b",20]]'
    )
    assert row["result"] == '[["c.txt","text/plain",5],["d.txt","text/plain",1]]'
    assert (row["environment"], row["metadata"]) == ("test", {"order": "A-7"})
    assert shown["result"] == '[["1","image/png",8],["2","image/png",8]]'


def test_the_assistant_gets_texts_and_text_files_in_order_and_then_images(assistant: ServerProcess) -> None:
    with assistant.client() as client:
        upload = {"file_1": ("a.txt", "Grüße".encode(), "text/plain"), "file_2": ("b.bin", b"\xff\x00", "text/plain")}
        references = client.post("/api/workflow/upload-run-input", files=upload).json()["references"]
        strings = {"10": "last", "2": references["1"], "1": "Say hello.", "3": references["2"], "4": {"a": 1}}
        body = {"inputs": {"strings": strings, "images": {"1": "iVBORw0KGgo="}}}
        reply = client.post("/api/workflow/execute/assistant", json=body).json()
        run = client.get(f"/runs/{reply['run_id']}").json()
        shown = Task(client, "assistant", reply["task_id"], reply["run_id"]).ended()["initial_inputs"]

    media = [(block["type"], block["source"]["media_type"], block["source"]["data"]) for block in run["input"]["media"]]
    assert run["input"]["message"] == 'Say hello.\n\nGrüße\n\n{"a":1}\n\nlast'
    assert media == [("document", "text/plain", "/wA="), ("image", "image/png", "iVBORw0KGgo=")]
    assert shown["strings"] == strings
    assert shown["images"]["1"].startswith("file_")


def test_an_unknown_file_and_bad_forms_start_nothing(client: httpx.Client) -> None:
    path = "/api/workflow/execute/reader"
    unknown = "file_5f7b1a2e-0c7d-4a51-9f0e-3b8d2c6a1e77"
    before = client.get("/api/agent/reader/runs").json()
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}

    assert code(client.post(path, json={"inputs": {"strings": {"1": unknown}}})) == (422, "file_not_found")
    assert code(client.post(path, json={"inputs": {"images": {"1": "%%%"}}})) == (422, "invalid_request")
    assert code(client.post(f"{path}/with-files", json={})) == (415, "unsupported_media_type")
    assert code(client.post(f"{path}/with-files", content=b"nonsense", headers=boundary)) == (400, "invalid_json")
    assert code(client.post("/api/workflow/upload-run-input", files={"other": b"x"})) == (422, "invalid_request")
    assert client.get("/api/agent/reader/runs").json() == before


def test_feedback_is_kept_by_source_and_found_again(client: httpx.Client) -> None:
    task = start(client, "say", "x")
    task.ended()
    path = f"/api/agents/execution/{task.number}/feedback"
    none = client.get(path).json()
    data = {"feedback": {"say": {"rating": "high", "feedback": "right"}}}

    first = client.post(path, json={"feedback_data": data, "feedback_source": "admin"}).json()
    client.post(path, json={"feedback_data": {"feedback": {"say": {"rating": "low"}}}, "feedback_source": "user"})
    client.post(path, json={"feedback_data": {"feedback": {"say": {"rating": "very-low"}}}, "feedback_source": "user"})
    simple = client.post(f"{path}/simple", json={"passed": True, "source": "user"}).json()
    listed = client.get("/api/agents/execution/feedback", params={"agent_id": "say", "task_id": task.number}).json()
    admins = client.get(path, params={"feedback_source": "admin"}).json()
    bad = client.post(path, json={"feedback_data": {"feedback": {"say": {"rating": "great"}}}})

    assert (none["exists"], none["task_id"]) == (False, task.number)
    assert (first["feedback_data"], first["feedback_source"], first["task_id"]) == (data, "admin", task.number)
    assert admins["exists"] is True
    assert admins["feedback_data"] == data
    assert client.get(path).json()["feedback_data"] == {"feedback": {"say": {"rating": "very-low"}}}
    assert (simple["passed"], simple["source"]) == (True, "user")
    assert [item["passed"] for item in client.get(f"{path}/simple").json()["items"]] == [True]
    assert {item["feedback_source"] for item in listed["items"]} == {"admin", "user"}
    assert code(bad) == (422, "invalid_request")


def test_tools_files_and_feedback_are_their_tenants_alone(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", agents=AGENTS) as process, process.client() as mine:
        key = mine.post("/_holdfast/keys", json={"name": "theirs", "role": "admin", "tenant": "acme"}).json()["key"]
        with process.client(key) as theirs:
            tool = register(mine, LOOKUP).json()["tools"][0]["id"]
            upload = {"file_1": ("a.txt", b"abc", "text/plain")}
            reference = mine.post("/api/workflow/upload-run-input", files=upload).json()["reference"]
            task = start(mine, "clock")
            (call,) = task.paused()
            feedback = f"/api/agents/execution/{task.number}/feedback"
            data = {"feedback_data": {"feedback": {"clock": {"rating": "high"}}}}
            assert mine.post(feedback, json=data).status_code == 200
            foreign = [
                theirs.post(
                    f"/api/agent/clock/{task.number}/tool_calls/claim", json={"worker": "w", "call_ids": [call]}
                ),
                theirs.get(feedback),
                theirs.post(feedback, json=data),
                theirs.get(f"{feedback}/simple"),
                theirs.post(f"{feedback}/simple", json={"passed": True}),
            ]
            tools = theirs.get("/api/tools").json()
            retired = theirs.delete(f"/api/tools/{tool}")
            own = register(theirs, LOOKUP).json()["tools"][0]["id"]
            listed = theirs.get("/api/agents/execution/feedback").json()
            file = theirs.post("/api/workflow/execute/reader", json={"inputs": {"strings": {"1": reference}}})

            assert {code(reply) for reply in foreign} == {(404, "run_not_found")}
            assert (tools, listed) == ({"schemas": []}, {"items": []})
            assert code(retired) == (404, "tool_not_found")
            assert own != tool
            assert code(file) == (422, "file_not_found")
            assert [item["id"] for item in mine.get("/api/tools").json()["schemas"]] == [tool]
            assert task.status()["task_info"]["pending_tool_calls"][0]["claim"] is None


def test_many_that_register_one_tool_at_once_get_one_id(server: ServerProcess) -> None:
    def once(number: int) -> str:
        with server.client() as client:
            reply = register(client, {"name": "many", "description": str(number)})
            return str(reply.json()["tools"][0]["id"])

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(once, range(8)))
    with server.client() as client:
        shown = [item["id"] for item in client.get("/api/tools").json()["schemas"] if item["name"] == "many"]

    assert len(found) == 1
    assert shown == list(found)


def test_feedback_is_listed_by_run_before_and_after(client: httpx.Client) -> None:
    tasks = [start(client, "say", str(place)) for place in range(4)]
    for task in tasks:
        task.ended()
    for task in (tasks[0], tasks[1], tasks[3]):
        body = {"feedback_data": {"feedback": {"say": {"rating": "low"}}}}
        client.post(f"/api/agents/execution/{task.number}/feedback", json=body)

    def listed(**query: Any) -> list[int]:
        items = client.get("/api/agents/execution/feedback", params={"agent_id": "say", **query}).json()["items"]
        return [item["task_id"] for item in items]

    numbers = [task.number for task in tasks]
    assert listed(limit=2) == [numbers[3], numbers[1]]
    assert listed(before_task_id=numbers[3], limit=2) == [numbers[1], numbers[0]]
    assert listed(task_id=numbers[2]) == []
    assert listed(task_id=numbers[1]) == [numbers[1]]
    assert listed(nearest_runs_after_id_with_feedback=numbers[0], limit=1) == [numbers[1]]
    assert code(client.get("/api/agents/execution/feedback", params={"agent_id": "nobody"})) == (404, "agent_not_found")


@pytest.mark.one_store("what can be started does not depend on the store")
def test_what_can_be_started_is_listed_by_tag(client: httpx.Client) -> None:
    everything = {item["name"]: item for item in client.get("/api/workflow/list").json()}
    tagged = client.get("/api/workflow/list", params={"tag": "time"}).json()

    assert [item["name"] for item in tagged] == ["tagged"]
    assert (tagged[0]["tags"], tagged[0]["version"]) == (["time", "demo"], 3)
    assert everything["clock"] == {
        "workflow_id": CLOCK_ID,
        "name": "clock",
        "description": "Asks its caller for the time.",
        "tags": [],
        "version": 1,
        "client_tools": [],
    }


def test_a_form_is_repeated_under_its_key_and_a_file_that_is_too_large_is_refused(client: httpx.Client) -> None:
    path, key = "/api/workflow/execute/reader/with-files", {"Idempotency-Key": uuid.uuid4().hex}

    def send(content: bytes) -> httpx.Response:
        return client.post(path, files={"file_1": ("a.txt", content, "text/plain")}, headers=key)

    first, again, other = send(b"one"), send(b"one"), send(b"two")
    large = client.post("/api/workflow/upload-run-input", files={"file_1": b"x" * (32 * 1024 * 1024 + 1)})

    assert first.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert code(other) == (422, "idempotency_key_reused")
    assert code(large) == (413, "payload_too_large")
