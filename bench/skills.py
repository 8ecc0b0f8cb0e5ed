"""
The rows of skills: durable steps, streamed, over HTTP. Times are from the request's first byte to the last byte of `done`;
what the server by itself needs is told by the events: from `started` to the end.

The skills are files in the folder in which the server is started, and call a function of the package.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.processes import Process, server
from bench.rows import Row, connect, row, timed_stream

STEPS = 100
REPEATS = 30
STREAMS = 50

_STEP = {"uses": "text.content.template", "input": {"template": "x"}}


def _skill(directory: Path, name: str, *, count: int, is_sequence: bool) -> None:
    steps = [
        {
            "id": f"s{place}",
            **_STEP,
            "output": {"text": "outputs.text" if place == count - 1 else f"vars.v{place}"},
            "depends_on": [f"s{place - 1}"] if is_sequence and place else [],
        }
        for place in range(count)
    ]
    skill: dict[str, Any] = {"id": name, "version": "1.0.0", "name": name, "description": name, "inputs": {}}
    skill |= {"outputs": {"text": {"type": "string", "required": True}}, "steps": steps}
    # JSON is YAML.
    (directory / f"{name}.skill.yaml").write_text(json.dumps(skill))


def _files(directory: Path) -> Path:
    folder = directory / "skills"
    folder.mkdir(parents=True)
    _skill(folder, "bench.one", count=1, is_sequence=True)
    _skill(folder, "bench.sequence", count=STEPS, is_sequence=True)
    _skill(folder, "bench.wide", count=STEPS, is_sequence=False)
    return directory


async def s1(directory: Path) -> list[Row]:
    """A skill of one step, one of 100 steps after each other, and one of 100 independent steps; then 50 streams."""
    os.environ["HOLDFAST_SKILLS_ROOTS"] = str(_files(directory / "files"))
    try:
        with server(directory / "s1") as process:
            one = await _taken(process, "bench.one")
            sequence = await _taken(process, "bench.sequence")
            wide = await _taken(process, "bench.wide")
            at_once = await _at_once(process)
    finally:
        del os.environ["HOLDFAST_SKILLS_ROOTS"]
    limit = 3.0
    return [
        row("S1", "1 step, request to done, p50", one.all, "ms", None, f"< {limit:g}", one.all < limit),
        row("S1", "1 step, request to first event, p50", one.first, "ms", None, "–", None),
        row(
            "S1",
            f"{STEPS} steps in sequence, start to end, p50",
            sequence.inside,
            "ms",
            None,
            "< 27",
            sequence.inside < 27,
        ),
        row(
            "S1",
            f"{STEPS} steps in sequence, request to done, p50",
            sequence.all,
            "ms",
            None,
            "< 27",
            sequence.all < 27,
        ),
        row("S1", f"{STEPS} independent steps, start to end, p50", wide.inside, "ms", None, "< 27", wide.inside < 27),
        row("S1", f"{STREAMS} streams of 1 step at once, each", at_once, "ms", None, "–", None),
    ]


class _Times:
    """Medians in milliseconds: of the whole call, up to its first event, and of the run by its events."""

    def __init__(self, taken: list[tuple[float, float, bytes]]) -> None:
        self.all = 1000 * statistics.median(item[0] for item in taken)
        self.first = 1000 * statistics.median(item[1] for item in taken)
        self.inside = statistics.median(_inside(item[2]) for item in taken)


def _inside(body: bytes) -> float:
    frames = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    if frames[-1].get("status") != "completed":
        raise RuntimeError(f"the run did not complete: {frames[-1]}")
    return 1000 * (_seconds(frames[-1]["timestamp"]) - _seconds(frames[0]["timestamp"]))


def _seconds(timestamp: str) -> float:
    minutes, seconds = timestamp.removesuffix("Z").rsplit(":", 2)[1:]
    return 60 * int(minutes) + float(seconds)


async def _taken(process: Process, name: str) -> _Times:
    path = f"/v1/skills/{name}/execute/stream"
    return _Times([await timed_stream(process, "POST", path, {"inputs": {}}) for _ in range(REPEATS)])


async def _at_once(process: Process) -> float:
    connections = [await connect(process) for _ in range(STREAMS)]

    async def one(connection: Any) -> float:
        began = time.perf_counter()
        connection.send("POST", "/v1/skills/bench.one/execute/stream", {"inputs": {}})
        await connection.stream()
        return time.perf_counter() - began

    taken = await asyncio.gather(*map(one, connections))
    for connection in connections:
        connection.close()
    return 1000 * statistics.median(taken)


ROWS: dict[str, Callable[[Path], Any]] = {"S1": s1}
