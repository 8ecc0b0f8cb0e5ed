"""A long stream through a network that cuts again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from holdfast.client import AsyncRunsClient
from tests.support.proxy import Proxy
from tests.support.server import KEY, ServerProcess

# What reading may add to this process once a fifth was read. The other 80,000 events have ten times as much.
GROWTH_BYTES_MAX: Final = 4 * 1024 * 1024


def _memory() -> int:
    """Bytes of this process that are in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@contextlib.asynccontextmanager
async def _cutting(server: ServerProcess, cut_seconds: float) -> AsyncIterator[tuple[Proxy, AsyncRunsClient]]:
    """A client behind a proxy that cuts all connections, again and again."""
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        AsyncRunsClient(f"http://127.0.0.1:{proxy.port}", KEY) as runs,
    ):
        runs._http.sleep = lambda _: asyncio.sleep(0)  # each wait for `retry:` would be a second and more

        async def cut() -> None:
            while True:
                await asyncio.sleep(cut_seconds)
                proxy.cut()

        cutting = asyncio.create_task(cut())
        try:
            yield proxy, runs
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)


async def _read(server: ServerProcess, count: int, cut_seconds: float) -> tuple[int, int]:
    """Read a run of so many tokens, which come once and in order. How often it was opened, and by how much memory grew."""
    async with _cutting(server, cut_seconds) as (proxy, runs):
        expected, memory = 0, [0]
        async for event in runs.stream({"n": count}, agent="count"):
            assert event["sequence"] == expected, "each event once, in order"
            expected += 1
            if expected > count // 5 and expected % 5_000 == 0:
                memory.append(_memory())
        assert expected == count + 2
        return proxy.accepted, max(memory) - memory[:2][-1]


async def test_a_stream_through_a_proxy_that_cuts_arrives_whole(server: ServerProcess) -> None:
    connections, _ = await _read(server, 3_000, 0.01)

    assert connections > 1


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_hundred_thousand_events_through_a_proxy_that_cuts_every_50_ms(server: ServerProcess) -> None:
    """And nothing that was read is kept: memory stays what it is."""
    connections, growth = await _read(server, 100_000, 0.05)

    assert connections > 5
    assert growth < GROWTH_BYTES_MAX
