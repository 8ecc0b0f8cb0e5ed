"""Forks: a new run that has on record what another one had before a point."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.agents.function import FunctionAgent
from holdfast.errors import InvalidRequest, RunNotFound
from holdfast.model import Run, Status
from holdfast.runs import Caller, ForkRequest, StartRequest, ToolOutput
from holdfast.store.base import RunQuery
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace


class Calls(Counter[str]):
    """How often each step was really executed."""

    def agent(self, *, visible: bool = True) -> FunctionAgent:
        @agent("stages", restart="always")
        async def stages(context: Context, input: dict[str, Any]) -> list[Any]:
            def work(name: str) -> str:
                self[name] += 1
                if name == input.get("fails"):
                    raise ValueError("not this time")
                return f"{name}{self[name]}"

            await context.token("before ")
            results = [await context.step(name, work, name, visible=visible) for name in ("a", "b", "c")]
            await context.token("after")
            return [*results, input.get("word")]

        return stages


async def fork(it: Kernel, run: Run, **request: Any) -> Run:
    return (await it.runs.fork(CALLER, run.run_id, ForkRequest(**request))).run


@pytest.mark.parametrize("visible", [True, False])
async def test_steps_before_the_point_are_not_executed_and_later_ones_are(tmp_path: Path, visible: bool) -> None:
    calls = Calls()
    async with kernel(tmp_path, calls.agent(visible=visible)) as it:
        run = await it.finished(await it.start("stages", {}))
        before = await it.events(run)

        forked = await it.finished(await fork(it, run, step="b"))

        steps = await it.runs.steps(CALLER, forked.run_id)
        events, untouched = await it.events(forked), await it.events(run)

    assert run.output == b'["a1","b1","c1",null]'
    assert forked.output == b'["a1","b2","c2",null]'
    assert [(step.key, step.reused) for step in steps] == [("a", True), ("b", False), ("c", False)]
    assert before == untouched
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert "".join(event["content"] for event in events if event["type"] == "token") == "before after"
    assert events[0]["forked_from"]["run_id"] == run.run_id
    assert events[0]["thread_id"] == forked.run_id


async def test_each_sequence_keeps_exactly_the_steps_that_were_over_before_it(tmp_path: Path) -> None:
    calls = Calls()
    async with kernel(tmp_path, calls.agent()) as it:
        run = await it.finished(await it.start("stages", {}))
        events = await it.events(run)
        ends = [event["sequence"] for event in events if event["type"] == "step_completed"]
        for sequence in range(run.tail_sequence + 1):
            forked = await it.finished(await fork(it, run, from_sequence=sequence))
            reused = [step.key for step in await it.runs.steps(CALLER, forked.run_id) if step.reused]

            assert reused == ["a", "b", "c"][: sum(end < sequence for end in ends)], sequence
            assert forked.status is Status.COMPLETED

        with pytest.raises(InvalidRequest):
            await fork(it, run, from_sequence=run.tail_sequence + 1)


async def test_a_fork_may_have_another_input_and_a_fork_of_a_fork_keeps_its_results(tmp_path: Path) -> None:
    calls = Calls()
    async with kernel(tmp_path, calls.agent()) as it:
        run = await it.finished(await it.start("stages", {}))

        second = await it.finished(await fork(it, run, step="c", start=StartRequest(input={"word": "new"})))
        third = await it.finished(await fork(it, second, step="c"))

    assert second.output == b'["a1","b1","c2","new"]'
    assert third.output == b'["a1","b1","c3","new"]'


async def test_a_failed_step_is_tried_again_by_a_fork_from_the_end(tmp_path: Path) -> None:
    calls = Calls()
    async with kernel(tmp_path, calls.agent()) as it:
        run = await it.finished(await it.start("stages", {"fails": "b"}))
        assert run.status is Status.FAILED

        forked = await fork(it, run, from_sequence=run.tail_sequence, start=StartRequest(input={}))
        ended = await it.finished(forked)

    assert ended.output == b'["a1","b2","c1",null]'


async def test_a_failure_that_the_code_went_on_from_is_kept(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()

    @agent("careful")
    async def careful(context: Context, input: Any) -> str:
        def broken() -> None:
            calls["broken"] += 1
            raise ValueError("never")

        def plan() -> str:
            calls["plan"] += 1
            return "plan b"

        try:
            await context.step("broken", broken)
        except Exception:  # noqa: BLE001
            return str(await context.step("plan", plan))
        return "unreachable"

    async with kernel(tmp_path, careful) as it:
        run = await it.finished(await it.start("careful", {}))
        forked = await it.finished(await fork(it, run, from_sequence=run.tail_sequence))

    assert forked.output == b'"plan b"'
    assert calls == {"broken": 1, "plan": 1}


async def test_answers_before_the_point_are_kept_and_later_questions_asked_anew(tmp_path: Path) -> None:
    @agent("asker", restart="always")
    async def asker(context: Context, input: Any) -> list[Any]:
        called = await context.call_tool("files.read", {"path": "a"})
        first = await context.ask("first?")
        return [called, first, await context.ask("second?")]

    async with kernel(tmp_path, asker) as it:
        run = await it.start("asker", {})
        await it.waiting(run)
        (call,) = await it.runs.interrupts(CALLER, run.run_id)
        outputs = [ToolOutput(call.parts[0].tool_call_id, "text")]
        await it.runs.answer(CALLER, run.run_id, outputs, interrupt_id=call.interrupt_id)
        await answer(it, run, "one")
        await answer(it, run, "two")
        ended = await it.finished(run)
        answered = [event["sequence"] for event in await it.events(run) if event["type"] == "interrupt_resolved"]

        forked = await fork(it, run, from_sequence=answered[2])
        await answer(it, forked, "three")
        again = await it.finished(forked)
        asked = [event["question"] for event in await it.events(forked) if event["type"] == "interrupt"]
        steps = await it.runs.steps(CALLER, forked.run_id)

    assert ended.output == b'["text","one","two"]'
    assert again.output == b'["text","one","three"]'
    assert asked == ["second?"]
    assert [(step.name, step.status, step.output, step.reused) for step in steps] == [
        ("files.read", "completed", b'"text"', True)
    ]


async def answer(it: Kernel, run: Run, text: str) -> None:
    """Answer what the run asks next."""
    while not any(item.is_pending for item in await it.runs.interrupts(CALLER, run.run_id)):
        current = await it.runs.wait(CALLER, run.run_id, timeout=20)
        assert not current.status.is_final, current.error
    await it.runs.answer(CALLER, run.run_id, text)


async def test_a_fork_that_is_queued_or_dies_still_has_what_it_took_over(tmp_path: Path) -> None:
    """Another process, or the next one, takes it up from the store alone."""
    calls = Calls()
    nobody = replace(QUICK, runs_max=0)
    async with kernel(tmp_path, calls.agent()) as it:
        run = await it.finished(await it.start("stages", {}))
    async with kernel(tmp_path, calls.agent(), settings=nobody, crash=True) as it:
        forked = await fork(it, run, step="c")
        assert forked.status is Status.QUEUED

    async with kernel(tmp_path, calls.agent()) as it:
        ended = await it.finished(forked)
        events = await it.events(forked)

    assert ended.output == b'["a1","b1","c2",null]'
    assert "".join(event["content"] for event in events if event["type"] == "token") == "before after"


async def test_a_fork_that_dies_in_mid_run_goes_on_with_old_and_own_steps(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()
    reached = asyncio.Event()

    @agent("stages", restart="always")
    async def stages(context: Context, input: Any) -> list[str]:
        def work(name: str) -> str:
            calls[name] += 1
            return f"{name}{calls[name]}"

        results = []
        for name in ("a", "b", "c"):
            await context.token(name)
            results.append(await context.step(name, work, name))
            if name == "b" and calls["b"] == 2 and not reached.is_set():
                reached.set()
                await asyncio.Event().wait()
        return results

    async with kernel(tmp_path, stages, crash=True) as it:
        run = await it.finished(await it.start("stages", {}))
        forked = await fork(it, run, step="b")
        await reached.wait()
    async with kernel(tmp_path, stages) as it:
        ended = await it.finished(forked)
        events = await it.events(forked)

    assert ended.output == b'["a1","b2","c2"]'
    discarded = {
        n for event in events if event["type"] == "restarted" for pair in event["discard"] for n in range(*pair)
    }
    tokens = [event["content"] for event in events if event["type"] == "token" and event["sequence"] not in discarded]
    assert tokens == ["a", "b", "c"]


async def test_what_cannot_be_forked_is_refused(tmp_path: Path) -> None:
    calls = Calls()
    async with kernel(tmp_path, calls.agent()) as it:
        run = await it.finished(await it.start("stages", {}))

        with pytest.raises(InvalidRequest):
            await fork(it, run, step="z")
        with pytest.raises(RunNotFound):
            await it.runs.fork(Caller("x", tenant="other"), run.run_id, ForkRequest())
        assert len(await it.runs.list(RunQuery(tenant="default"))) == 1
