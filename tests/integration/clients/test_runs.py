"""The client of the Runtime API, async and sync, against a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import AsyncRunsClient
from holdfast.client.errors import (
    AgentFailed,
    Conflict,
    DeadlineExceeded,
    IdempotencyKeyReused,
    InterruptResolved,
    NotFound,
    RunCancelled,
    Unauthenticated,
    ValidationFailed,
)
from holdfast.client.runtime import Cancelled, Complete, Interrupt, Started, Token
from holdfast.client.runtime import InterruptResolved as Resolved


async def test_a_stream_has_typed_events_up_to_the_last_one(runs: Any) -> None:
    async with runs.stream({"n": 3}, agent="count") as stream:
        events = [event async for event in stream]

    assert [type(event) for event in events] == [Started, Token, Token, Token, Complete]
    assert "".join(event.content for event in events[1:4]) == "0 1 2 "
    assert (events[-1].output, stream.cursor) == ({"n": 3}, "4")
    assert await runs.stream({"n": 1}, agent="count").result() == {"n": 1}


async def test_events_are_read_from_a_cursor_on_filtered_and_compact(runs: Any) -> None:
    stream = runs.stream({"n": 5}, agent="count")
    await stream.result()

    assert [event.sequence async for event in runs.events(stream.run_id, after=3)] == [4, 5, 6]
    assert [event.type async for event in runs.events(stream.run_id, preset="minimal")] == ["started", "complete"]
    compact = [event async for event in runs.events(stream.run_id, compact=True)]
    assert [(event.type, event.get("first_sequence")) for event in compact[1:2]] == [("token", 1)]
    assert [event async for event in runs.events(stream.run_id, after=stream.cursor)] == []


async def test_invoke_gives_the_output_or_says_that_the_run_waits(runs: Any) -> None:
    done = await runs.invoke({"query": "x"}, agent="tutor")
    assert (done.output["answer"], done.metadata.agent, done.is_waiting) == ("Quan", "tutor", False)

    waits = await runs.invoke({}, agent="ask")
    assert (waits.is_waiting, waits.output, waits.interrupts[0].question) == (True, None, "Pay?")
    await runs.cancel(waits.run_id)


async def test_a_question_is_answered_once(runs: Any) -> None:
    stream = runs.stream({"choices": ["yes", "no"]}, agent="ask")
    async for event in stream:
        if isinstance(event, Interrupt):
            (asked,) = await runs.interrupts(stream.run_id)
            with pytest.raises(ValidationFailed):
                await runs.answer(stream.run_id, asked.interrupt_id, "perhaps")
            told = await runs.answer(stream.run_id, event.interrupt_id, "yes")
            assert told == await runs.answer(stream.run_id, event.interrupt_id, "yes")
            with pytest.raises(InterruptResolved):
                await runs.answer(stream.run_id, event.interrupt_id, "no")
        elif isinstance(event, Resolved):
            assert event.answer == "yes"

    assert (await runs.get(stream.run_id)).output == {"answer": "yes"}


async def test_a_run_that_fails_raises_by_its_code(runs: Any) -> None:
    with pytest.raises(AgentFailed, match="no such topic") as invoked:
        await runs.invoke({}, agent="fail")
    with pytest.raises(AgentFailed, match="no such topic") as streamed:
        await runs.stream({}, agent="fail").result()

    assert invoked.value.run_id
    assert streamed.value.run_id
    assert (await runs.get(invoked.value.run_id)).error.code == "AGENT_EXECUTION_ERROR"


async def test_leaving_cancels_nothing_and_cancelling_is_final(runs: Any) -> None:
    async with runs.stream({}, agent="stuck") as stream:
        async for event in stream:
            if isinstance(event, Token):
                break
    with pytest.raises(DeadlineExceeded):
        await runs.wait(stream.run_id, timeout=0.05)
    assert (await runs.get(stream.run_id)).status == "running"

    receipt = await runs.cancel(stream.run_id, reason="left")

    assert (receipt.status, receipt.reason) == ("cancelled", "left")
    events = [event async for event in runs.events(stream.run_id)]
    assert isinstance(events[-1], Cancelled)
    with pytest.raises(RunCancelled, match="left"):
        await runs.events(stream.run_id).result()


async def test_a_deadline_ends_a_stream_that_stands_still(runs: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        await runs.stream({}, agent="stuck", timeout=0.3).result()


async def test_a_start_under_one_key_is_one_run(runs: Any) -> None:
    key = f"key of {id(runs)}"
    first = await runs.start({"n": 1}, agent="count", idempotency_key=key)

    assert await runs.start({"n": 1}, agent="count", idempotency_key=key) == first
    with pytest.raises(IdempotencyKeyReused):
        await runs.start({"n": 2}, agent="count", idempotency_key=key)
    assert (await runs.wait(first.run_id, timeout=60)).status == "completed"
    with pytest.raises(Conflict):
        await runs.start({"n": 1}, agent="count", run_id=first.run_id)


async def test_a_run_waited_for_comes_when_it_is_over(runs: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    started = await runs.start({"gate": str(gate)}, agent="gated")
    waiting = asyncio.ensure_future(runs.wait(started.run_id))
    asked = [event async for event in _until_token(runs, started.run_id)]
    gate.touch()

    run = await waiting

    assert asked
    assert (run.status, run.is_finished, run.input) == ("completed", True, {"gate": str(gate)})


async def _until_token(runs: Any, run_id: str) -> Any:
    async for event in runs.events(run_id):
        yield event
        if isinstance(event, Token):
            return


async def test_runs_are_listed_page_by_page(runs: Any) -> None:
    thread = f"thread-{id(runs)}"
    for _ in range(3):
        await runs.invoke({}, agent="tutor", thread_id=thread)

    first = await runs.list(thread_id=thread, limit=2)
    second = await runs.list(thread_id=thread, limit=2, cursor=first.next_cursor)

    assert ([len(first.runs), len(second.runs)], second.next_cursor) == ([2, 1], None)
    assert {run.status for run in [*first.runs, *second.runs]} == {"completed"}


async def test_a_journal_is_exported_verified_and_forked(runs: Any) -> None:
    done = await runs.invoke({}, agent="step")

    lines = [json.loads(line) for line in (await runs.export(done.run_id)).splitlines()]
    assert (lines[0]["kind"], lines[-1]["status"]) == ("journal", "completed")
    assert (await runs.verify(done.run_id)).ok
    (step,) = await runs.steps(done.run_id)
    assert (step.name, step.output) == ("fetch", {"pages": 3, "size": 10})
    forked = await runs.fork(done.run_id, from_sequence=3)
    assert (await runs.wait(forked.run_id)).output == done.output


async def test_what_the_server_says_of_itself(runs: Any) -> None:
    agents = await runs.agents()

    assert "tutor" in {agent.name for agent in agents.agents}
    assert (await runs.info("count")).agent.name == "count"
    assert (await runs.schema()).agent == agents.default
    assert (await runs.health()).status == "ok"
    assert await runs.ready()


async def test_what_does_not_exist_is_told_by_its_code(runs: Any) -> None:
    for call in (runs.get("nope"), runs.cancel("nope"), runs.start({}, agent="nope"), runs.steps("nope")):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        await runs.events("nope").result()
    token = await runs.stream_token((await runs.invoke({}, agent="tutor")).run_id)
    assert token.token.startswith("hst_")


async def test_a_key_that_is_not_known_is_told_by_its_code(server: Any) -> None:
    async with AsyncRunsClient(server.url, "wrong") as client:
        with pytest.raises(Unauthenticated) as told:
            await client.invoke({})
    assert told.value.status_code == 401
