"""Ten thousand runs that wait for an answer are rows on disk and next to nothing in memory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psutil
import pytest

from tests.support.recorder import Stream, Target
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.until import until

AGENTS = Path(__file__).with_name("agents.py")
RUNS = 10_000
WARM = 500
GROWTH_BYTES_MAX = 20 * 1024 * 1024
CLIENTS = 16


async def _start(target: Target, first: int, last: int) -> None:
    """Start runs over a few connections that are kept."""
    numbers = iter(range(first, last))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for number in numbers:
            head = f"POST /agents/asker/runs?run_id=run-{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            stream = Stream(reader, writer)
            await stream.head()
            body = b"".join([piece async for piece in stream.pieces()])
            assert stream.status == 202, body
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def _all_let_go(target: Target, server: ServerProcess, count: int) -> int:
    """Wait until all wait and nothing of them is in memory; the resident bytes of the process then."""

    async def is_quiet() -> bool:
        listed = (await target.call("GET", "/runs?status=accepted,running&limit=1")).json()["runs"]
        newest = (await target.call("GET", f"/runs/run-{count - 1}")).json()
        return not listed and newest["status"] == "waiting"

    await until(is_quiet, seconds=60, every=0.05)
    # The grace in which code is kept in memory is 0.25 s; wait until memory has come to rest.
    process = psutil.Process(server.pid)
    seen = [process.memory_info().rss]

    def is_at_rest() -> bool:
        seen.append(process.memory_info().rss)
        return len(seen) > 10 and max(seen[-10:]) - min(seen[-10:]) < 256 * 1024

    await until(is_at_rest, seconds=20, every=0.1)
    return seen[-1]


async def _answer(target: Target, number: int) -> None:
    """Answer a run, and see it end with that answer."""
    run_id = f"run-{number}"
    (interrupt,) = (await target.call("GET", f"/runs/{run_id}/interrupts")).json()["interrupts"]
    path = f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}"
    answered = await target.call("POST", path, {"answer": number})
    assert answered.status == 200, answered.body
    ended = (await target.call("GET", f"/runs/{run_id}?wait=20")).json()
    if ended["status"] == "waiting":  # the wait ends at once while the answer has not been taken up
        ended = await until(lambda: _ended(target, run_id), seconds=20)
    assert ended["status"] == "completed", json.dumps(ended)
    assert ended["output"] == {"answer": number}


async def _ended(target: Target, run_id: str) -> object:
    row = (await target.call("GET", f"/runs/{run_id}")).json()
    return row if row["status"] not in ("accepted", "running", "waiting") else None


@pytest.mark.slow
async def test_ten_thousand_waiting_runs_cost_little_and_each_can_be_answered(tmp_path: Path) -> None:
    with running_server(tmp_path, agents=AGENTS, fresh=True) as server:
        target = Target(server.port, KEY)
        await _start(target, 0, WARM)
        before = await _all_let_go(target, server, WARM)
        await _start(target, WARM, WARM + RUNS)
        after = await _all_let_go(target, server, WARM + RUNS)
        for number in (0, WARM + 1, RUNS // 2, WARM + RUNS - 1):
            await _answer(target, number)
        server.kill()

    with running_server(tmp_path, agents=AGENTS, fresh=True) as server:
        target = Target(server.port, KEY)
        for number in (1, WARM + 2, RUNS // 2 + 1, WARM + RUNS - 2):
            await _answer(target, number)
        rested = psutil.Process(server.pid).memory_info().rss

    assert after - before < GROWTH_BYTES_MAX
    assert rested < before + GROWTH_BYTES_MAX
