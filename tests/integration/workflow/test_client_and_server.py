"""The client of this package, and the documented code as its users have it, against the real server."""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.client.backoff import Backoff
from holdfast.client.workflow import (
    FileLedger,
    MemoryLedger,
    WebhookReceiver,
    WorkflowClient,
    WorkflowTimeout,
    at_most_once,
)
from tests.integration.workflow.conftest import AGENTS
from tests.support.clients import client_of
from tests.support.proxy import Proxy
from tests.support.server import ServerProcess, start_server
from tests.support.tasks import Task, start

ROOT = Path(__file__).parents[3]
DOCUMENTED = ROOT.parent / "shared" / "clients" / "workflow_local_tools.py"

# The same calls, so that the suite is complete without the folder of documented clients.
OURS = """
async def get_current_time(args: dict, agent_id: str, task_id: int) -> str:
    from datetime import datetime, timezone
    return datetime.now(timezone.utc).isoformat()

client.set_tools({"get_current_time": (None, get_current_time)})

final = await client.run_agent(
    agent_id="YOUR_AGENT_UUID",
    string_inputs={"1": "What time is it?"},
    environment="playground",
)
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OURS, id="ours"),
        pytest.param(
            DOCUMENTED.read_text() if DOCUMENTED.exists() else "",
            id="documented",
            marks=pytest.mark.skipif(
                not DOCUMENTED.exists(), reason="the documented clients are not beside this clone"
            ),
        ),
    ],
)
async def test_the_documented_code_as_it_stands(server: ServerProcess, text: str) -> None:
    code = compile(text, "documented", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with client_of(server) as client:
        names: dict[str, Any] = {"client": client}
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
        final = names["final"]
        records = [node for node in final.executed_node_records if node.tool_call_responses]

    assert final.status == "completed"
    assert final.result.startswith("It is 20")
    assert [len(node.tool_call_responses) for node in records] == [1]


async def test_every_await_of_a_run_ends(server: ServerProcess, tmp_path: Path) -> None:
    async with client_of(server) as client:
        failed = await client.run_agent("broken")
        run = await client.execute_agent("gated", {"1": str(tmp_path / "never")})
        waiting = asyncio.create_task(run.get_response())
        await run.cancel()
        cancelled = await waiting

    assert (failed.status, failed.failure_code) == ("failed", "agent_execution_error")
    assert cancelled.status == "cancelled"


async def test_a_run_of_three_rounds_has_each_handler_once_behind_a_proxy_that_cuts(server: ServerProcess) -> None:
    calls: list[Any] = []

    async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(args["round"])
        return f"r{args['round']}"

    async with Proxy("127.0.0.1", server.port) as proxy, WorkflowClient(f"http://127.0.0.1:{proxy.port}") as client:
        client.set_api_key("test-key")
        client._http.backoff = lambda: Backoff(0.01, 0.1)
        client.set_tools({f"find_{index}": find for index in range(3)})
        run = await client.execute_agent("rounds", {"1": "3", "2": "3"})
        waiting = asyncio.create_task(run.get_response())
        while not waiting.done():
            await asyncio.sleep(0.03)  # that is what the proxy does, not what is waited for
            proxy.cut()
        final = await waiting

    assert final.result == json.dumps([[f"r{index}"] * 3 for index in range(3)], separators=(",", ":"))
    assert sorted(calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_eight_handlers_async_and_sync_work_at_the_same_time(server: ServerProcess) -> None:
    together, all_in = threading.Barrier(4, timeout=20), threading.Event()
    at_work = 0

    def blocking(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        # The event loop goes on meanwhile: without it, the others never come in.
        together.wait()
        assert all_in.wait(20)
        return "sync"

    async def waiting(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        nonlocal at_work
        at_work += 1
        if at_work == 4:
            all_in.set()
        assert await asyncio.to_thread(all_in.wait, 20)
        return "async"

    async with client_of(server) as client:
        client.set_tools({f"find_{index}": blocking if index % 2 else waiting for index in range(8)})
        final = await client.run_agent("rounds", {"1": "1", "2": "8"})

    assert final.result == '[["async","sync","async","sync","async","sync","async","sync"]]'


async def test_an_await_that_times_out_in_a_handler_has_its_output_at_the_next(server: ServerProcess) -> None:
    release = asyncio.Event()

    async def slow(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        await release.wait()
        return "late"

    async with client_of(server) as client:
        client.set_tools({"get_current_time": slow})
        run = await client.execute_agent("clock", response_timeout=0.2)
        with pytest.raises(WorkflowTimeout) as caught:
            await run
        release.set()
        final = await run.get_response(timeout=20)

    assert caught.value.task_id == run.task_id
    assert final.result == "It is late."


async def test_of_two_workers_with_claims_each_call_is_executed_once(server: ServerProcess) -> None:
    calls: list[str] = []

    def handler(name: str) -> Any:
        async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
            calls.append(name)
            return name

        return find

    async with client_of(server, claim=True) as first, client_of(server, claim=True) as second:
        with server.client() as http:
            task = start(http, "rounds", "2", "4")
        runs = []
        for client, name in ((first, "first"), (second, "second")):
            tools = {f"find_{index}": handler(name) for index in range(4)}
            runs.append(client.attach("rounds", task.number, tools=tools, response_timeout=30).get_response())
        results = await asyncio.gather(*runs)

    assert {final.status for final in results} == {"completed"}
    assert len(calls) == 8


def calls_at_work() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("holdfast call")]


async def test_who_waits_for_another_ones_claim_stops_when_the_run_ends(server: ServerProcess) -> None:
    refused = asyncio.Event()

    async def sleep(seconds: float) -> None:
        refused.set()
        await asyncio.sleep(seconds)

    with server.client() as http:
        task = start(http, "clock")
        (call,) = task.paused()
        claim = {"worker": "another", "call_ids": [call], "lease_seconds": 3600}
        assert http.post(f"/api/agent/clock/{task.number}/tool_calls/claim", json=claim).json()["claimed"]
        async with client_of(server, claim=True) as client:
            client._http.sleep = sleep
            run = client.attach("clock", task.number, tools={"get_current_time": lambda **_: "noon"})
            waiting = asyncio.create_task(run.get_response())
            await asyncio.wait_for(refused.wait(), 20)
            at_work = calls_at_work()
            await run.cancel()
            final = await waiting
            await asyncio.sleep(0)

    assert final.status == "cancelled"
    assert at_work == [f"holdfast call {call}"]
    assert calls_at_work() == []


async def test_a_run_that_is_over_leaves_no_post_behind(server: ServerProcess) -> None:
    """The end comes over the stream, and the reply to the last post not at all."""
    async with client_of(server) as client:
        request = client._http.request

        async def requesting(method: str, path: str, **given: Any) -> Any:
            answer = await request(method, path, **given)
            if path.endswith("/tool_responses"):
                await asyncio.Event().wait()
            return answer

        client._http.request = requesting  # type: ignore[method-assign]
        client.set_tools({"get_current_time": lambda **_: "noon"})
        final = await client.run_agent("clock")

        assert final.result == "It is noon."
        assert calls_at_work() == []


async def test_two_workers_without_claims_have_one_answer_for_each_call(
    server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        return str(time.monotonic_ns())

    tools = {f"find_{index}": find for index in range(4)}
    async with client_of(server) as first, client_of(server) as second:
        with server.client() as http:
            task = start(http, "rounds", "2", "4")
        waits = [client.attach("rounds", task.number, tools=tools, response_timeout=30) for client in (first, second)]
        one, two = await asyncio.gather(*(run.get_response() for run in waits))

    assert one.status == "completed"
    assert one.result == two.result
    assert [record for record in caplog.records if record.name == "holdfast.client"] == []


async def test_the_server_dies_between_handler_and_post(tmp_path: Path, own_store: dict[str, str]) -> None:
    data, calls = tmp_path / "data", []
    first = start_server(data, agents=AGENTS, environment=own_store)
    environment = {**own_store, "HOLDFAST_PORT": str(first.port)}

    async def look(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(task_id)
        await asyncio.to_thread(first.kill)
        restarted.append(await asyncio.to_thread(start_server, data, agents=AGENTS, environment=environment))
        return "noon"

    restarted: list[ServerProcess] = []
    try:
        async with client_of(first) as client:
            client.set_tools({"get_current_time": look})
            final = await client.run_agent("clock")
    finally:
        for server in restarted:
            server.kill()

    assert (final.status, final.result) == ("completed", "It is noon.")
    assert len(calls) == 1


def worker(server: ServerProcess, task: Task, folder: Path, point: str, mark: str) -> list[str]:
    """The command that runs a client process."""
    arguments = [server.url, task.agent, str(task.number), str(folder), point, mark]
    return [sys.executable, "-m", "tests.support.workflow_worker", *arguments]


@pytest.mark.one_store("what the client does does not depend on the server's store")
@pytest.mark.parametrize(
    ("point", "mark", "effects", "expected"),
    [
        ("before handler", "plain", ["begun", "finished"], "completed It is noon."),
        ("in handler", "plain", ["begun", "begun", "finished"], "completed It is noon."),
        ("before post", "plain", ["begun", "finished"], "completed It is noon."),
        ("after post", "plain", ["begun", "finished"], "completed It is noon."),
        ("in handler", "at_most_once", ["begun"], "failed None"),
        ("before post", "at_most_once", ["begun", "finished"], "completed It is noon."),
    ],
)
def test_a_client_process_that_dies_leaves_nothing_undone_and_nothing_done_twice(
    server: ServerProcess, tmp_path: Path, point: str, mark: str, effects: list[str], expected: str
) -> None:
    with server.client() as client:
        task = start(client, "clock")
        task.paused()
        dying = subprocess.Popen(worker(server, task, tmp_path, point, mark), cwd=ROOT)
        deadline = time.monotonic() + 30
        while not (tmp_path / "reached").exists():
            assert dying.poll() is None, "it ended before it came to the point"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        dying.kill()
        dying.wait()
        command = worker(server, task, tmp_path, "none", mark)
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    assert (tmp_path / "effects").read_text().split() == effects
    assert output.strip() == expected


async def test_a_handler_that_may_run_once_is_answered_as_unknown_after_a_death(server: ServerProcess) -> None:
    """In one process: the ledger knows a start whose owner gave it back."""

    @at_most_once
    async def look(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        raise AssertionError("it ran again")

    ledger = MemoryLedger()
    with server.client() as http:
        task = start(http, "sync_clock")
        (call,) = task.paused()
        await ledger.begin((task.number, call))
        await ledger.abandon((task.number, call))
        async with client_of(server, ledger=ledger) as client:
            final = await client.attach("sync_clock", task.number, tools={"get_current_time": look})

    assert "outcome_unknown" in str(final.result)


# Webhooks, without their sender: the receiver is given what the server would send.


def delivery(secret: str, body: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    from standardwebhooks import Webhook

    raw = json.dumps(body).encode()
    moment = time.time()
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(moment, UTC)
    signature = Webhook(secret).sign(body["event_id"], when, raw.decode())
    headers = {
        "webhook-id": body["event_id"],
        "webhook-timestamp": str(int(moment)),
        "webhook-signature": signature,
    }
    return raw, headers


SECRET = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="


def pause_of(task: Task) -> dict[str, Any]:
    agent_id = task.status()["task_info"]["agent_id"]
    event = {"type": "run.awaiting_tool_calls", "event_id": f"msg_{task.number:032x}", "seq": 3}
    return {**event, "task_id": task.number, "agent_id": agent_id, "status": "awaiting_tool_calls"}


async def test_a_delivery_that_comes_twice_and_beside_a_stream_has_each_call_once(server: ServerProcess) -> None:
    calls: list[int] = []

    async def look(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(task_id)
        await asyncio.sleep(0)
        return "noon"

    with server.client() as http:
        task = start(http, "clock")
        task.paused()
        async with client_of(server) as client:
            client.set_tools({"get_current_time": look})
            receiver = WebhookReceiver(client, SECRET)
            raw, headers = delivery(SECRET, pause_of(task))
            beside = client.attach("clock", task.number)
            answers = [await receiver.handle(raw, headers) for _ in range(2)]
            final = await beside
            await receiver.settle()
            late = await receiver.handle(raw, headers)

    assert [status for status, _ in [*answers, late]] == [200, 200, 200]
    assert final.result == "It is noon."
    assert calls == [task.number]


async def test_a_receiver_refuses_what_is_not_the_servers(server: ServerProcess) -> None:
    async with client_of(server) as client:
        receiver = WebhookReceiver(client, [SECRET])
        raw, headers = delivery(SECRET, {"event_id": "msg_1", "type": "run.completed"})

        flipped = await receiver.handle(raw.replace(b"completed", b"complETED"), headers)
        old = await receiver.handle(raw, {**headers, "webhook-timestamp": str(int(time.time()) - 301)})
        other = await WebhookReceiver(client, ["whsec_" + "A" * 44]).handle(raw, headers)

    assert [status for status, _ in (flipped, old, other)] == [401, 401, 401]


async def test_what_a_receiver_left_when_it_died_is_done_by_the_next(server: ServerProcess, tmp_path: Path) -> None:
    """The event was stored and answered with 200; then the process was gone. Paused runs are found as well."""
    calls: list[int] = []
    ended: list[str] = []

    async def look(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(task_id)
        return "noon"

    with server.client() as http:
        told, untold = start(http, "clock"), start(http, "clock")
        told.paused(), untold.paused()
        raw, headers = delivery(SECRET, pause_of(told))
        first = FileLedger(tmp_path / "ledger")
        assert await first.add_event(headers["webhook-id"], raw)
        await first.aclose()
        async with client_of(server, ledger=FileLedger(tmp_path / "ledger")) as client:
            client.set_tools({"get_current_time": look})
            receiver = WebhookReceiver(client, SECRET, agent_handlers={"clock": lambda run: ended.append(run.result)})
            await receiver.reconcile(["clock"])
            row = await asyncio.to_thread(told.ended)
            over = {**row, "type": "run.completed", "event_id": "msg_over"}
            status, _ = await receiver.handle(*delivery(SECRET, over))
            await receiver.settle()
            known = await receiver.handle(raw, headers)
        assert await asyncio.to_thread(lambda: untold.ended()["result"]) == "It is noon."

    assert (status, known[0]) == (200, 200)
    assert {told.number, untold.number} <= set(calls)
    assert len(calls) == len(set(calls))
    assert ended == ["It is noon."]


async def test_the_namespaces(server: ServerProcess, client: httpx.Client) -> None:
    definition = {"name": "peek", "namespace": "files", "schema_data": {"type": "object"}}
    async with client_of(server) as made:
        registered = await made.tools.register([definition])
        listed = await made.tools.list(namespace="files")
        run = await made.run_agent("say", {"1": "x"})
        await made.execution_feedback.submit(run.task_id, {"say": {"rating": "high"}}, "user")
        feedback = await made.agent_feedback.get(run.task_id)
        workflows = await made.list_workflows()
        runs = await made.get_agent_runs("say")
        uploaded = await made.upload_run_input_file(b"abc", "a.txt")
        files = await made.execute_agent_with_files("reader", b"12", b"345")
        await made.tools.delete(registered[0].id)

    assert [tool.name for tool in listed] == ["peek"]
    assert feedback.exists is True
    assert {"clock", "say"} <= {item.name for item in workflows}
    assert runs.runs[0].task_id == run.task_id
    assert uploaded.reference.startswith("file_")
    assert Task(client, "reader", files.task_id, "").ended()["status"] == "completed"
