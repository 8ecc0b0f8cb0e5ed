"""Runs whose tools execute here: one client process with a thousand runs that wait, and a round trip beside them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.processes import KEY, Process, server
from bench.rows import Row, quantile, row
from holdfast.client.workflow import RunResult, WorkflowClient, WorkflowRun

WAITING = 1_000
# A status shows every round of its run, so a run of many rounds goes slower with each.
RUNS, ROUNDS = 30, 10
# Longer than the heartbeats are apart, so that each stream has been written to and read.
REST_SECONDS = 32


class Tools:
    """The tools of the waiting runs, which wait too, and of the one that goes round."""

    def __init__(self) -> None:
        self.held = 0
        self.all_held = asyncio.Event()
        self.release = asyncio.Event()
        self.called_at: list[float] = []

    async def hold(self, args: dict[str, Any], agent_id: str, task_id: int) -> str:
        self.held += 1
        if self.held == WAITING:
            self.all_held.set()
        await self.release.wait()
        return "released"

    async def ping(self, args: dict[str, Any], agent_id: str, task_id: int) -> str:
        self.called_at.append(time.perf_counter())
        return "pong"


async def t1(directory: Path) -> list[Row]:
    """One client: round trips of a run alone and beside 1,000 that wait, memory while they wait, and their release."""
    tools = Tools()
    with server(directory / "t1") as process:
        async with WorkflowClient(f"http://127.0.0.1:{process.port}") as client:
            client.set_api_key(KEY)
            client.set_tools({"hold": tools.hold, "ping": tools.ping})
            alone = await _round_trips(client, tools)
            before = _memory(process)
            waits = await _waiting(client, tools)
            full = _memory(process)
            beside = await _round_trips(client, tools)
            early = _memory(process)
            await asyncio.sleep(REST_SECONDS)
            late = _memory(process)
            began = time.perf_counter()
            tools.release.set()
            results = await asyncio.gather(*waits)
            seconds = time.perf_counter() - began
    complete = {result.status for result in results} == {"completed"} and len(results) == WAITING
    each = [(b - a) / WAITING / 1024 for a, b in zip(before, full, strict=True)]
    grown = [(b - a) / 1024**2 for a, b in zip(early, late, strict=True)]
    median = quantile(beside, 0.5)
    return [
        row("T1", "round trip of a tool, p50", median, "ms", quantile(alone, 0.5), "< 10", median < 10),
        row("T1", "the same, p99", quantile(beside, 0.99), "ms", quantile(alone, 0.99), "–", None),
        row("T1", "a waiting run with its handler, client", each[0], "KiB", None, "≤ 100", each[0] <= 100),
        row("T1", "the same, server", each[1], "KiB", None, "≤ 100", each[1] <= 100),
        row("T1", f"growth in {REST_SECONDS} s of waiting, client", grown[0], "MiB", None, "≤ 2", grown[0] <= 2),
        row("T1", "the same, server", grown[1], "MiB", None, "≤ 2", grown[1] <= 2),
        row("T1", "1,000 outputs at once, to the last result", seconds, "s", None, "–", complete),
    ]


async def _round_trips(client: WorkflowClient, tools: Tools) -> list[float]:
    """Milliseconds from one call of the handler to the next: output, post, resume, pause, stream, handler."""
    trips: list[float] = []
    for _ in range(RUNS):
        tools.called_at.clear()
        await client.run_agent("caller", {"1": "ping", "2": str(ROUNDS)})
        trips += [(b - a) * 1000 for a, b in zip(tools.called_at, tools.called_at[1:], strict=False)]
    return trips


async def _waiting(client: WorkflowClient, tools: Tools) -> list[asyncio.Task[RunResult]]:
    """Runs whose handlers are all at work, being awaited."""
    places = asyncio.Semaphore(20)

    async def started() -> WorkflowRun:
        async with places:
            return await client.execute_agent("caller", {"1": "hold", "2": "1"})

    runs = await asyncio.gather(*(started() for _ in range(WAITING)))
    waits = [asyncio.create_task(run.get_response()) for run in runs]
    await tools.all_held.wait()
    return waits


def _memory(process: Process) -> tuple[int, int]:
    """Resident bytes of the client's process, which is this one, and of the server's."""
    return int(psutil.Process(os.getpid()).memory_info().rss), process.memory


ROWS: dict[str, Callable[[Path], Any]] = {"T1": t1}
