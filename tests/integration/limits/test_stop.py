"""SIGTERM with a thousand open streams."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.recorder import Stream, Target
from tests.support.server import KEY, running_server

AGENTS = Path(__file__).with_name("agents.py")
STREAMS = 1000
EXIT_SECONDS = 10.0
# Two less than by default, for the tests share the machine: with runs that never end, the rest is for all the work.
# Streams do not wait for this: they end with the signal.
DRAIN_SECONDS = 6


async def _opened(target: Target, path: str) -> tuple[Stream, asyncio.Task[list[str]], asyncio.Event]:
    """A stream that is being read to its end; the event tells that its first message is there."""
    stream = await target.open("GET", path)
    begun = asyncio.Event()

    async def read() -> list[str]:
        types: list[str] = []
        async for frame in stream.frames():
            types.append(frame.event or "")
            begun.set()
        return types

    return stream, asyncio.create_task(read()), begun


def _path(number: int) -> str:
    """Where the reader of this number reads: one in four at the Engine API, one at the Workflow API."""
    run = number % 10
    if number % 4 == 0:
        return f"/execute/replay?task_id=task%20{run}"
    if number % 4 == 1:
        return f"/api/agent/{('stuck', 'asker')[run % 2]}/status/{run + 1}/events"
    return f"/runs/run-{run}/events"


@pytest.mark.slow
async def test_a_thousand_streams_end_cleanly_and_the_process_exits_in_time(tmp_path: Path) -> None:
    """Streams of runs that execute and of runs that wait, over three APIs; none is cut in the middle of its body."""
    with running_server(tmp_path, agents=AGENTS, environment={"HOLDFAST_DRAIN_SECONDS": str(DRAIN_SECONDS)}) as server:
        target = Target(server.port, KEY)
        for number in range(10):
            agent, thread_id = ("stuck", "asker")[number % 2], quote(f"task {number}")
            await target.call("POST", f"/runs?agent={agent}&run_id=run-{number}&thread_id={thread_id}", {})
        paths = [_path(number) for number in range(STREAMS)]
        opened = [await _opened(target, path) for path in paths]
        await asyncio.wait_for(asyncio.gather(*(begun.wait() for _, _, begun in opened)), 30)

        server.terminate()
        terminated = time.monotonic()
        read = await asyncio.wait_for(asyncio.gather(*(task for _, task, _ in opened)), EXIT_SECONDS)
        ended, drains = time.monotonic() - terminated, server.popen.poll() is None
        status = await asyncio.to_thread(server.wait, EXIT_SECONDS)
        exited = time.monotonic() - terminated
        for stream, _, _ in opened:
            stream.close()

    assert status == 0
    assert all(types for types in read)
    assert not {"complete", "error", "cancelled"} & {name for types in read for name in types}
    assert sum("shutdown" in stream.comments for stream, _, _ in opened) >= STREAMS // 2
    assert [types[-1] for types in read[1::4]] == ["reconnect"] * (STREAMS // 4)
    assert drains
    assert ended < DRAIN_SECONDS
    assert exited < EXIT_SECONDS
