"""What else the client does against the real server: cancelling, the webhook variant, and what it has under names."""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.workflow import Call, Record, WorkflowClient, WorkflowHTTPError, WorkflowRun
from tests.support.clients import client_of
from tests.support.server import ServerProcess
from tests.support.tasks import start
from tests.support.until import until

LEAN = "import sys, holdfast.client.workflow; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_importing_the_client_loads_neither_the_server_nor_a_driver() -> None:
    output = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, check=True).stdout

    assert "holdfast" in output.split()
    assert (
        set(output.split()) & {"apsw", "asyncpg", "httpx2", "jsonschema", "litestar", "pydantic_ai", "uvicorn"} == set()
    )


async def paused(client: WorkflowClient, task_id: int) -> bool:
    return (await client.agent_execution_records.get(task_id)).status == "awaiting_tool_calls"


async def executing(run: WorkflowRun) -> bool:
    return (await run.status()).status == "running"


async def test_cancelling_a_paused_run_is_done_at_once(server: ServerProcess) -> None:
    with server.client() as http:
        task = start(http, "clock")
        (call,) = task.paused()
        async with client_of(server) as client:
            run = client.attach("clock", task.number)
            status = await run.cancel("enough")
            final = await run
            with pytest.raises(WorkflowHTTPError) as late:
                await client.send_tool_responses("clock", task.number, [{"call_id": call, "output": "noon"}])

    assert (status, final.status, final.cancel_reason) == ("cancelled", "cancelled", "enough")
    assert (late.value.status_code, late.value.code) == (409, "run_not_awaiting_tools")


async def test_cancelling_in_a_handler_cancels_it_and_posts_nothing(server: ServerProcess) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    calls: list[Call] = []

    async def look(args: dict[str, Any], agent_id: str, task_id: int, call: Call) -> str:
        calls.append(call)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    async with client_of(server) as client:
        client.set_tools({"get_current_time": look})
        run = await client.execute_agent("clock")
        waiting = asyncio.create_task(run.get_response())
        await begun.wait()
        status = await run.cancel()
        final = await waiting
        await asyncio.wait_for(ended.wait(), 20)

    assert (status, final.status) == ("cancelled", "cancelled")
    assert calls[0].cancelled
    assert final.executed_node_records[-1].tool_call_responses == []


async def test_cancelling_a_run_that_executes_reaches_it(server: ServerProcess, tmp_path: Path) -> None:
    async with client_of(server) as client:
        run = await client.execute_agent("gated", {"1": str(tmp_path / "never")})
        await until(lambda: executing(run), seconds=30)
        answer = await client.schedule_run_cancel(run.task_id)
        again = await client.schedule_run_cancel(run.task_id)
        final = await run

    # The answer waits for the run's end, up to five seconds.
    assert (answer.success, answer.status) == (True, "cancelled")
    assert again == answer
    assert final.status == "cancelled"


async def test_outputs_made_of_a_row_are_posted_by_hand(server: ServerProcess) -> None:
    calls: list[int] = []
    ended: list[str] = []

    def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(args["round"])
        return "found"

    tools = {f"crm.find_{index}": find for index in range(2)}
    with server.client() as http:
        async with client_of(server) as client:
            started = await client.start_agent_run("rounds", {"1": "1", "2": "2"})
            await until(lambda: paused(client, started.task_id), seconds=30)
            row = await client.agent_execution_records.get(started.task_id)
            outputs = [await client.process_webhook_tools(row, tools) for _ in range(2)]
            stored = await client.send_tool_responses("rounds", started.task_id, outputs[0])
            repeated = await client.send_tool_responses("rounds", started.task_id, outputs[1])
            final = await client.attach("rounds", started.task_id)
            await client.process_webhook_agent_completed(final, {"rounds": lambda run: ended.append(run.result)})
            page = await client.agent_execution_records.list("rounds", limit=1)
        assert http.get(f"/api/workflow/run/{started.task_id}").json() == {
            **final.to_dict(),
            "executed_node_records": [],
        }

    assert calls == [0, 0]
    assert [result.state for result in stored.results] == ["accepted", "accepted"]
    # The same body under the same key: the first reply again.
    assert repeated == stored
    assert ended == ['[["found","found"]]']
    assert page.runs[0].task_id == started.task_id


async def deliveries_of(client: WorkflowClient, endpoint_id: str, task_id: int) -> Record | None:
    page = await client.webhooks.deliveries(endpoint_id, task_id=task_id)
    return page if page.deliveries else None


async def test_endpoints_of_webhooks_through_the_client(server: ServerProcess) -> None:
    async with client_of(server) as client:
        made = await client.webhooks.create("http://127.0.0.1:1/hooks", events=["run.completed"], agents=["say"])
        shown = await client.webhooks.get(made.id)
        changed = await client.webhooks.update(made.id, description="ours")
        rotated = await client.webhooks.rotate(made.id, 0)
        tested = await client.webhooks.test(made.id)
        run = await client.run_agent("say", {"1": "x"})
        page = await until(lambda: deliveries_of(client, made.id, run.task_id), seconds=30)
        listed = [endpoint.id for endpoint in await client.webhooks.list()]
        await client.webhooks.delete(made.id)
        with pytest.raises(WorkflowHTTPError) as gone:
            await client.webhooks.get(made.id)

    assert made.secret.startswith("whsec_")
    assert "secret" not in shown
    assert changed.description == "ours"
    assert rotated.secret != made.secret
    assert tested.attempts[0].error == "connect"
    assert [delivery.type for delivery in page.deliveries] == ["run.completed"]
    assert made.id in listed
    assert gone.value.code == "endpoint_not_found"
