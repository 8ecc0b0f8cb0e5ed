"""
The rows of the Runtime API: the two ways to start a run and read it, for each kind of agent code, and what filters and
the compact view cost and save. The floor sends the same bytes, prebuilt, one frame a write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.processes import Process, server
from bench.rows import Row, connect, file_floor, row, timed_stream

TOKENS = 10_000
REPEATS = 5
AGENTS = (("async handler", "burst"), ("sync handler", "burst-sync"))
GRAPH = Path(__file__).with_name("graph_agents.py")


async def r1(directory: Path) -> list[Row]:
    """10,000 tokens from start to end: `/invoke/stream`, and `/runs` with its events, for each kind of agent."""
    rows: list[Row] = []
    with server(directory / "r1") as process:
        for kind, agent in AGENTS:
            rows += await _both_ways(process, kind, agent, directory)
    with server(directory / "r1-graph", str(GRAPH)) as process:
        rows += await _both_ways(process, "graph of LangGraph", "graph", directory)
    return rows


async def _both_ways(process: Process, kind: str, agent: str, directory: Path) -> list[Row]:
    rows = []
    for way, measure in (("/invoke/stream", _invoke_stream), ("/runs + events", _runs_and_events)):
        seconds, body = 60.0, b""
        for _ in range(REPEATS):
            took, body = await measure(process, agent)
            seconds = min(seconds, took)
        events = body.count(b"\nevent: ")
        complete = body.count(b"\nevent: token\n") == TOKENS and b"\nevent: complete\n" in body
        base, _ = await file_floor(directory / "r1.bin", body, events)
        what = f"{kind}, {way}" + ("" if complete else " (INCOMPLETE)")
        rows.append(row("R1", what, events / seconds, "events/s", base, "–", complete))
    return rows


async def _invoke_stream(process: Process, agent: str) -> tuple[float, bytes]:
    seconds, _, body = await timed_stream(process, "POST", f"/agents/{agent}/invoke/stream", {"tokens": TOKENS})
    return seconds, body


async def _runs_and_events(process: Process, agent: str) -> tuple[float, bytes]:
    connection = await connect(process)
    parts: list[bytes] = []
    began = time.perf_counter()
    started = await connection.call("POST", f"/agents/{agent}/runs", {"tokens": TOKENS})
    connection.send("GET", f"/runs/{started['run_id']}/events")
    await connection.stream(parts.append)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds, b"".join(parts)


async def r2(directory: Path) -> list[Row]:
    """A run of 100,000 tokens read in other ways; the floor's column holds the same reading of everything."""
    tokens = 100_000
    with server(directory / "r2") as process:
        connection = await connect(process)
        await connection.call("POST", "/agents/burst/invoke?run_id=r2", {"tokens": tokens})
        connection.close()
        found = {}
        for query in ("", "?types=token", "?types=progress", "?view=compact"):
            taken = [await timed_stream(process, "GET", f"/runs/r2/events{query}") for _ in range(REPEATS)]
            found[query] = (min(seconds for seconds, _, _ in taken), len(taken[0][2]))
    (whole, size), rows = found[""], []
    for query, what in (
        ("?types=token", "a filter that hides nothing"),
        ("?types=progress", "a filter that hides all tokens"),
        ("?view=compact", "the compact view"),
    ):
        rate = (tokens + 2) / found[query][0]
        rows.append(row("R2", f"replay through {what}", rate, "events/s", (tokens + 2) / whole, "–", True))
    share = found["?view=compact"][1] / size
    rows.append(row("R2", "bytes of the compact view", share * 100, "%", None, "< 5", share < 0.05))
    return rows


ROWS: dict[str, Callable[[Path], Any]] = {"R1": r1, "R2": r2}
