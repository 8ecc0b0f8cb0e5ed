"""An answer that comes when a run is executed again, before its code has asked for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.agents.function import FunctionAgent
from holdfast.model import Status
from tests.support.kernel import CALLER, kernel


def asks(begun: asyncio.Event, gate: asyncio.Event, *, approval: bool) -> FunctionAgent:
    """It says when it begins, and asks once the gate is open."""

    @agent("asks", restart="always")
    async def asks(context: Context, input: Any) -> Any:
        async def work() -> Any:
            begun.set()
            await gate.wait()
            return bool(await context.approve("May I?")) if approval else await context.ask("Which?")

        # Inside of a step, so that a crash finds the run executing and it is executed again without an answer.
        return await context.step("work", work)

    return asks


@pytest.mark.parametrize("approval", [False, True])
async def test_it_is_what_the_code_gets_when_it_asks(tmp_path: Path, approval: bool) -> None:
    first, second, is_open = asyncio.Event(), asyncio.Event(), asyncio.Event()
    is_open.set()
    async with kernel(tmp_path, asks(first, is_open, approval=approval), crash=True) as it:
        run = await it.start("asks")
        [interrupt] = await _asked(it, run)

    gate = asyncio.Event()
    async with kernel(tmp_path, asks(second, gate, approval=approval)) as it:
        await second.wait()
        await it.runs.answer(CALLER, run.run_id, True if approval else "this", interrupt_id=interrupt.interrupt_id)
        events = await it.stored(run)
        gate.set()
        ended = await it.finished(run)

    assert [event["type"] for event in events][-1] == "interrupt_resolved"
    assert (ended.status, ended.output) == (Status.COMPLETED, b"true" if approval else b'"this"')


async def _asked(it: Any, run: Any) -> Any:
    """The open questions of a run whose code is still held in memory."""
    reader = it.runs.follow(run, after=-1)
    while b'"interrupt"' not in b"".join(line.encode() for line in (await reader.next()).lines):
        pass
    reader.close()
    return await it.runs.interrupts(CALLER, run.run_id)
