"""
What is measured, row by row. Each function returns rows: a name, what was measured, its figures, and the target.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.client import Connection
from bench.processes import KEY, Process, floor, server

CONTENT = re.compile(rb'"content":"(\d{6,})"')


class Row(dict[str, Any]):
    """One line of the table; also one object of the JSON."""


def row(name: str, what: str, value: float, unit: str, floor_value: float | None, target: str, ok: bool | None) -> Row:
    ratio = None if not floor_value else value / floor_value
    return Row(name=name, what=what, value=value, unit=unit, floor=floor_value, ratio=ratio, target=target, ok=ok)


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def connect(process: Process) -> Connection:
    connection = Connection("127.0.0.1", process.port, KEY)
    await connection.open()
    return connection


async def timed_stream(process: Process, method: str, path: str, body: Any = None) -> tuple[float, float, bytes]:
    """Seconds in all, seconds to the first byte of the body, and the body."""
    connection = await connect(process)
    parts: list[bytes] = []
    first = 0.0

    def on_data(data: bytes) -> None:
        nonlocal first
        if not parts:
            first = time.perf_counter()
        parts.append(data)

    began = time.perf_counter()
    connection.send(method, path, body)
    await connection.stream(on_data)
    ended = time.perf_counter()
    connection.close()
    return ended - began, first - began, b"".join(parts)


async def b1(directory: Path) -> list[Row]:
    """One run's tokens to one client, durable; then (B4) the replay of all of them."""
    rows: list[Row] = []
    body = b""
    with server(directory / "b1") as process:
        for tokens in (10_000, 100_000):
            best = 0.0
            for _ in range(3):
                seconds, _first, body = await timed_stream(
                    process, "POST", "/agents/burst/invoke/stream", {"tokens": tokens}
                )
                best = max(best, (tokens + 2) / seconds)
            base, bulk = await file_floor(directory / "floor.bin", body, tokens + 2)
            good = best >= 100_000 and best >= 0.4 * base
            what = f"{tokens:,} tokens, emit to client"
            rows.append(row("B1", what, best, "events/s", base, "≥ 100,000, ≥ 0.4", good))
            rows.append(row("B1", "the same beside bare slices of 64 KiB", best, "events/s", bulk, "–", True))
        run_id = (re.search(rb'"run_id":"([^"]+)"', body) or [b"", b""])[1].decode()
        rows += await _b4(process, run_id, 100_002, directory)
    return rows


async def _b4(process: Process, run_id: str, events: int, directory: Path) -> list[Row]:
    best, first = 0.0, 1.0
    body = b""
    for _ in range(3):
        seconds, to_first, body = await timed_stream(process, "GET", f"/runs/{run_id}/events")
        best, first = max(best, events / seconds), min(first, to_first)
    base, _ = await file_floor(directory / "replay.bin", body, events)
    return [
        row("B4", "replay of 100,000 events", best, "events/s", base, "≥ 200,000", best >= 200_000),
        row("B4", "first byte of the replay", first * 1000, "ms", None, "≤ 5", first <= 0.005),
    ]


async def file_floor(file: Path, body: bytes, events: int) -> tuple[float, float]:
    """Events a second of the same bytes: sent frame by frame, and in bare slices."""
    file.write_bytes(body)
    with floor(file) as process:
        return await _fastest(process, "/file", events), await _fastest(process, "/bulk", events)


async def _fastest(process: Process, path: str, events: int) -> float:
    seconds = [(await timed_stream(process, "POST", path, {}))[0] for _ in range(3)]
    return events / min(seconds)


async def latencies(
    process: Process, streams: int, start: Callable[[int], tuple[str, str, Any]]
) -> tuple[list[float], int]:
    """Milliseconds from birth to client of every token of many streams, and the number of tokens."""
    found: list[float] = []

    def on_data(data: bytes) -> None:
        now = time.monotonic_ns()
        found.extend((now - int(born)) / 1e6 for born in CONTENT.findall(data))

    async def follow(n: int) -> None:
        connection = await connect(process)
        connection.send(*start(n))
        await connection.stream(on_data)
        connection.close()

    await asyncio.gather(*(follow(n) for n in range(streams)))
    return found, len(found)


async def b2(directory: Path) -> list[Row]:
    """Emit to client, many runs."""
    rows: list[Row] = []
    for streams, rate, seconds, p50_max, p99_max in ((100, 20, 5, 3.0, 15.0), (1000, 10, 6, 10.0, None)):
        tokens = rate * seconds
        delay = 1.0 + streams / 1000
        with server(directory / f"b2-{streams}") as process:

            def start(n: int, tokens: int = tokens, rate: int = rate, delay: float = delay) -> tuple[str, str, Any]:
                body = {"tokens": tokens, "rate": rate, "delay": delay + n % 97 / 97 / rate}
                return "POST", "/agents/ticker/invoke/stream", body

            found, count = await latencies(process, streams, start)
        with floor(directory / "floor.bin") as process:

            def tick(n: int, tokens: int = tokens, rate: int = rate, delay: float = delay) -> tuple[str, str, Any]:
                return "POST", f"/tick?tokens={tokens}&rate={rate}&delay={delay + n % 97 / 97 / rate:.4f}", {}

            base, _ = await latencies(process, streams, tick)
        complete = count == streams * tokens
        for share, limit in ((0.5, p50_max), (0.99, p99_max)):
            value = quantile(found, share)
            good = complete and (limit is None or value <= limit)
            what = f"{streams:,} runs × {rate}/s, p{share * 100:.0f}" + ("" if complete else " (INCOMPLETE)")
            target = "–" if limit is None else f"≤ {limit:g}"
            rows.append(row("B2", what, value, "ms", quantile(base, share), target, good))
    return rows


