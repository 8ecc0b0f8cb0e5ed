"""
The rows of Postgres: a real one from the wheel, on the same machine as everything else, with what it needs for
durability switched on as by default.

Where it says so, the column of the floor holds the same measurement another way: through one process instead of two,
or without hints.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from bench.processes import Process, server
from bench.rows import Row, connect, file_floor, latencies, quantile, row, throughput, timed_stream
from tests.support.postgres import PostgresServer

# Two servers, Postgres and the client: with fewer cores, two servers only take from each other.
CORES_MIN = 4


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[str]:
    """The URL of an empty database of a server of its own."""
    postgres = PostgresServer()
    try:
        postgres.start()
        yield postgres.url(await postgres.make_database())
    finally:
        postgres.remove()


async def p1(directory: Path) -> list[Row]:
    """Emit to client, many runs, read through another process than the one that executes them."""
    runs, rate, tokens = 100, 20, 100
    found: dict[str, list[float]] = {}
    for reader in ("executing", "other"):
        async with database() as store:
            with (
                server(directory / f"p1-{reader}-a", store=store) as executing,
                server(directory / f"p1-{reader}-b", store=store, options=("--no-worker",)) as other,
            ):
                found[reader] = await _read_through(other if reader == "other" else executing, executing, runs, rate)
    complete = all(len(values) == runs * tokens for values in found.values())
    rows = []
    for share, limit in ((0.5, 15.0), (0.99, 100.0)):
        value, own = quantile(found["other"], share), quantile(found["executing"], share)
        what = f"100 runs × 20/s through another process (floor: their own), p{share * 100:.0f}"
        what += "" if complete else " (INCOMPLETE)"
        rows.append(row("P1", what, value, "ms", own, f"≤ {limit:g}", complete and value <= limit))
    return rows


async def _read_through(reader: Process, executing: Process, runs: int, rate: int) -> list[float]:
    starter = await connect(executing)
    paths = []
    for n in range(runs):
        body = {"tokens": rate * 5, "rate": rate, "delay": 2.0 + n % 97 / 97 / rate}
        run = await starter.call("POST", "/agents/ticker/runs", body)
        paths.append(f"/runs/{run['run_id']}/events")
    found, _ = await latencies(reader, runs, lambda n: ("GET", paths[n], None))
    starter.close()
    return found


async def p2(directory: Path) -> list[Row]:
    """One run's tokens to one client, durable in Postgres."""
    tokens, best, body = 100_000, 0.0, b""
    async with database() as store:
        with server(directory / "p2", store=store) as process:
            for _ in range(3):
                path = "/agents/burst/invoke/stream"
                seconds, _first, body = await timed_stream(process, "POST", path, {"tokens": tokens})
                best = max(best, (tokens + 2) / seconds)
    base, _ = await file_floor(directory / "p2.bin", body, tokens + 2)
    return [row("P2", "100,000 tokens, emit to client", best, "events/s", base, "≥ 30,000", best >= 30_000)]


async def p3(directory: Path) -> list[Row]:
    """What hints to other processes cost those who write."""
    rounds, seconds = 5, 2.0
    rates: dict[bool, list[float]] = {True: [], False: []}
    async with database() as store:
        with _listener(store):
            for _ in range(rounds):
                for notify in (True, False):
                    rates[notify].append(await _append_rate(store, notify=notify, seconds=seconds))
    on, off = statistics.median(rates[True]), statistics.median(rates[False])
    what = "commits of 16 writers with hints (floor: without)"
    return [row("P3", what, on, "commits/s", off, "≥ 0.9", on >= 0.9 * off)]


@contextlib.contextmanager
def _listener(store: str) -> Any:
    """Another process that hears the hints."""
    with subprocess.Popen([sys.executable, "-m", "bench.writers", "listen", store], stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        try:
            assert popen.stdout.readline() == b"listening\n"
            yield
        finally:
            popen.kill()


async def _append_rate(store: str, *, notify: bool, seconds: float) -> float:
    """Commits a second of sixteen openings of the store, in two processes, each with one run of its own."""
    command = [sys.executable, "-m", "bench.writers", "write", store, str(int(notify)), str(seconds)]
    writers = [
        await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    total = 0.0
    for writer in writers:
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"ready\n"
    for writer, output in zip(writers, await asyncio.gather(*(w.communicate(b"go\n") for w in writers)), strict=True):
        if writer.returncode:
            raise RuntimeError(f"a writer ended with {writer.returncode}")
        total += float(output[0])
    return total


async def p4(directory: Path) -> list[Row]:
    """Finished runs a second of two processes and of one."""
    rates = {}
    for count in (1, 2):
        async with database() as store:
            with contextlib.ExitStack() as stack:
                processes = [
                    stack.enter_context(server(directory / f"p4-{count}-{n}", store=store)) for n in range(count)
                ]
                await _runs_rate(processes, 0.5)
                rates[count] = max([await _runs_rate(processes, 3.0) for _ in range(3)])
    cores = os.cpu_count() or 1
    is_met = rates[2] >= 1.6 * rates[1]
    target = "≥ 1.6" if cores >= CORES_MIN else f"≥ 1.6 from {CORES_MIN} cores on; here {cores}"
    what = "finished runs of two processes, 32 clients (floor: of one)"
    return [row("P4", what, rates[2], "runs/s", rates[1], target, is_met or (False if cores >= CORES_MIN else None))]


async def _runs_rate(processes: Sequence[Process], seconds: float) -> float:
    path, clients = "/agents/one/invoke/stream", 32 // len(processes)
    return sum(await asyncio.gather(*(throughput(process, path, clients, seconds) for process in processes)))


ROWS = {"P1": p1, "P2": p2, "P3": p3, "P4": p4}
