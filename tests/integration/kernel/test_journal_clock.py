"""Time is one API's cursor, so it only grows: a clock that is set back does not take events with it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

from holdfast import Context, agent
from holdfast.clock import HeldClock
from holdfast.model.encoding import event_time
from tests.support.kernel import CALLER, Kernel, kernel

HOUR = 3600.0


@agent("talker")
async def talker(context: Context, input: Any) -> None:
    for _ in range(5):
        await context.token("x")


async def _times(it: Kernel, count: int) -> list[int]:
    """The timestamps of all events of so many new runs, in the order in which they were written."""
    times: list[int] = []
    for _ in range(count):
        run = await it.start("talker")
        await it.finished(run)
        for segment in await it.store.segments(run.number, after=-1, bytes_max=1 << 20):
            times += [event_time(line) for line in segment.body.decode().splitlines()]
    return times


def _grow(times: list[int]) -> bool:
    return all(later - earlier >= 2 for earlier, later in pairwise(times))


async def test_a_clock_set_back_by_an_hour_does_not_turn_time_back(tmp_path: Path) -> None:
    clock = HeldClock()
    async with kernel(tmp_path, talker, clock=clock) as it:
        times = await _times(it, 2)
        clock.set_back(HOUR)
        times += await _times(it, 2)

    async with kernel(tmp_path, talker, clock=clock) as it:  # a new process, the clock still an hour behind
        times += await _times(it, 2)
        clock.advance(2 * HOUR)
        times += await _times(it, 1)
        newest = (await it.store.info()).last_timestamp

    assert _grow(times)
    assert newest == times[-1]
    assert times[-1] >= clock.now()


async def test_time_grows_while_a_run_writes_and_the_clock_jumps(tmp_path: Path) -> None:
    clock = HeldClock()
    gate = asyncio.Event()

    @agent("gated")
    async def gated(context: Context, input: Any) -> None:
        await context.token("before")
        await gate.wait()
        await context.token("after")

    async with kernel(tmp_path, gated, clock=clock) as it:
        run = await it.start("gated")
        reader = it.runs.follow(await it.runs.get(CALLER, run.run_id), after=0)
        await reader.next()
        clock.set_back(HOUR)
        gate.set()
        await it.finished(run)
        reader.close()
        segments = await it.store.segments(run.number, after=-1, bytes_max=1 << 20)

    assert _grow([event_time(line) for segment in segments for line in segment.body.decode().splitlines()])


async def test_time_grows_after_the_newest_run_was_deleted_and_the_process_ended(tmp_path: Path) -> None:
    """What held the newest timestamp is gone; a reader's cursor is not."""
    clock = HeldClock()
    async with kernel(tmp_path, talker, clock=clock) as it:
        times = await _times(it, 1)
        await it.store.prune(ended_before=clock.now() + 10_000_000, rows_before=clock.now() + 10_000_000, now=0)
        clock.set_back(HOUR)
    async with kernel(tmp_path, talker, clock=clock) as it:
        times += await _times(it, 1)

    assert _grow(times)
