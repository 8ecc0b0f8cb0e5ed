"""Readers that stop reading: the run does not notice, memory stays bounded, and they are cut off and may come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.support.recorder import Reading, Target
from tests.support.server import KEY, running_server
from tests.support.until import until

AGENTS = Path(__file__).with_name("agents.py")
READERS = 100
BYTES_EACH_MAX = 256 * 1024
STALL_SECONDS = 4.0
# More than the kernel's socket buffers hold for each reader, so that the server itself has to wait for them.
FLOOD = {"count": 12_000, "size": 1024}


def _stalled(port: int, run_id: str) -> socket.socket:
    """A reader that asks for the events and takes not one byte more than its small buffer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    return connection


def _rest(connection: socket.socket) -> bytes:
    """What still comes of a connection that was cut."""
    connection.settimeout(20)
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


class Flood:
    """A run that floods twice, each time when its gate is opened, and a reader that takes everything."""

    def __init__(self, target: Target, run_id: str, directory: Path) -> None:
        self.reading = Reading(target, run_id)
        self.gates = [directory / f"{run_id}-{part}" for part in (1, 2)]
        self._target = target

    async def start(self) -> None:
        body = {**FLOOD, "gates": [str(gate) for gate in self.gates]}
        await self._target.call("POST", f"/agents/flood/runs?run_id={self.reading.run_id}", body)
        self._task = asyncio.create_task(self.reading.read())

    async def part(self, number: int) -> float:
        """Open a gate and wait until everything behind it was read; the seconds that took."""
        begun = time.monotonic()
        self.gates[number - 1].touch()
        await until(lambda: len(self.reading.frames) > number * FLOOD["count"], seconds=60)
        if number == len(self.gates):
            await self._task
        return time.monotonic() - begun


@pytest.mark.slow
async def test_a_hundred_readers_that_stop_reading_hurt_nobody(tmp_path: Path) -> None:
    environment = {"HOLDFAST_STALL_SECONDS": str(STALL_SECONDS), "HOLDFAST_SUBSCRIBERS_MAX": str(READERS + 1)}
    with running_server(tmp_path / "data", agents=AGENTS, environment=environment) as server:
        target = Target(server.port, KEY)
        target.up.set()
        process = psutil.Process(server.pid)
        alone, watched = Flood(target, "alone", tmp_path), Flood(target, "watched", tmp_path)
        for flood in (alone, watched):
            await flood.start()
        await alone.part(1)  # what is loaded at the first use
        alone_seconds = await alone.part(2)

        before = process.memory_info().rss
        stalled = [_stalled(server.port, "watched") for _ in range(READERS)]
        await watched.part(1)  # fills whatever the kernel and the server keep for each of them
        most = 0

        async def watch_memory() -> None:
            nonlocal most
            while True:
                most = max(most, process.memory_info().rss)
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch_memory())
        watched_seconds = await watched.part(2)

        def cut_off() -> bool:
            return server.log().count("reader_cut") == READERS

        await until(cut_off, seconds=4 * STALL_SECONDS + 10, every=0.1)
        watching.cancel()
        rests = await asyncio.gather(*(asyncio.to_thread(_rest, connection) for connection in stalled))
        for connection in stalled:
            connection.close()
        back = Reading(target, "watched", by_header=False)
        await back.read()

    for reading in (alone.reading, watched.reading, back):
        assert reading.faults == []
        assert len(reading.frames) == 2 * FLOOD["count"] + 2
    # Had it waited for any of them, it would have waited until they were cut off.
    assert watched_seconds < min(3 * alone_seconds + 1.5, STALL_SECONDS)
    assert most - before < READERS * BYTES_EACH_MAX
    for rest in rests:
        body = rest.partition(b"\r\n\r\n")[2]
        assert b"event: token" in body
        assert b"event: complete" not in body
        assert not body.endswith(b"0\r\n\r\n")
