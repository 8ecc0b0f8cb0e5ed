"""
A full disk: no new runs, reading goes on, running runs wait and go on when there is space again, and nothing is lost.

The disk is a small one in memory, which only root may mount; elsewhere this is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.recorder import Reading, Target
from tests.support.server import KEY, running_server
from tests.support.until import until

AGENTS = Path(__file__).with_name("agents.py")
DISK_BYTES = 320 << 20  # a little more than the 256 MiB below which no run is started


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(disk: Path, *, leave: int) -> None:
    """Take space until so many bytes are left, to the last byte for 0."""
    state = os.statvfs(disk)
    wanted = state.f_bavail * state.f_frsize - leave
    with (disk / "ballast").open("ab") as ballast, contextlib.suppress(OSError):
        os.posix_fallocate(ballast.fileno(), ballast.tell(), wanted)
    if leave == 0:
        with contextlib.suppress(OSError), (disk / "crumbs").open("ab", buffering=0) as crumbs:
            while True:
                crumbs.write(b"x" * 4096)


def _empty(disk: Path) -> None:
    for name in ("ballast", "crumbs"):
        (disk / name).unlink(missing_ok=True)


async def _start_status(target: Target, run_id: str, gate: Path) -> int:
    answer = await target.call("POST", f"/agents/steady/runs?run_id={run_id}", {"gate": str(gate)})
    if answer.status == 507:
        assert answer.json()["code"] == "STORAGE_FULL"
    return answer.status


@pytest.mark.slow
async def test_a_full_disk_stops_starts_and_writers_and_nothing_else(disk: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_server(disk / "data", agents=AGENTS) as server:
        target = Target(server.port, KEY)
        target.up.set()
        assert await _start_status(target, "first", gate) == 202
        reading = Reading(target, "first")
        following = asyncio.create_task(reading.read())
        await until(lambda: len(reading.frames) > 10)

        # Little space: nothing new is begun, and what runs goes on.
        _fill(disk, leave=32 << 20)

        async def is_refused() -> bool:
            return await _start_status(target, f"try-{len(reading.frames)}", gate) == 507

        await until(is_refused, every=0.1)
        seen = len(reading.frames)
        await until(lambda: len(reading.frames) > seen + 10)

        # No space: what runs waits, and what is there is read.
        _fill(disk, leave=0)
        stood: list[int] = []

        def stands_still() -> bool:
            stood.append(len(reading.frames))
            return len(stood) > 20 and stood[-1] == stood[-20]

        await until(stands_still, seconds=30, every=0.05)
        row = await target.call("GET", "/runs/first")
        again = Reading(target, "first", by_header=False)
        rereading = asyncio.create_task(again.read())
        await until(lambda: len(again.frames) >= stood[-1])
        assert await _start_status(target, "second", gate) == 507
        turn = await target.call("POST", "/execute", {"task_id": "t", "message": "Hi"})
        assert (turn.status, turn.json()["error"]) == (507, "STORAGE_FULL")
        assert (await target.call("GET", "/tasks")).status == 200
        assert row.json()["status"] == "running"
        assert (await target.call("GET", "/health")).status == 200

        # Space again: everything goes on by itself.
        _empty(disk)
        await until(lambda: len(reading.frames) > stood[-1] + 10, seconds=20)

        async def is_taken() -> bool:
            return await _start_status(target, f"late-{len(reading.frames)}", gate) == 202

        await until(is_taken, every=0.1)
        gate.touch()
        await asyncio.wait_for(asyncio.gather(following, rereading), 30)
        ended = (await target.call("GET", "/runs/first")).json()
        verified = (await target.call("GET", "/runs/first/verify")).json()
        second = (await target.call("GET", "/runs/second")).status

    assert reading.faults == again.faults == []
    assert reading.lines == again.lines
    assert ended["status"] == "completed"
    tokens = [frame.json()["content"] for frame in reading.frames if frame.event == "token"]
    assert tokens == [f"{number} " for number in range(ended["output"]["count"])]
    assert verified["ok"]
    assert second == 404
