"""Readers that stop reading: the run does not notice, memory stays bounded, and they are cut off and may come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from tests.support.recorder import Frame, Reading, Target
from tests.support.server import KEY, running_server
from tests.support.until import until

AGENTS = Path(__file__).with_name("agents.py")
READERS = 500
BYTES_MAX = 128 * 1024 * 1024
LAG_SECONDS_MAX = 0.25
# Beside other tests. A reader that was held up by those who take nothing would wait for seconds, up to STALL_SECONDS.
SHARED_LAG_SECONDS_MAX = 2.0
STALL_SECONDS = 8.0
# More than the kernel's socket buffers hold for each reader, so that the server itself has to wait for them.
BACKLOG = {"count": 12_000, "size": 1024}


def _stalled(port: int, run_id: str) -> socket.socket:
    """A reader that asks for the events and takes not one byte more than its small buffer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    connection.recv(1, socket.MSG_PEEK)  # the answer has begun
    return connection


def _rest(connection: socket.socket) -> bytes:
    """What still comes of a connection that was cut."""
    connection.settimeout(20)
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


def _lags(frames: list[Frame], behind: int) -> list[float]:
    """Seconds from the stamp of each event to its reading, for those behind a sequence, in order."""
    offset = time.time() - time.monotonic()
    return [
        frame.at / 1e9 + offset - datetime.fromisoformat(frame.json()["timestamp"]).timestamp()
        for frame in frames[behind + 1 :]
    ]


def _usual_p99(lags: list[float]) -> float:
    """
    The 99th percentile of the middle one of five stretches of time: other tests share the machine, and what one of
    them takes for a moment is not what five hundred readers would take all the time.
    """
    length = len(lags) // 5
    stretches = [sorted(lags[start : start + length]) for start in range(0, 5 * length, length)]
    return sorted(stretch[int(length * 0.99)] for stretch in stretches)[2]


def _p99(lags: list[float]) -> float:
    return sorted(lags)[int(len(lags) * 0.99)]


@pytest.mark.slow
async def test_five_hundred_readers_that_stop_reading_hurt_nobody(tmp_path: Path) -> None:
    """They are cut and may come back; meanwhile the server stays small, and one who reads gets all at once."""
    await _stop_reading(tmp_path, _usual_p99, SHARED_LAG_SECONDS_MAX)


@pytest.mark.faults
async def test_on_a_machine_of_their_own_they_hurt_nobody_at_any_time(tmp_path: Path) -> None:
    await _stop_reading(tmp_path, _p99, LAG_SECONDS_MAX)


async def _stop_reading(tmp_path: Path, lag_of: Callable[[list[float]], float], lag_seconds_max: float) -> None:
    environment = {"HOLDFAST_STALL_SECONDS": str(STALL_SECONDS), "HOLDFAST_SUBSCRIBERS_MAX": str(READERS + 1)}
    with running_server(tmp_path / "data", agents=AGENTS, environment=environment, fresh=True) as server:
        target = Target(server.port, KEY)
        target.up.set()
        gate = tmp_path / "gate"
        await target.call("POST", "/agents/backlog/runs?run_id=one", {**BACKLOG, "gate": str(gate)})
        watched = Reading(target, "one")
        watching = asyncio.create_task(watched.read())
        await until(lambda: len(watched.frames) > BACKLOG["count"] + 100, seconds=60)
        process = psutil.Process(server.pid)
        before, seen, most = process.memory_info().rss, len(watched.frames), 0

        stalled = await asyncio.gather(*(asyncio.to_thread(_stalled, server.port, "one") for _ in range(READERS)))
        begun = time.monotonic()
        while server.log().count("reader_cut") < READERS:
            assert time.monotonic() - begun < 10 * STALL_SECONDS, "not all were cut"
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - begun
        gate.touch()
        await asyncio.wait_for(watching, 30)
        rests = await asyncio.gather(*(asyncio.to_thread(_rest, connection) for connection in stalled))
        for connection in stalled:
            connection.close()
        back = Reading(target, "one", by_header=False)
        await back.read()

    lags = _lags(watched.frames, seen)
    assert watched.faults == back.faults == []
    assert watched.lines == back.lines
    assert seconds >= STALL_SECONDS
    assert most - before < BYTES_MAX
    assert len(lags) > 100
    assert lag_of(lags) < lag_seconds_max
    for rest in rests:
        body = rest.partition(b"\r\n\r\n")[2]
        assert b"event: token" in body
        assert b"event: complete" not in body
        assert not body.endswith(b"0\r\n\r\n")
