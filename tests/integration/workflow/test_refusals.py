"""Every code of the Workflow API, provoked; none of them changes anything. And what is out of its scope."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.store.sqlite import SQLiteStore
from tests.integration.workflow.conftest import AGENTS
from tests.support.server import ServerProcess, running_server, start_server
from tests.support.tasks import Task, result, start, syncs

PAGE = Path(__file__).parents[3] / "docs" / "api" / "workflow.md"
SOURCE = Path(__file__).parents[3] / "src" / "holdfast"
# Told by other tests: of files, claims, thread, tools, webhooks, the stop.
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that executes nothing and queues one run."""
    settings = {"HOLDFAST_QUEUE_MAX": "1", "HOLDFAST_TENANT_RUNS_MAX": "1"}
    with running_server(tmp_path_factory.mktemp("narrow") / "data", agents=AGENTS, environment=settings) as process:
        yield process


def code(reply: httpx.Response) -> tuple[int, str]:
    body = reply.json()
    assert set(body) == {"detail"}
    assert body["detail"]["message"]
    return reply.status_code, body["detail"]["code"]


@pytest.mark.parametrize(
    ("method", "path", "given", "expected"),
    [
        ("POST", "/api/workflow/execute/clock", {"content": b"{"}, (400, "invalid_json")),
        ("POST", "/api/workflow/execute/clock", {"content": b'{"a":1,"a":2}'}, (400, "invalid_json")),
        ("POST", "/api/workflow/execute/clock", {"content": b'{"a":NaN}'}, (400, "invalid_json")),
        ("POST", "/api/workflow/execute/clock", {"content": b'{"a":"\\ud800"}'}, (400, "invalid_json")),
        ("POST", "/api/workflow/execute/clock", {"content": b"[" * 65 + b"]" * 65}, (400, "invalid_json")),
        (
            "POST",
            "/api/workflow/execute/clock",
            {"content": b"{}", "type": "text/plain"},
            (415, "unsupported_media_type"),
        ),
        ("POST", "/api/workflow/execute/clock", {"content": b" " * (16 * MEBIBYTE + 1)}, (413, "payload_too_large")),
        ("POST", "/api/tools/register", {"content": b" " * (MEBIBYTE + 1)}, (413, "payload_too_large")),
        ("POST", "/api/workflow/execute/nobody", {"content": b"{}"}, (404, "agent_not_found")),
        ("POST", "/api/workflow/execute/Clock", {"content": b"{}"}, (404, "agent_not_found")),
        ("POST", "/api/workflow/execute/clock", {"content": b"[]"}, (422, "invalid_request")),
        ("POST", "/api/workflow/execute/clock", {"content": b'{"environment":"dev"}'}, (422, "invalid_request")),
        ("POST", "/api/workflow/execute/clock", {"content": b'{"metadata":[]}'}, (422, "invalid_request")),
        (
            "POST",
            "/api/workflow/execute/clock",
            {"content": b'{"inputs":{"strings":{"a b":1}}}'},
            (422, "invalid_request"),
        ),
        ("GET", "/api/workflow/run/0", {}, (422, "invalid_task_id")),
        ("GET", "/api/workflow/run/x", {}, (422, "invalid_task_id")),
        ("GET", f"/api/workflow/run/{2**53}", {}, (422, "invalid_task_id")),
        ("GET", f"/api/workflow/run/{2**53 - 1}", {}, (404, "run_not_found")),
        ("GET", "/api/agent/clock/status/1?wait=61", {}, (422, "invalid_request")),
        ("GET", "/api/agent/clock/runs?status=odd", {}, (422, "invalid_request")),
        ("GET", "/api/agent/clock/runs?surplus=1", {}, (422, "invalid_request")),
        ("GET", "/api/agents/execution/1/nothing", {}, (404, "route_not_found")),
        *(
            ("GET", f"/api/{path}", {}, (404, "route_not_found"))
            for path in ("workflow/graphs", "models", "validators", "graders", "workflow/traffic-split", "agents/tests")
        ),
    ],
)
@pytest.mark.one_store("nothing of this comes to the store")
def test_codes(client: httpx.Client, method: str, path: str, given: dict[str, Any], expected: tuple[int, str]) -> None:
    start(client, "say", "x").ended()
    before = client.get("/api/agent/clock/runs").content
    headers = {"Content-Type": given.get("type", "application/json")} if "content" in given else {}

    reply = client.request(method, path, content=given.get("content"), headers=headers)

    assert code(reply) == expected
    assert client.get("/api/agent/clock/runs").content == before


