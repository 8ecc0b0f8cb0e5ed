"""Rounds of tool calls: answered in any order and number, once for ever, in one transaction, and by their deadlines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.clock import HeldClock
from holdfast.errors import InterruptNotFound, ToolCallFailed
from holdfast.model import Run
from holdfast.model.interrupt import canonical_tool_output
from holdfast.runs import CallAnswer, GivenOutput, ToolOutput
from holdfast.store.base import Append, InboxRow, PutInbox, RunQuery
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace
from tests.support.until import until

DAY = 86_400


@agent("asker")
async def asker(context: Context, input: Any) -> list[str]:
    """Asks for so many calls at once, and gives back what came."""
    return list(await asyncio.gather(*(context.call_tool(f"tool_{index}") for index in range(input))))


async def call_ids(it: Kernel, run: Run) -> list[str]:
    """Of the last round, in their order."""
    await it.waiting(run)
    return [part.tool_call_id for part in (await it.runs.interrupts(CALLER, run.run_id))[-1].parts]


async def give(it: Kernel, run: Run, *outputs: ToolOutput, claim: int | None = None) -> list[CallAnswer]:
    return list(await it.runs.answer_calls(CALLER, run, [GivenOutput(item, claim) for item in outputs]))


async def test_all_answers_of_one_post_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker", 3)
        first, second, third = await call_ids(it, run)
        writes: list[Any] = []
        commit = it.store.commit

        async def noting(batch: Any) -> Any:
            writes.extend(batch)
            return await commit(batch)

        monkeypatch.setattr(it.store, "commit", noting)
        given = await give(it, run, ToolOutput(third, "3"), ToolOutput(first, "1"), ToolOutput(second, "2"))
        appends = [write for write in writes if isinstance(write, Append) and write.answers]
        events = await it.events(run)

    assert given == [CallAnswer(name, "accepted") for name in (third, first, second)]
    assert [len(write.answers) for write in appends] == [3]
    assert [event["type"] for event in events[5:]] == ["tool_result"] * 3 + ["interrupt_resolved", "complete"]
    assert [event["output"] for event in events[5:8]] == ["3", "1", "2"]
    assert events[-1]["output"] == ["1", "2", "3"]


async def test_the_first_answer_of_a_call_stands_also_after_the_end(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker", 2)
        first, second = await call_ids(it, run)
        alone = await give(it, run, ToolOutput(first, "1"))
        mixed = await give(it, run, ToolOutput(first, "other"), ToolOutput(second, "2"))
        ended = await it.finished(run)
        again = await give(it, run, ToolOutput(second, "2"), ToolOutput(first, "1"))
        late = await give(it, run, ToolOutput(first, "other"))
        with pytest.raises(InterruptNotFound, match="never asked"):
            await give(it, run, ToolOutput("call_0", "x"))

    assert alone == [CallAnswer(first, "accepted")]
    assert mixed == [CallAnswer(first, "lost", "answered"), CallAnswer(second, "accepted")]
    assert again == [CallAnswer(second, "repeated"), CallAnswer(first, "repeated")]
    assert late == [CallAnswer(first, "lost", "answered")]
    assert ended.output is not None
    assert ended.output.endswith(b'["1","2"]')


async def test_answers_reach_a_run_that_is_held_in_one_batch(tmp_path: Path) -> None:
    """Its holder writes them into the journal; who was first is decided before."""
    patient = replace(QUICK, grace_seconds=60)
    async with kernel(tmp_path, asker, settings=patient) as it:
        run = await it.start("asker", 3)
        current = await it.runs.wait(CALLER, run.run_id, timeout=20)
        assert current.is_leased
        names = [part.tool_call_id for part in (await it.runs.interrupts(CALLER, run.run_id))[0].parts]
        rivals = await asyncio.gather(
            *(give(it, run, *(ToolOutput(name, str(index)) for name in names)) for index in range(5))
        )
        ended = await it.finished(run)
        events = await it.events(run)

    states = [item.state for rival in rivals for item in rival]
    assert states.count("accepted") == 3
    assert states.count("lost") == 12
    assert ended.status == "completed"
    assert [event["type"] for event in events].count("tool_result") == 3


async def test_errors_reach_the_asker_as_errors(tmp_path: Path) -> None:
    @agent("careful")
    async def careful(context: Context, input: Any) -> str:
        try:
            return await context.call_tool("crm.find", {"name": "x"})
        except ToolCallFailed as error:
            return f"failed: {error.message}"

    async with kernel(tmp_path, careful) as it:
        run = await it.start("careful")
        (name,) = await call_ids(it, run)
        await give(it, run, ToolOutput(name, "details", errored=True, error_message="not there"))
        events = await it.events(run)

    result = next(event for event in events if event["type"] == "tool_result")
    assert result["tool"] == "crm.find"
    assert (result["output"], result["error"], result["message"]) == ("details", "tool_call_failed", "not there")
    assert events[-1]["output"] == "failed: not there"


@pytest.mark.parametrize(
    ("on_expiry", "status", "output", "error"),
    [
        ("error", "completed", "failed: nobody answered the call of find in time", "tool_response_timeout"),
        ("default", "completed", "nothing", None),
        ("fail", "failed", None, "tool_response_timeout"),
    ],
)
async def test_a_deadline_answers_as_declared_also_over_a_restart(
    tmp_path: Path, on_expiry: str, status: str, output: str | None, error: str | None
) -> None:
    @agent("careful")
    async def careful(context: Context, input: Any) -> str:
        try:
            return await context.call_tool("find", expires_in=DAY, on_expiry=on_expiry, default="nothing")
        except ToolCallFailed as failure:
            return f"failed: {failure.message}"

    clock = HeldClock()
    async with kernel(tmp_path, careful, clock=clock) as it:
        run = await it.start("careful")
        (name,) = await call_ids(it, run)
        clock.advance(DAY / 2)
    async with kernel(tmp_path, careful, clock=clock) as it:
        assert (await it.runs.get(CALLER, run.run_id)).status == "waiting"
        clock.advance(DAY / 2)
        ended = await it.finished(run)
        late = await give(it, run, ToolOutput(name, "late"))
        events = await it.events(run)

    result = next(event for event in events if event["type"] == "tool_result")
    resolved = next(event for event in events if event["type"] == "interrupt_resolved")
    assert ended.status == status
    assert (ended.error.code if ended.error else None) == (error if status == "failed" else None)
    assert events[-1].get("output") == output
    assert result.get("error") == error
    assert resolved["by"] == "expiry"
    assert late == [CallAnswer(name, "lost", "answered")]


async def test_one_microsecond_late_is_late(tmp_path: Path) -> None:
    """The deadline is applied before a late answer is looked at, whoever scans when."""
    clock = HeldClock()
    slow = replace(QUICK, scan_seconds=60)
    async with kernel(tmp_path, asker, clock=clock, settings=slow) as it:
        run = await it.start("asker", 1)
        (name,) = await call_ids(it, run)
        clock.advance(DAY - 1)
        await it.runs.expire_calls(run)
        assert (await it.runs.interrupts(CALLER, run.run_id))[0].is_pending
        clock.advance(1)
        await it.runs.expire_calls(run)
        late = await give(it, run, ToolOutput(name, "late"))

    assert late == [CallAnswer(name, "lost", "answered")]


@pytest.mark.parametrize("executes", [False, True], ids=["waits", "executes beside it"])
async def test_answers_whose_holder_died_are_told_once_each(tmp_path: Path, executes: bool) -> None:
    """They were accepted, and left for a holder that wrote none of them into the journal."""
    release = asyncio.Event()

    @agent("pair", restart="always")
    async def pair(context: Context, input: Any) -> list[str]:
        async def work() -> str:
            await release.wait()
            return "worked"

        asked = [context.call_tool("a"), context.call_tool("b")]
        beside = [context.step("work", work)] if executes else []
        return list(await asyncio.gather(*asked, *beside))

    patient = replace(QUICK, grace_seconds=60)
    async with kernel(tmp_path, pair, settings=patient, crash=True) as it:
        run = await it.start("pair")
        interrupts = await until(lambda: it.runs.interrupts(CALLER, run.run_id))
        held = await it.runs.get(CALLER, run.run_id)
        for number, part in enumerate(interrupts[0].parts):
            row = InboxRow(
                number=held.number,
                kind="answer",
                interrupt_id=interrupts[0].interrupt_id,
                tool_call_id=part.tool_call_id,
                answer=canonical_tool_output(str(number)),
                by="caller",
                caller="tester",
                created_at=1,
            )
            (outcome,) = await it.store.commit([PutInbox(row=row)])
            assert isinstance(outcome, InboxRow)
    release.set()
    async with kernel(tmp_path, pair) as it:
        ended = await it.finished(run)
        events = await it.events(run)

    told = [event["type"] for event in events]
    assert ended.status == "completed", ended.error
    assert events[-1]["output"][:2] == ["0", "1"]
    assert told.count("tool_result") == 2
    assert told.count("interrupt_resolved") == 1
    assert told.index("interrupt_resolved") > max(place for place, name in enumerate(told) if name == "tool_result")


async def test_the_steps_of_a_child_are_its_own_so_that_a_death_repeats_none(tmp_path: Path) -> None:
    """It is started inside of a step of its parent, and executed again without it."""
    effects: list[str] = []

    @agent("child", restart="always")
    async def child(context: Context, input: Any) -> str:
        await context.step("pay", effects.append, "paid")
        return await context.call_tool("confirm")

    @agent("parent", restart="always")
    async def parent(context: Context, input: Any) -> Any:
        return await context.run("child", None)

    async with kernel(tmp_path, child, parent, crash=True) as it:
        family = await it.start("parent")
        (below,) = await until(lambda: it.store.runs(RunQuery(tenant=CALLER.tenant, parent=family.number)))
        (name,) = await call_ids(it, below)
        asked = next(event for event in await it.stored(below) if event["type"] == "interrupt")
    async with kernel(tmp_path, child, parent) as it:
        await give(it, below, ToolOutput(name, "yes"))
        ended = await it.finished(family)

    assert (ended.status, ended.output) == ("completed", b'"yes"')
    assert effects == ["paid"]
    assert asked.get("step") is None