async def b3(directory: Path) -> list[Row]:
    """One run, many readers."""
    readers, rate, tokens = 500, 50, 250
    with server(directory / "b3") as process:
        starter = await connect(process)
        started = await starter.call("POST", "/agents/ticker/runs", {"tokens": tokens, "rate": rate, "delay": 2.0})
        path = f"/runs/{started['run_id']}/events"
        found, count = await latencies(process, readers, lambda _: ("GET", path, None))
        starter.close()
    with floor(directory / "floor.bin") as process:
        base, _ = await latencies(
            process, readers, lambda _: ("POST", f"/tick?tokens={tokens}&rate={rate}&delay=2.0", {})
        )
    complete = count == readers * tokens
    p50, p99 = quantile(found, 0.5), quantile(found, 0.99)
    return [
        row("B3", "500 readers of one run, p50", p50, "ms", quantile(base, 0.5), "≤ 8", complete and p50 <= 8),
        row("B3", "500 readers of one run, p99", p99, "ms", quantile(base, 0.99), "≤ 30", complete and p99 <= 30),
    ]


async def _first_events(process: Process, path: str, count: int) -> list[float]:
    connection = await connect(process)
    found = []
    for _ in range(count):
        seen: list[float] = []

        def on_data(data: bytes, seen: list[float] = seen) -> None:
            if not seen and b"event: " in data:
                seen.append(time.perf_counter())

        began = time.perf_counter()
        connection.send("POST", path, {})
        await connection.stream(on_data)
        found.append((seen[0] - began) * 1000)
    connection.close()
    return found


async def throughput(process: Process, path: str, clients: int, seconds: float) -> float:
    done = 0
    ends = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal done
        connection = await connect(process)
        while time.perf_counter() < ends:
            connection.send("POST", path, {})
            await connection.stream()
            done += 1
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - began)


async def b5(directory: Path) -> list[Row]:
    """From the request to the first event, and finished runs a second."""
    path = "/agents/one/invoke/stream"
    with server(directory / "b5") as process:
        await _first_events(process, path, 100)
        found = await _first_events(process, path, 1000)
        rate = max([await throughput(process, path, 16, 3.0) for _ in range(2)])
    with floor(directory / "floor.bin") as process:
        base = await _first_events(process, "/one", 1000)
        base_rate = await throughput(process, "/one", 16, 3.0)
    p50, p99 = quantile(found, 0.5), quantile(found, 0.99)
    return [
        row("B5", "POST to first event, p50", p50, "ms", quantile(base, 0.5), "≤ 3", p50 <= 3),
        row("B5", "POST to first event, p99", p99, "ms", quantile(base, 0.99), "≤ 15", p99 <= 15),
        row("B5", "finished runs, 16 clients", rate, "runs/s", base_rate, "≥ 1,000", rate >= 1000),
    ]


async def b6(directory: Path) -> list[Row]:
    """Memory."""
    streams = 500
    with server(directory / "b6") as process:
        starter = await connect(process)
        started = await starter.call("POST", "/agents/idle/runs", {})
        rest = process.memory
        connections = []
        for _ in range(streams):
            connection = await connect(process)
            connection.send("GET", f"/runs/{started['run_id']}/events")
            await connection.head()
            connections.append(connection)
        await starter.call("GET", "/health")
        each = (process.memory - rest) / streams / 1024
        for connection in connections:
            connection.close()
        starter.close()
    with server(directory / "b6a", "--agent", "assistant") as process:
        at_start = process.memory / 1e6
        await timed_stream(process, "POST", "/invoke/stream", {"message": "Say hello in one short sentence."})
        after = process.memory / 1e6
    return [
        row("B6", "an open idle stream", each, "KiB", None, "≤ 20", each <= 20),
        row("B6", "server at rest, first /health", at_start, "MB", None, "≤ 80", at_start <= 80),
        row("B6", "server after an assistant run", after, "MB", None, "≤ 160", after <= 160),
    ]


async def b7(directory: Path) -> list[Row]:
    """Start."""
    starts = []
    for n in range(3):
        with server(directory / f"b7-{n}", "--agent", "assistant") as process:
            starts.append(process.seconds)
    code = "import time; t = time.perf_counter(); import holdfast; print(time.perf_counter() - t)"
    imports = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(5)
    ]
    start, seconds = statistics.median(starts), statistics.median(imports) * 1000
    return [
        row("B7", "start to /health", start, "s", None, "≤ 1.5", start <= 1.5),
        row("B7", "import holdfast", seconds, "ms", None, "≤ 150", seconds <= 150),
    ]


async def b8(directory: Path) -> list[Row]:
    """Durable steps."""
    with server(directory / "b8") as process:
        connection = await connect(process)
        best = 0.0
        for _ in range(3):
            began = time.perf_counter()
            await connection.call("POST", "/agents/stepper/invoke", {"steps": 4000})
            best = max(best, 4000 / (time.perf_counter() - began))

        async def run() -> None:
            own = await connect(process)
            await own.call("POST", "/agents/stepper/invoke", {"steps": 200})
            own.close()

        began = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(100)))
        together = 100 * 200 / (time.perf_counter() - began)
        connection.close()
    return [
        row("B8", "sequential durable steps, one run", best, "steps/s", None, "≥ 2,000", best >= 2000),
        row("B8", "the same, 100 runs at once", together, "steps/s", None, "≥ 5,000", together >= 5000),
    ]


ROWS: dict[str, Callable[[Path], Any]] = {"B1": b1, "B2": b2, "B3": b3, "B5": b5, "B6": b6, "B7": b7, "B8": b8}