@pytest.mark.one_store("keys are looked at before the store is")
def test_keys_and_roles(server: ServerProcess, client: httpx.Client) -> None:
    name = uuid.uuid4().hex
    reader = client.post("/_holdfast/keys", json={"name": name, "role": "reader"}).json()["key"]
    with server.client(None) as nobody, server.client(reader) as low:
        assert code(nobody.get("/api/tools")) == (401, "unauthorized")
        assert code(nobody.get("/api/nowhere")) == (401, "unauthorized")
        assert nobody.get(f"/api/tools?api_key={reader}").status_code == 401
        assert nobody.get("/api/tools", headers={"Authorization": f"Bearer {reader}"}).status_code == 200
        assert code(low.post("/api/workflow/execute/say", json={})) == (403, "forbidden")
        assert code(low.post("/api/tools/register", json={"tools": []})) == (403, "forbidden")
        assert low.get("/api/tools").status_code == 200


@pytest.mark.one_store("a run of another agent is told apart by its row")
def test_a_run_is_found_under_its_own_agent_alone(client: httpx.Client) -> None:
    task = start(client, "clock")
    (call,) = task.paused()
    say = client.get(f"/api/workflow/run/{start(client, 'say', 'x').number}").json()["agent_id"]

    for other in ("say", say, "nobody"):
        assert code(client.get(f"/api/agent/{other}/status/{task.number}")) == (404, "run_not_found")
        assert code(client.get(f"/api/agent/{other}/status/{task.number}/events")) == (404, "run_not_found")
        path = f"/api/agent/{other}/{task.number}/tool_responses"
        assert code(client.post(path, json={"results": [result(call)]})) == (404, "run_not_found")
    assert task.status()["status"] == "awaiting_tool_calls"


def test_a_full_queue_says_when_to_come_back(narrow: ServerProcess, tmp_path: Path) -> None:
    with narrow.client() as client:
        start(client, "gated", str(tmp_path / "never"))
        start(client, "say", "queued")
        full = client.post("/api/workflow/execute/say", json={})
        number = client.get("/api/agent/say/runs").json()["runs"][0]["task_id"]
        pending = client.get(f"/api/agent/say/status/{number}").json()
        with Task(client, "say", number, "").stream() as stream:
            first = next(stream).data["task_status"]
        client.post(f"/api/workflow/runs/{number}/schedule-cancel")

    assert code(full) == (503, "overloaded")
    assert int(full.headers["retry-after"]) >= 1
    assert (pending["status"], pending["seq"]) == ("pending", 0)
    assert first == pending


def test_what_is_left_of_a_pruned_run_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start_server(data, agents=AGENTS)
    with first.client() as client:
        task = start(client, "steps", "1")
        task.post(result(task.paused()[0], "x"))
        row = task.ended()
    first.terminate()
    first.wait()
    asyncio.run(prune(data))
    with running_server(data, agents=AGENTS) as second, second.client() as client:
        task.client = client
        with task.stream() as stream:
            (frame,) = syncs(stream)
        after = client.get(f"/api/workflow/run/{task.number}").json()

    assert (frame["gap"], frame["gap_reason"]) == (True, "expired")
    assert frame["task_status"]["completed"] is True
    assert (after["status"], after["result"], after["run_id"]) == (row["status"], row["result"], row["run_id"])


async def prune(directory: Path) -> None:
    store = SQLiteStore(directory)
    await store.open()
    await store.prune(ended_before=2**62, rows_before=0, now=0)
    await store.close()


def test_the_page_has_every_code_and_no_other() -> None:
    table = PAGE.read_text().split("## Errors")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| [0-9]", line)]
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} - {"errors"}
    source = (SOURCE / "api" / "workflow" / "refusals.py").read_text()
    mapped = set(re.findall(r", [45][0-9]{2}, \"([a-z_]+)\"\)", source))
    raised = {
        name
        for file in (SOURCE / "api" / "workflow").glob("*.py")
        for name in re.findall(r"WorkflowRefusal\(\s*\"([a-z_]+)\"", file.read_text())
    }
    chosen = {"tool_responses_already_submitted", "claim_lost"}

    assert documented == mapped | raised | chosen
