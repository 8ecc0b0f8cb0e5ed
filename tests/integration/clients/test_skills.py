"""The client of the Skills API, async and sync, against a real server and the fake one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import AsyncSkillsClient
from holdfast.client.errors import (
    AlreadyAnswered,
    AlreadyFinished,
    ConfirmationRequired,
    DeadlineExceeded,
    ForkConflict,
    InvalidRequest,
    NotFinished,
    NotFound,
    NotWaiting,
    RunCancelled,
    SafetyDenied,
    Unauthorized,
    UpstreamFailure,
)
from holdfast.client.skills import (
    Done,
    Interrupt,
    InterruptResolved,
    Restarted,
    SkillCompleted,
    SkillStart,
    StepCompleted,
    StepFailed,
    StepStart,
    Token,
)
from holdfast.testing import FakeServer
from tests.support.served_skills import SKILL_ROOT
from tests.support.until import until

STREAMED = [SkillStart, StepStart, Token, Token, StepCompleted, SkillCompleted, Done]


async def test_a_stream_has_typed_frames_up_to_the_last_one(skills: Any) -> None:
    async with skills.stream("client.counts", {"n": 2}, trace_id="t-1") as stream:
        events = [event async for event in stream]

    assert [type(event) for event in events] == STREAMED
    assert [event.sequence for event in events] == list(range(7))
    assert "".join(event.content for event in events[2:4]) == "0 1 "
    assert (events[1].step_id, events[1].attempt, events[1].message) == ("count", 1, "Starting step 'count'.")
    assert events[4].data.produced_output == {"text": "2"}
    assert (events[-1].outputs, events[-1].trace_id, stream.cursor) == ({"text": "2"}, "t-1", "6")
    assert await skills.stream("client.counts", {"n": 1}).result() == {"text": "1"}


async def test_a_run_is_read_again_from_any_place(skills: Any) -> None:
    stream = skills.stream("client.counts", {"n": 2})
    await stream.result()

    assert [type(event) async for event in skills.events(stream.run_id)] == STREAMED
    assert [event.sequence async for event in skills.events(stream.run_id, after=4)] == [5, 6]
    assert [event async for event in skills.events(stream.run_id, after=stream.cursor)] == []


async def test_execute_gives_the_outputs_or_says_that_the_run_waits(skills: Any) -> None:
    done = await skills.execute("client.shortens", {"text": "Hello world"}, include_trace=True, max_workers=1)
    assert (done.outputs, done.status, done.is_waiting) == ({"result": "Hello world"}, "completed", False)
    assert [event["type"] for event in done.events] == [
        "skill_start",
        "step_start",
        "step_completed",
        "skill_completed",
    ]

    waits = await skills.execute("client.asks", {"text": "Hello"})
    assert (waits.is_waiting, waits.outputs, waits.interrupt.question) == (True, {}, "Go on?")
    await skills.cancel(waits.run_id)


async def test_an_approval_is_given_once(skills: Any) -> None:
    stream = skills.stream("client.asks", {"text": "Hello"})
    async for event in stream:
        if isinstance(event, Interrupt):
            assert (event.step_id, event.data.question, event.data.choices) == ("post", "Go on?", ["approve", "deny"])
            assert (await skills.get(stream.run_id)).interrupts[0].interrupt_id == event.data.interrupt_id
            told = await skills.approve(stream.run_id, approver="jane", notes="fine")
            assert (told.answer, told.approver) == ("approve", "jane")
            again = await skills.approve(
                stream.run_id, interrupt_id=event.data.interrupt_id, approver="jane", notes="fine"
            )
            assert again.answer == "approve"
            with pytest.raises(AlreadyAnswered):
                await skills.deny(stream.run_id)
        elif isinstance(event, InterruptResolved):
            assert (event.data.by, event.data.note) == ("caller", "jane: fine")

    record = await skills.get(stream.run_id)
    assert (record.status, record.is_finished, record.result.outputs) == ("completed", True, {"result": "Hello"})


async def test_what_is_denied_or_may_not_be_asked_fails_by_its_code(skills: Any) -> None:
    waits = await skills.start("client.asks", {"text": "Hello"})
    async for event in skills.events(waits.run_id):
        if isinstance(event, Interrupt):
            await skills.deny(waits.run_id, interrupt_id=event.data.interrupt_id)

    with pytest.raises(SafetyDenied) as denied:
        await skills.events(waits.run_id).result()
    assert denied.value.run_id == waits.run_id
    with pytest.raises(ConfirmationRequired):
        await skills.execute("client.asks", {"text": "Hello"}, on_confirmation="fail")
    with pytest.raises(NotWaiting):
        await skills.approve((await skills.execute("client.shortens", {"text": "x"})).run_id)


async def test_a_run_that_fails_raises_by_its_code(skills: Any) -> None:
    with pytest.raises(UpstreamFailure, match="no such topic") as executed:
        await skills.execute("client.fails", {"text": "sea"})
    stream = skills.stream("client.fails", {"text": "sea"})
    events = [event async for event in stream]
    with pytest.raises(UpstreamFailure, match="no such topic"):
        await stream.result()

    failed = next(event for event in events if isinstance(event, StepFailed))
    assert (failed.step_id, failed.data.code, failed.data.will_retry) == ("second", "upstream_failure", False)
    assert events[-1].error.code == "upstream_failure"
    record = await skills.get(executed.value.run_id)
    assert (record.status, record.error_detail.code, record.result) == ("failed", "upstream_failure", None)


async def test_what_a_failed_attempt_showed_is_void(skills: Any, tmp_path: Path) -> None:
    void: list[tuple[int, int]] = []
    stream = skills.stream(
        "client.retries",
        {"note": str(tmp_path / "note")},
        on_discard=lambda _, first, last: void.append((first, last)),
    )
    shown = {event.sequence: event async for event in stream}

    assert [type(event) for event in shown.values()][1:5] == [StepStart, Token, StepFailed, StepStart]
    assert (shown[3].data.will_retry, shown[4].attempt, void) == (True, 2, [(1, 3)])


async def test_leaving_cancels_nothing_and_cancelling_is_final(skills: Any, tmp_path: Path) -> None:
    async with skills.stream("client.waits", {"gate": str(tmp_path / "never")}) as stream:
        async for event in stream:
            if isinstance(event, Token):
                break
    assert (await skills.get(stream.run_id)).status == "running"
    with pytest.raises(NotFinished):
        await skills.fork(stream.run_id, "wait")

    record = await skills.cancel(stream.run_id, reason="left")

    assert (record.status, record.state, record.error_detail.code) == ("failed", "cancelled", "cancelled")
    assert (await skills.cancel(stream.run_id)).state == "cancelled"
    with pytest.raises(RunCancelled):
        await skills.events(stream.run_id).result()
    with pytest.raises(AlreadyFinished):
        await skills.cancel((await skills.execute("client.shortens", {"text": "x"})).run_id)


async def test_a_deadline_ends_what_stands_still_and_the_key_finds_the_run_again(skills: Any, tmp_path: Path) -> None:
    gate, key = tmp_path / "gate", f"wait-{id(skills)}"
    with pytest.raises(DeadlineExceeded):
        await skills.stream("client.waits", {"gate": str(gate)}, timeout=0.1).result()
    inputs = {"gate": str(gate)}
    with pytest.raises(DeadlineExceeded):
        await skills.execute("client.waits", inputs, idempotency_key=key, timeout=0.1)
    waiting = asyncio.ensure_future(skills.execute("client.waits", inputs, idempotency_key=key))
    gate.touch()

    done = await waiting

    assert done.outputs == {"text": str(gate)}
    assert (await skills.execute("client.waits", inputs, idempotency_key=key)).run_id == done.run_id


async def test_a_start_under_one_key_is_one_run(skills: Any) -> None:
    key = f"key-of-{id(skills)}"
    first = await skills.start("client.shortens", {"text": "x"}, idempotency_key=key)

    assert await skills.start("client.shortens", {"text": "x"}, idempotency_key=key) == first
    with pytest.raises(InvalidRequest, match="belongs to another call"):
        await skills.start("client.shortens", {"text": "y"}, idempotency_key=key)
    assert await skills.events(first.run_id).result() == {"result": "x"}


async def test_runs_are_listed_replayed_and_forked(skills: Any) -> None:
    first = await skills.execute("client.shortens", {"text": "Hello"})
    page = await skills.runs(skill_id="client.shortens", status="completed", limit=1)
    assert (page.runs[0].run_id, page.runs[0].result.outputs) == (first.run_id, {"result": "Hello"})
    assert page.pagination.limit == 1

    again = await skills.replay(first.run_id)
    assert (again.source_run_id, await skills.events(again.run_id).result()) == (first.run_id, {"result": "Hello"})
    forked = await skills.fork(first.run_id, "analyze", inputs={"text": "Bye"}, definition="current")
    assert (forked.reused, await skills.events(forked.run_id).result()) == ([], {"result": "Bye"})
    with pytest.raises((InvalidRequest, ForkConflict)):
        await skills.fork(first.run_id, "nope")


async def test_bare_capabilities_and_attached_skills(skills: Any) -> None:
    made = await skills.execute_capability("text.content.summarize", {"text": "Hello"})
    assert (made.outputs["summary"], made.is_waiting) == ("Hello", False)
    assert [type(event) async for event in skills.events(made.run_id)][-1] is Done
    assert (await skills.explain_capability("client.fail")).selected_binding == "client.fail:python"

    attached = await skills.attach("client.shortens", "run", made.run_id, {"text": "Hello"})
    assert (attached.execution.outputs, attached.attach_context.status) == ({"result": "Hello"}, "completed")
    with pytest.raises(InvalidRequest):
        await skills.attach("client.counts", "run", made.run_id, {"n": 1})


async def test_skills_are_listed_described_and_found(skills: Any) -> None:
    first = await skills.list(limit=2)
    second = await skills.list(limit=100, offset=first.pagination.next_offset)

    assert first.pagination.total == len(first.skills) + len(second.skills)
    assert "client.shortens" in {skill.id for skill in [*first.skills, *second.skills]}
    described = await skills.describe("client.shortens")
    assert (described.steps[0].id, described.inputs.text.required) == ("analyze", True)
    assert (await skills.discover("shortens a text", limit=1))[0].id == "client.shortens"
    assert (await skills.diagnostics()).problems == []
    assert "client.shortens" in {skill.id for skill in (await skills.governance(min_state="stable")).skills}


async def test_webhooks_are_made_and_deleted(skills: Any) -> None:
    made = await skills.create_webhook("https://example.com/hooks", ["run.waiting", "skill.failed"])
    assert made.secret
    assert made.id in {hook.id for hook in await skills.webhooks()}
    assert (await skills.delete_webhook(made.id)).deleted
    with pytest.raises(NotFound):
        await skills.delete_webhook(made.id)
    with pytest.raises(InvalidRequest):
        await skills.create_webhook("https://example.com/hooks", ["nope"])


async def test_what_the_server_says_of_itself(skills: Any) -> None:
    assert (await skills.health()).status == "ok"
    assert (await skills.health(deep=True)).checks.store == "ok"
    assert (await skills.live()).status == "alive"
    assert await skills.ready()
    assert (await skills.metrics()).uptime_seconds > 0
    assert "holdfast_skills_calls_total" in await skills.prometheus()


async def test_what_does_not_exist_or_does_not_fit_is_told_by_its_code(skills: Any) -> None:
    for call in (
        skills.get("nope"),
        skills.cancel("nope"),
        skills.start("nope"),
        skills.execute("nope"),
        skills.describe("nope"),
        skills.explain_capability("nope"),
        skills.events("nope").result(),
        skills.stream("nope").result(),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(InvalidRequest) as missing:
        await skills.execute("client.shortens")
    assert missing.value.details["fields"] == [{"field": "text", "message": "required"}]


async def test_a_key_that_is_not_known_is_told_by_its_code(server: Any) -> None:
    async with AsyncSkillsClient(server.url, "wrong") as client:
        with pytest.raises(Unauthorized) as told:
            await client.execute("client.shortens", {"text": "x"})
    assert told.value.status_code == 401


async def test_two_readers_of_one_run_see_the_same(skills: Any, tmp_path: Path) -> None:
    """One that was there from the start, and one that comes in the middle; both see the run to its end."""
    gate = tmp_path / "gate"
    stream = skills.stream("client.waits", {"gate": str(gate)})
    seen = [await anext(stream), await anext(stream), await anext(stream)]
    late = skills.events(stream.run_id)
    also = [await anext(late), await anext(late)]
    gate.touch()

    seen += [event async for event in stream]
    also += [event async for event in late]

    assert seen == also
    assert [event.sequence for event in seen] == list(range(len(STREAMED)))


async def test_an_execution_outlives_its_server_and_is_one_run(tmp_path: Path) -> None:
    """The server dies while somebody waits for the outputs, and somebody else reads along."""
    gate, void = tmp_path / "gate", list[tuple[int, int]]()
    async with (
        FakeServer(settings={"HOLDFAST_SKILLS_ROOTS": str(SKILL_ROOT)}) as server,
        AsyncSkillsClient(server.url, server.key, transport=server.transport()) as client,
    ):
        executing = asyncio.ensure_future(client.execute("client.waits", {"gate": str(gate)}))
        client._http.sleep = lambda _: asyncio.sleep(0.01)  # a wait for `retry:` would be two seconds
        run_id = await until(lambda: _first(client))
        reading = client.events(run_id, on_discard=lambda _, first, last: void.append((first, last)))
        seen = [await anext(reading), await anext(reading), await anext(reading)]

        await asyncio.to_thread(server.restart)
        gate.touch()
        done = await executing
        seen += [event async for event in reading]

        assert (done.run_id, done.outputs) == (run_id, {"text": str(gate)})
        assert len((await client.runs()).runs) == 1
    again = next(event for event in seen if isinstance(event, StepStart) and event.attempt == 2)
    assert again.data is not None
    assert again.data.reason == "restart"
    assert [type(event) for event in seen[:4]] == [SkillStart, StepStart, Token, Restarted]
    assert void == [(1, 2)]
    assert [event.sequence for event in seen] == list(range(len(seen)))


async def _first(client: AsyncSkillsClient) -> str | None:
    """The run that there is."""
    found = (await client.runs()).runs
    return found[0].run_id if found else None
