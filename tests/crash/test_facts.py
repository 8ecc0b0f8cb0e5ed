"""An answer that was accepted is never lost, at whatever moment the process dies that was to pass it on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.errors import StoreUnavailable
from holdfast.execution.execution import Ending
from holdfast.execution.program import Program
from holdfast.execution.recovery import TakenUp
from holdfast.model import Run
from holdfast.store.base import InboxRow, PutInbox
from tests.support.gates import GatedStore
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace
from tests.support.until import until


@agent("asker")
async def asker(context: Context, input: Any) -> Any:
    return await context.ask("Which?")


async def _accept(it: Kernel, run: Run, kind: str) -> None:
    """Commit a fact for the holder of the run's lease, without telling it."""
    (interrupt,) = await it.runs.interrupts(CALLER, run.run_id)
    row = InboxRow(
        number=run.number,
        kind=kind,
        interrupt_id=interrupt.interrupt_id if kind == "answer" else "",
        answer=b'{"answer":"this","note":null,"blocks":null}' if kind == "answer" else b"",
        by="caller",
        caller="tester",
        created_at=1,
    )
    await it.journal.submit(lambda _: PutInbox(row=row))


async def _never(number: int) -> None:
    await asyncio.Event().wait()


@pytest.mark.crash
@pytest.mark.parametrize(("kind", "status"), [("answer", "completed"), ("cancel", "cancelled")])
async def test_a_fact_outlives_a_holder_that_dies_after_letting_the_run_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, status: str
) -> None:
    """The lease is given up, and the process dies before it has looked at what came for it meanwhile."""
    async with kernel(tmp_path, asker, settings=replace(QUICK, grace_seconds=60), crash=True) as it:
        monkeypatch.setattr(it.worker, "let_go", _never)
        run = await it.start("asker")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
        await _accept(it, run, kind)
        execution = it.worker.execution(run.number)
        assert execution is not None
        execution.end(Ending.PARK)

        async def is_let_go() -> bool:
            return not (await it.runs.get(CALLER, run.run_id)).is_leased

        await until(is_let_go)
    async with kernel(tmp_path, asker) as it:
        ended = await it.finished(run, seconds=10)

    assert ended.status == status


@pytest.mark.crash
@pytest.mark.parametrize(("kind", "status"), [("answer", "completed"), ("cancel", "cancelled")])
async def test_a_fact_outlives_a_holder_that_dies_before_it_has_looked(tmp_path: Path, kind: str, status: str) -> None:
    async with kernel(tmp_path, asker, settings=replace(QUICK, grace_seconds=60), crash=True) as it:
        run = await it.start("asker")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
        await _accept(it, run, kind)
    async with kernel(tmp_path, asker) as it:
        ended = await it.finished(run, seconds=10)

    assert ended.status == status


async def test_an_answer_that_comes_while_a_waiting_run_is_let_go_has_it_executed_again(tmp_path: Path) -> None:
    """Code that takes a moment to stop does not see the answer any more, and the run must not wait for another one."""
    stopped = asyncio.Event()

    @agent("slow_to_stop")
    async def slow_to_stop(context: Context, input: Any) -> Any:
        try:
            return await context.ask("Which?")
        finally:
            await stopped.wait()

    async with kernel(tmp_path, slow_to_stop, settings=replace(QUICK, grace_seconds=60, cancel_seconds=60)) as it:
        run = await it.start("slow_to_stop")
        await it.runs.wait(CALLER, run.run_id, timeout=10)
        execution = it.worker.execution(run.number)
        assert execution is not None
        execution.end(Ending.PARK)
        await _accept(it, run, "answer")
        await it.worker.look_at_inbox([run.number])
        stopped.set()

        ended = await it.finished(run, seconds=5)

    assert ended.status == "completed"


async def test_code_that_returns_before_its_answer_is_committed_completes(tmp_path: Path) -> None:
    """The disk is slow: answer and end go in one write."""
    async with kernel(tmp_path, asker, settings=replace(QUICK, grace_seconds=60)) as it:
        run = await it.start("asker")
        other = await it.start("asker")
        for item in (run, other):
            await it.runs.wait(CALLER, item.run_id, timeout=10)
        await _accept(it, run, "answer")
        store = GatedStore(it.store)
        it.journal.store = store
        store.hold()
        busy = it.worker.execution(other.number)
        execution = it.worker.execution(run.number)
        assert busy is not None
        assert execution is not None
        busy.writer.token("x")
        await store.held.wait()
        await it.worker.look_at_inbox([run.number])
        await until(lambda: execution.is_over)
        store.commits.set()
        ended = await it.finished(run)

    assert ended.status == "completed"


async def test_a_run_that_could_not_be_taken_up_is_tried_again_by_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away between claiming it and reading its record, and there is no other process."""
    async with kernel(tmp_path, asker, settings=replace(QUICK, lease_seconds=0.2, renew_seconds=0.05)) as it:
        take_up = it.worker._recovery.take_up
        failures = [StoreUnavailable("away"), StoreUnavailable("away")]

        async def sometimes(run: Run, program: Program) -> TakenUp:
            if failures:
                raise failures.pop()
            return await take_up(run, program)

        monkeypatch.setattr(it.worker._recovery, "take_up", sometimes)
        run = await it.start("asker")
        await it.waiting(run)
        (interrupt,) = await it.runs.interrupts(CALLER, run.run_id)
        await it.runs.answer(CALLER, run.run_id, "this", interrupt_id=interrupt.interrupt_id)

        ended = await it.finished(run, seconds=5)

    assert failures == []
    assert ended.status == "completed"
