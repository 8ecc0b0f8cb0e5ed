"""Calls that a run makes of its caller, at their ends: handlers that exit, claims and deliveries that are cancelled."""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.
# ruff: noqa: ARG005

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from holdfast.client.workflow import MemoryLedger, SyncWorkflowClient, WebhookReceiver, WorkflowClient
from holdfast.client.workflow.claims import Claims
from holdfast.client.workflow.http import Http
from holdfast.testing import CallTool, FakeServer, Return, scripted
from tests.support.fake_workflow import AGENT_ID, fake_server
from tests.unit.test_client_receiver import ENDED, SECRET, signed

SECONDS = 30


def exits(args: dict[str, Any], agent_id: str, task_id: int) -> None:
    argparse.ArgumentParser().parse_args(["--no-such-option"])


async def exits_async(args: dict[str, Any], agent_id: str, task_id: int) -> None:
    exits(args, agent_id, task_id)


@pytest.mark.parametrize("handler", [exits, exits_async])
def test_a_handler_that_exits_ends_its_call_and_not_the_process(handler: Callable[..., Any]) -> None:
    """Code of a command line does so. It ended an async program, and a sync client waited for ever."""
    with fake_server() as fake, SyncWorkflowClient(fake.url) as client, ThreadPoolExecutor() as threads:
        client.set_tools({"get_current_time": handler})

        run = threads.submit(client.run_agent, "clock", {"1": "?"}, response_timeout=SECONDS).result(SECONDS)

        assert (run.status, run.result) == ("completed", "tool get_current_time failed (execution)")


def test_a_sync_handle_learns_what_the_async_one_learns() -> None:
    with fake_server() as fake, SyncWorkflowClient(fake.url) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})
        run = client.attach("clock", client.execute_agent_polling("clock").task_id)
        before = run.run_id, run.agent_id

        run.get_response()

        assert (before, (run.run_id, run.agent_id)) == ((None, "clock"), ("run-1", AGENT_ID))


async def test_a_workflow_client_talks_to_a_fake_server() -> None:
    """As all others do, by its transport."""
    with FakeServer(scripted("clock", CallTool("get_current_time"), Return("done"))) as server:
        async with WorkflowClient(server.url, transport=server.transport()) as client:
            client.set_api_key(server.key)
            client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})

            run = await client.run_agent("clock")

    assert (run.status, run.result) == ("completed", "done")


async def test_who_is_cancelled_while_a_renewal_ends_is_cancelled() -> None:
    """The renewal is cancelled too, at that place: one must not be taken for the other, or closing the client goes unheard."""
    renewing, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow:
        async def request(self, *_: Any, **__: Any) -> None:
            renewing.set()
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await may_end.wait()

    claims = Claims(cast(Http, Slow()), "/api/agent/a/1", "call", "worker", 0.003)
    went_on = False

    async def work() -> None:
        nonlocal went_on
        async with claims.renewed(lambda: None):
            await renewing.wait()
        went_on = True

    working = asyncio.create_task(work())
    await ending.wait()
    working.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await working
    assert not went_on


class SlowLedger(MemoryLedger):
    """One that stores an event, and is slow to say so."""

    def __init__(self) -> None:
        super().__init__()
        self.stored, self.may_say = asyncio.Event(), asyncio.Event()

    async def add_event(self, event_id: str, body: bytes) -> bool:
        is_new = await super().add_event(event_id, body)
        self.stored.set()
        await self.may_say.wait()
        return is_new


async def test_a_delivery_whose_sender_left_is_worked_on_all_the_same() -> None:
    """The framework cancels the request. The next delivery is told that the event is known: nobody else would do it."""
    ledger, ended = SlowLedger(), list[int]()
    client = WorkflowClient("http://127.0.0.1:1", ledger=ledger)
    receiver = WebhookReceiver(client, SECRET, agent_handlers={"clock": lambda result: ended.append(result.task_id)})
    body = json.dumps(ENDED).encode()
    delivery = asyncio.create_task(receiver.handle(body, signed(body)))
    await ledger.stored.wait()

    delivery.cancel()
    ledger.may_say.set()
    status, _ = await receiver.handle(body, signed(body))
    await receiver.settle()

    assert delivery.cancelled()
    assert (status, ended) == (200, [1])
    await client.aclose()


async def test_a_call_of_a_kind_that_is_not_known_is_left_and_the_others_are_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newer server may ask for what this version cannot read."""
    client = WorkflowClient("http://127.0.0.1:1")
    client.set_tools({"clock": lambda args, agent_id, task_id: "noon"})
    calls = client._calls({"agent_id": "a", "task_id": 1}, client._tools)
    known = {"call_id": "call_1", "name": "clock", "arguments": "{}"}
    newer: list[Any] = [
        {"call_id": "call_2", "kind": "browser"},
        {"call_id": "call_3", "name": "x", "expires_at": 5},
        "x",
    ]

    for _ in range(2):
        calls.show([*newer, known])

    assert (calls.unhandled, list(calls._running)) == (newer, ["call_1"])
    assert len(caplog.records) == 3, "each is told of once"
    await calls.close()
    await client.aclose()
