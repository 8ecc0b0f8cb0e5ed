"""Runs from start to end, in process, on the embedded store."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, SyncContext, agent
from holdfast.clock import HeldClock
from holdfast.errors import (
    InterruptResolved,
    RunExists,
    RunFinished,
    StepFailed,
    ThreadBusy,
)
from holdfast.execution.program import AgentSpec
from holdfast.model import Run, Status
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace
from tests.support.until import until


@agent("speaker")
async def speaker(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    for word in input["words"]:
        await context.token(word)
    return {"said": len(input["words"])}


@agent("generator")
async def generator(input: dict[str, Any]) -> Any:
    for word in input["words"]:
        yield word


@agent("sync")
def sync_speaker(context: SyncContext, input: dict[str, Any]) -> str:
    for word in input["words"]:
        context.token(word)
    assert threading.current_thread() is not threading.main_thread()
    return "done"


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_a_run_streams_its_tokens_and_ends(tmp_path: Path) -> None:
    async with kernel(tmp_path, speaker) as it:
        run = await it.start("speaker", {"words": ["a", "b", "\u2028"]})
        events = await it.events(run)
        ended = await it.finished(run)
        verified = await it.runs.verify(CALLER, run.run_id)

    assert types(events) == ["started", "token", "token", "token", "complete"]
    assert [event["sequence"] for event in events] == [0, 1, 2, 3, 4]
    assert events[3]["content"] == "\u2028"
    assert ended.status is Status.COMPLETED
    assert ended.output == b'{"said":3}'
    assert verified.ok
    assert verified.events == 5


async def test_timestamps_grow_by_at_least_two_microseconds_over_all_runs(tmp_path: Path) -> None:
    async with kernel(tmp_path, speaker) as it:
        runs = [await it.start("speaker", {"words": ["x"] * 50}) for _ in range(5)]
        stamps = sorted([event["timestamp"] for run in runs for event in await it.events(run)])

    microseconds = [int(stamp[20:26]) + 1_000_000 * int(stamp[17:19]) for stamp in stamps]
    gaps = [(b - a) % 60_000_000 for a, b in itertools.pairwise(microseconds)]
    assert min(gaps) >= 2


async def test_generators_and_sync_functions_are_agents_too(tmp_path: Path) -> None:
    async with kernel(tmp_path, generator, sync_speaker) as it:
        first = await it.start("generator", {"words": ["Quan", "tum"]})
        second = await it.start("sync", {"words": ["a", "b"]})
        outputs = [(await it.finished(run)).output for run in (first, second)]
        events = await it.events(second)

    assert outputs == [b'"Quantum"', b'"done"']
    assert types(events) == ["started", "token", "token", "complete"]


async def test_steps_are_recorded_and_shown(tmp_path: Path) -> None:
    calls: list[int] = []

    @agent("stepper")
    async def stepper(context: Context, input: Any) -> list[int]:
        async def work(n: int) -> int:
            calls.append(n)
            return n * n

        return [await context.step("square", work, n) for n in range(3)]

    async with kernel(tmp_path, stepper) as it:
        run = await it.start("stepper", {})
        events = await it.events(run)
        steps = await it.runs.steps(CALLER, run.run_id)

    assert types(events) == ["started", *["step_started", "step_completed"] * 3, "complete"]
    assert events[-1]["output"] == [0, 1, 4]
    assert [(step.key, step.status, step.output) for step in steps] == [
        ("square", "completed", b"0"),
        ("square#2", "completed", b"1"),
        ("square#3", "completed", b"4"),
    ]
    assert calls == [0, 1, 2]


async def test_a_failing_step_is_tried_again_then_raises_step_failed(tmp_path: Path) -> None:
    @agent("flaky")
    async def flaky(context: Context, input: Any) -> str:
        async def broken() -> None:
            raise ValueError("no such topic")

        try:
            await context.step("broken", broken, attempts=2, backoff_seconds=0.001)
        except StepFailed as failure:
            return failure.message
        return "?"

    async with kernel(tmp_path, flaky) as it:
        run = await it.start("flaky")
        events = await it.events(run)

    assert types(events) == ["started", "step_started", "step_failed", "step_started", "step_failed", "complete"]
    assert [event.get("will_retry") for event in events if event["type"] == "step_failed"] == [True, False]
    assert events[-1]["output"] == "ValueError: no such topic"


async def test_an_exception_is_the_runs_error_without_traceback(tmp_path: Path) -> None:
    @agent("broken")
    async def broken(context: Context, input: Any) -> None:
        raise ValueError("no such topic")

    async with kernel(tmp_path, broken) as it:
        run = await it.start("broken")
        events = await it.events(run)
        ended = await it.finished(run)

    assert events[-1]["error"] == "ValueError: no such topic"
    assert events[-1]["code"] == "agent_execution_error"
    assert ended.status is Status.FAILED


@agent("asker")
async def asker(context: Context, input: Any) -> dict[str, Any]:
    async def look_up() -> str:
        return "42"

    found = await context.step("look up", look_up)
    await context.token("before")
    answer = await context.ask("Pay?", choices=["yes", "no"])
    await context.token("after")
    return {"found": found, "answer": answer}


async def test_a_waiting_run_is_let_go_and_continued_by_its_answer(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker")
        waiting = await it.waiting(run)
        await until(lambda: not it.worker.executing)
        await it.runs.answer(CALLER, run.run_id, "yes")
        events = await it.events(run)

    assert waiting.status is Status.WAITING
    assert types(events) == [
        "started",
        "step_started",
        "step_completed",
        "token",
        "interrupt",
        "interrupt_resolved",
        "token",
        "complete",
    ]
    assert events[-1]["output"] == {"found": "42", "answer": "yes"}


async def test_an_answer_within_the_grace_reaches_the_code_in_memory(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker, settings=replace(QUICK, grace_seconds=30)) as it:
        run = await it.start("asker")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
        answered = await it.runs.answer(CALLER, run.run_id, "no")
        events = await it.events(run)

    assert answered.resolved_sequence == 5
    assert events[-1]["output"] == {"found": "42", "answer": "no"}


async def test_of_many_answers_exactly_one_wins(tmp_path: Path) -> None:
    @agent("open")
    async def open_question(context: Context, input: Any) -> Any:
        return await context.ask("Which?")

    async with kernel(tmp_path, open_question) as it:
        run = await it.start("open")
        await it.waiting(run)
        (interrupt,) = await it.runs.interrupts(CALLER, run.run_id)
        results = await asyncio.gather(
            *(it.runs.answer(CALLER, run.run_id, n, interrupt_id=interrupt.interrupt_id) for n in range(20)),
            return_exceptions=True,
        )
        ended = await it.finished(run)
        winner = int(ended.output or b"-1")
        again = await it.runs.answer(CALLER, run.run_id, winner, interrupt_id=interrupt.interrupt_id)

    lost = [result for result in results if isinstance(result, InterruptResolved | RunFinished)]
    assert len(lost) == 19
    assert again.status == "resolved"


async def test_two_questions_at_once_may_be_answered_in_any_order(tmp_path: Path) -> None:
    @agent("two")
    async def two(context: Context, input: Any) -> list[Any]:
        return list(await asyncio.gather(context.ask("A?", key="a"), context.ask("B?", key="b")))

    async with kernel(tmp_path, two) as it:
        run = await it.start("two")
        await it.waiting(run)
        first, second = await it.runs.interrupts(CALLER, run.run_id)
        await it.runs.answer(CALLER, run.run_id, 2, interrupt_id=second.interrupt_id)
        await it.waiting(run)
        await it.runs.answer(CALLER, run.run_id, 1, interrupt_id=first.interrupt_id)
        ended = await it.finished(run)

    assert ended.output == b"[1,2]"


async def test_an_unanswered_question_takes_its_default(tmp_path: Path) -> None:
    @agent("late")
    async def late(context: Context, input: Any) -> Any:
        return await context.ask("Pay?", expires_in=0.05, default="no")

    async with kernel(tmp_path, late) as it:
        run = await it.start("late")
        events = await it.events(run)

    assert types(events) == ["started", "interrupt", "interrupt_resolved", "complete"]
    assert events[2]["by"] == "expiry"
    assert events[3]["output"] == "no"


async def test_tools_of_one_turn_are_one_round_that_the_caller_executes(tmp_path: Path) -> None:
    from holdfast.runs import ToolOutput

    @agent("tools")
    async def tools(context: Context, input: Any) -> list[str]:
        return list(await asyncio.gather(context.call_tool("a"), context.call_tool("crm.find", {"name": "x"})))

    async with kernel(tmp_path, tools) as it:
        run = await it.start("tools")
        await it.waiting(run)
        (interrupt,) = await it.runs.interrupts(CALLER, run.run_id)
        a, b = (part.tool_call_id for part in interrupt.parts)
        await it.runs.answer(CALLER, run.run_id, [ToolOutput(b, "2")])
        await it.runs.answer(CALLER, run.run_id, [ToolOutput(a, "1")])
        events = await it.events(run)

    assert types(events) == [
        "started",
        "tool_call",
        "tool_call",
        "interrupt",
        "tool_result",
        "tool_result",
        "interrupt_resolved",
        "complete",
    ]
    assert events[-1]["output"] == ["1", "2"]


async def test_a_sleeping_run_is_woken_by_its_timer(tmp_path: Path) -> None:
    @agent("sleeper")
    async def sleeper(context: Context, input: Any) -> str:
        await context.sleep_until(time.time() + 0.2)
        return "awake"

    async with kernel(tmp_path, sleeper) as it:
        run = await it.start("sleeper")
        await it.waiting(run)
        ended = await it.finished(run)

    assert ended.output == b'"awake"'


async def test_cancel_reaches_async_code(tmp_path: Path) -> None:
    cleaned = asyncio.Event()

    @agent("endless")
    async def endless(context: Context, input: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with kernel(tmp_path, endless) as it:
        run = await it.start("endless")
        ended = await it.runs.cancel(CALLER, run.run_id, reason="left")
        again = await it.runs.cancel(CALLER, run.run_id)
        events = await it.events(run)

    assert cleaned.is_set()
    assert ended.status is Status.CANCELLED
    assert ended.cancel is not None
    assert ended.cancel.stopped is not None
    assert again.cancel == ended.cancel
    assert types(events) == ["started", "cancelled"]


async def test_cancel_reaches_sync_code_and_does_not_wait_for_deaf_code(tmp_path: Path) -> None:
    release = threading.Event()

    @agent("polite")
    def polite(context: SyncContext, input: Any) -> None:
        while True:
            context.progress(0.5)
            release.wait(0.005)

    @agent("deaf")
    def deaf(context: SyncContext, input: Any) -> None:
        release.wait(30)
        context.token("too late")

    async with kernel(tmp_path, polite, deaf) as it:
        first = await it.start("polite")
        second = await it.start("deaf")
        ended = [await it.runs.cancel(CALLER, run.run_id) for run in (first, second)]
        release.set()
        events = await it.events(second)

    assert [run.status for run in ended] == [Status.CANCELLED] * 2
    assert ended[0].cancel is not None
    assert ended[0].cancel.stopped is not None
    assert ended[1].cancel is not None
    assert ended[1].cancel.stopped is None
    assert types(events) == ["started", "cancelled"]


async def test_a_waiting_run_can_be_cancelled(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker")
        await it.waiting(run)
        ended = await it.runs.cancel(CALLER, run.run_id, reason="left")
        with pytest.raises((InterruptResolved, RunFinished)):
            await it.runs.answer(CALLER, run.run_id, "yes", interrupt_id=(await it.stored(run))[4]["interrupt_id"])

    assert ended.status is Status.CANCELLED


async def test_a_run_over_its_time_fails(tmp_path: Path) -> None:
    @agent("slow")
    async def slow(context: Context, input: Any) -> None:
        await asyncio.Event().wait()

    async with kernel(tmp_path, slow) as it:
        run = await it.start("slow", timeout_seconds=0.05)
        ended = await it.finished(run)

    assert ended.error is not None
    assert ended.error.code == "timeout_error"


async def test_a_sync_agent_asks_and_is_let_go(tmp_path: Path) -> None:
    @agent("sync-asker")
    def sync_asker(context: SyncContext, input: Any) -> Any:
        number = context.step("number", lambda: 7)
        context.token("hm")
        return [number, context.ask("Go on?")]

    async with kernel(tmp_path, sync_asker) as it:
        run = await it.start("sync-asker")
        waiting = await it.waiting(run)
        await until(lambda: not it.worker.executing)
        await it.runs.answer(CALLER, run.run_id, "sure")
        ended = await it.finished(run)

    assert waiting.status is Status.WAITING
    assert ended.output == b'[7,"sure"]'


async def test_ids_and_threads_are_taken_once(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker", run_id="q-1", thread_id="t-1")
        with pytest.raises(RunExists):
            await it.start("asker", run_id="q-1")
        with pytest.raises(ThreadBusy) as busy:
            await it.start("asker", thread_id="t-1")
        await it.runs.cancel(CALLER, run.run_id)
        again = await it.start("asker", thread_id="t-1")

    assert busy.value.details["active_run_id"] == "q-1"
    assert again.thread_id == "t-1"


async def test_a_child_is_cancelled_with_its_parent(tmp_path: Path) -> None:
    @agent("parent")
    async def parent(context: Context, input: Any) -> Any:
        return await context.run("speaker", {"words": ["x"]})

    @agent("stuck-parent")
    async def stuck(context: Context, input: Any) -> Any:
        return await context.run("endless")

    @agent("endless")
    async def endless(context: Context, input: Any) -> None:
        await asyncio.Event().wait()

    async with kernel(tmp_path, parent, stuck, endless, speaker) as it:
        run = await it.start("parent")
        ended = await it.finished(run)
        other = await it.start("stuck-parent")
        child = None
        while child is None:
            children = await it.runs.list(_children(other.number))
            child = children[0] if children else None
            await asyncio.sleep(0)
        await it.runs.cancel(CALLER, other.run_id)
        child = await it.finished(child)

    assert ended.output == b'{"said":1}'
    assert child.status is Status.CANCELLED


def _children(number: int) -> Any:
    from holdfast.store.base import RunQuery

    return RunQuery(tenant=None, parent=number)


# Restarts


async def test_a_crash_in_the_middle_is_continued_from_the_record(tmp_path: Path) -> None:
    calls: list[str] = []
    reached = asyncio.Event()
    go = asyncio.Event()

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> list[str]:
        async def work(name: str) -> str:
            calls.append(name)
            await context.token(f"[{name}]")
            return name

        results = [await context.step("one", work, "one")]
        await context.token("between")
        results.append(await context.step("two", work, "two"))
        await context.token("partial")
        reached.set()
        await go.wait()
        await context.token("rest")
        return results

    async with kernel(tmp_path, worker, crash=True) as it:
        run = await it.start("worker")
        await reached.wait()
        execution = it.worker.execution(run.number)
        assert execution is not None
        await execution.writer.durable()
        before = await it.stored(run)
    go.set()
    async with kernel(tmp_path, worker) as it:
        events = await it.events(run)
        ended = await it.finished(run)

    assert calls == ["one", "two"]
    assert events[: len(before)] == before
    restarted = events[len(before)]
    assert restarted["type"] == "restarted"
    assert restarted["attempt"] == 2
    assert restarted["discard"] == [[len(before) - 1, len(before) - 1]]
    assert restarted["discard_from"] == len(before) - 1
    shown = [e["content"] for e in events if e["type"] == "token" and e["sequence"] != len(before) - 1]
    assert shown == ["[one]", "between", "[two]", "partial", "rest"]
    assert ended.output == b'["one","two"]'


async def test_a_default_agent_caught_by_a_crash_fails_as_interrupted(tmp_path: Path) -> None:
    reached = asyncio.Event()

    @agent("plain")
    async def plain(context: Context, input: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with kernel(tmp_path, plain, asker, crash=True) as it:
        run = await it.start("plain")
        waiting = await it.start("asker")
        await it.waiting(waiting)
        await reached.wait()
    async with kernel(tmp_path, plain, asker) as it:
        ended = await it.finished(run)
        await it.runs.answer(CALLER, waiting.run_id, "yes")
        continued = await it.finished(waiting)

    assert ended.error is not None
    assert ended.error.code == "interrupted"
    assert continued.output == b'{"found":"42","answer":"yes"}'


async def test_an_at_most_once_step_in_flight_asks_whether_to_run_again(tmp_path: Path) -> None:
    calls: list[int] = []
    entered = asyncio.Event()
    blocked = True

    @agent("payer", restart="always")
    async def payer(context: Context, input: Any) -> Any:
        async def pay() -> str:
            calls.append(1)
            entered.set()
            if blocked:
                await asyncio.Event().wait()
            return "paid"

        return await context.step("pay", pay, at_most_once=True)

    async with kernel(tmp_path, payer, crash=True) as it:
        run = await it.start("payer")
        await entered.wait()
    async with kernel(tmp_path, payer) as it:
        waiting = await it.waiting(run)
        (interrupt,) = await it.runs.interrupts(CALLER, run.run_id)
        await it.runs.answer(CALLER, run.run_id, {"approved": True, "output": "paid by hand"})
        ended = await it.finished(run)

    assert waiting.status is Status.WAITING
    assert interrupt.reason == "outcome_unknown"
    assert calls == [1]
    assert ended.output == b'"paid by hand"'


async def test_each_attempt_at_an_at_most_once_step_is_on_disk_before_it_is_made(tmp_path: Path) -> None:
    on_disk: list[tuple[int, int]] = []  # bytes that are pending, and the attempt that the store knows

    @agent("payer", restart="always")
    async def payer(context: Context, input: Any) -> Any:
        async def pay() -> str:
            execution = context.execution
            pending = execution.writer.size
            (step,) = await it.store.steps(execution.run.number)
            on_disk.append((pending, step.attempts))
            if len(on_disk) < 3:
                raise RuntimeError("not yet")
            return "paid"

        return await context.step("pay", pay, at_most_once=True, attempts=3, backoff_seconds=0.001)

    async with kernel(tmp_path, payer) as it:
        ended = await it.finished(await it.start("payer"))

    assert ended.output == b'"paid"'
    assert on_disk == [(0, 1), (0, 2), (0, 3)]


async def test_a_clean_stop_hands_restartable_runs_over(tmp_path: Path) -> None:
    reached = asyncio.Event()
    go = asyncio.Event()

    @agent("always", restart="always")
    async def always(context: Context, input: Any) -> str:
        await context.token("x")
        reached.set()
        await go.wait()
        return "done"

    async with kernel(tmp_path, always) as it:
        run = await it.start("always")
        await reached.wait()
    go.set()
    async with kernel(tmp_path, always) as it:
        events = await it.events(run)

    assert types(events) == ["started", "token", "restarted", "token", "complete"]


async def test_a_run_that_diverges_from_its_record_fails(tmp_path: Path) -> None:
    reached = asyncio.Event()
    steps = ["old"]

    @agent("changed", restart="always")
    async def changed(context: Context, input: Any) -> None:
        async def nothing() -> None:
            return None

        for name in steps:
            await context.step(name, nothing)
        if steps == ["old"]:
            reached.set()
            await asyncio.Event().wait()

    async with kernel(tmp_path, changed, crash=True) as it:
        run = await it.start("changed")
        await reached.wait()
    steps[:] = ["new"]
    async with kernel(tmp_path, changed) as it:
        ended = await it.finished(run)

    assert ended.error is not None
    assert ended.error.code == "replay_diverged"


async def test_a_stop_parks_a_question_that_was_asked_just_now(tmp_path: Path) -> None:
    async with kernel(tmp_path, asker, settings=replace(QUICK, grace_seconds=30)) as it:
        run = await it.start("asker")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
    async with kernel(tmp_path, asker) as it:
        waiting = await it.runs.get(CALLER, run.run_id)
        await it.runs.answer(CALLER, run.run_id, "yes")
        ended = await it.finished(run)

    assert waiting.status is Status.WAITING
    assert ended.output == b'{"found":"42","answer":"yes"}'


async def test_no_more_runs_begin_at_once_than_there_are_places(tmp_path: Path) -> None:
    release = asyncio.Event()
    executing: list[int] = []

    @agent("counted")
    async def counted(context: Context, input: Any) -> int:
        executing.append(1)
        most = len(executing)
        await release.wait()
        executing.pop()
        return most

    async with kernel(tmp_path, counted, settings=replace(QUICK, runs_max=3)) as it:
        runs = await asyncio.gather(*(it.start("counted") for _ in range(10)))
        release.set()
        ended = [await it.finished(run) for run in runs]

    assert {run.status for run in ended} == {Status.COMPLETED}
    assert max(int(run.output or b"99") for run in ended) <= 3


async def test_a_journal_that_cannot_be_read_hinders_no_other_run(tmp_path: Path) -> None:
    reached = asyncio.Event()
    names: list[str] = []

    @agent("always", restart="always")
    async def always(context: Context, input: Any) -> str:
        names.append(context.run_id)
        if len(names) == 2:
            reached.set()
        if len(names) <= 2:
            await asyncio.Event().wait()
        return "done"

    async with kernel(tmp_path, always, crash=True) as it:
        bad, good = await it.start("always"), await it.start("always")
        await reached.wait()
    async with kernel(tmp_path, always, damage=bad.number) as it:
        ended = await it.finished(good)

    assert ended.status is Status.COMPLETED


async def test_facts_reach_a_run_whose_holder_died_and_that_nobody_took_yet(tmp_path: Path) -> None:
    """The row names a holder, but its lease has run out: only the store can tell."""

    @agent("stuck", restart="always")
    async def stuck(context: Context, input: Any) -> Any:
        return await asyncio.gather(context.ask("A?", key="a"), asyncio.Event().wait())

    clock = HeldClock()
    async with kernel(tmp_path, stuck, clock=clock, crash=True, settings=replace(QUICK, grace_seconds=30)) as it:
        run = await it.start("stuck")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
        await it.die()
        clock.advance(60)
        answered = await it.runs.answer(CALLER, run.run_id, "yes")
        cancelled = await it.runs.cancel(CALLER, run.run_id)

    assert answered.status == "resolved"
    assert cancelled.status is Status.CANCELLED


async def test_a_step_that_its_own_code_gave_up_does_not_keep_the_run_in_memory(tmp_path: Path) -> None:
    @agent("impatient")
    async def impatient(context: Context, input: Any) -> Any:
        try:
            async with asyncio.timeout(0.01):
                await context.step("slow", asyncio.Event().wait)
        except TimeoutError:
            pass
        return await context.ask("Go on?")

    async with kernel(tmp_path, impatient) as it:
        run = await it.start("impatient")
        waiting = await it.waiting(run)
        await until(lambda: not it.worker.executing)

    assert waiting.status is Status.WAITING


async def test_a_run_that_executes_beside_a_question_is_not_shown_as_waiting(tmp_path: Path) -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    @agent("both")
    async def both(context: Context, input: Any) -> Any:
        async def work() -> int:
            asked.set()
            await release.wait()
            return 1

        return await asyncio.gather(context.ask("A?", key="a"), context.step("work", work))

    async with kernel(tmp_path, both) as it:
        run = await it.start("both")
        await asked.wait()
        execution = it.worker.execution(run.number)
        assert execution is not None
        await execution.writer.durable()
        beside = await it.runs.get(CALLER, run.run_id)
        release.set()
        waiting = await it.waiting(run)

    assert beside.status is Status.RUNNING
    assert waiting.status is Status.WAITING


async def test_a_refused_approval_is_false(tmp_path: Path) -> None:
    @agent("careful")
    async def careful(context: Context, input: Any) -> str:
        return "done" if await context.approve("Delete all?") else "left"

    @agent("careful-sync")
    def careful_sync(context: SyncContext, input: Any) -> list[Any]:
        return ["done" if context.approve("Delete all?") else "left", len(context.history())]

    async with kernel(tmp_path, careful, careful_sync) as it:
        runs = [await it.start("careful"), await it.start("careful-sync")]
        for run in runs:
            await it.waiting(run)
            await it.runs.answer(CALLER, run.run_id, answer=False)
        outputs = [(await it.finished(run)).output for run in runs]

    assert outputs == [b'"left"', b'["left",0]']


@pytest.mark.parametrize(
    ("asked", "declared", "allowed", "limit"),
    [
        (None, None, None, None),
        (5, None, None, 5),
        (5, 4, 6, 4),
        (5, 6, 4, 4),
        (3, 6, 4, 3),
        (None, 6, None, 6),
    ],
)
async def test_the_least_time_limit_holds(
    tmp_path: Path, asked: float | None, declared: float | None, allowed: float | None, limit: float | None
) -> None:
    """Of the call, of the agent and of the server."""
    made = agent("limited")(speaker.function)
    made.spec = AgentSpec(timeout_seconds=declared)

    async with kernel(tmp_path, made, timeout_seconds=allowed) as it:
        run = await it.start("limited", {"words": []}, timeout_seconds=asked)

    assert run.timeout_seconds == limit


async def test_a_cancel_outlives_the_process_that_was_stopping_the_code(tmp_path: Path) -> None:
    """The receipt is on disk before the code has stopped; whoever is next ends the run without executing it."""
    release, calls = threading.Event(), []

    @agent("deaf", restart="always")
    def deaf(input: Any) -> None:
        calls.append(1)
        release.wait(30)

    patient = replace(QUICK, cancel_seconds=60)
    async with kernel(tmp_path, deaf, settings=patient, crash=True) as it:
        run = await it.start("deaf", {})
        await until(lambda: bool(calls))
        first = await it.runs.cancel(CALLER, run.run_id, reason="left", wait=0)
        again = await it.runs.cancel(CALLER, run.run_id, reason="other", wait=0)
        assert first.status is Status.RUNNING
        assert first.cancel is not None
        assert again.cancel is not None
        assert (again.cancel.reason, again.cancel.requested) == ("left", first.cancel.requested)
        await until(lambda: _is_kept(it, run))
        release.set()
    async with kernel(tmp_path, deaf) as it:
        ended = await it.finished(run)
        events = await it.events(run)

    assert ended.status is Status.CANCELLED
    assert ended.cancel is not None
    assert (ended.cancel.reason, ended.cancel.requested) == ("left", first.cancel.requested)
    assert types(events) == ["started", "cancelled"]
    assert calls == [1]


async def _is_kept(it: Kernel, run: Run) -> bool:
    return (await it.runs.get(CALLER, run.run_id)).cancel is not None


async def test_an_answer_to_a_run_that_nobody_holds_tells_its_sequence(tmp_path: Path) -> None:
    @agent("asker", restart="always")
    async def asker(context: Context, input: Any) -> Any:
        return await context.ask("Go on?")

    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker")
        await it.waiting(run)  # let go

        answered = await it.runs.answer(CALLER, run.run_id, "yes")
        again = await it.runs.answer(CALLER, run.run_id, "yes", interrupt_id=answered.interrupt_id)
        events = await it.events(run)

    assert answered.resolved_sequence == 2
    assert again.resolved_sequence == 2
    assert events[2]["type"] == "interrupt_resolved"
