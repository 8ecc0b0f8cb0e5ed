"""
The power fails right after an event was acknowledged: what was not synced is gone, the event is not.

The same with `synchronous=NORMAL` has to lose it, or this test could not tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.journal import Chunk
from holdfast.model.encoding import decode_event
from holdfast.store.sqlite import SQLiteStore, connection
from tests.support.kernel import CALLER, kernel
from tests.support.power import PowerCut


@pytest.fixture
def power() -> Iterator[PowerCut]:
    vfs = PowerCut()
    try:
        yield vfs
    finally:
        vfs.unregister()  # twice does no harm


async def _types_after_the_power_cut(directory: Path, power: PowerCut) -> tuple[list[str], list[str]]:
    """The types of the events that a reader had when the power failed, and of those that are found afterwards."""
    release = asyncio.Event()

    @agent("speaker", restart="always")
    async def speaker(context: Context, input: Any) -> None:
        await context.token("Quan")
        await context.step("work", lambda: 1)
        await release.wait()

    read: list[str] = []
    async with kernel(directory / "store", speaker, crash=True) as it:
        run = await it.start("speaker")
        reader = it.runs.follow(await it.runs.get(CALLER, run.run_id), after=-1)
        while "step_completed" not in read:
            chunk = await reader.next()
            assert isinstance(chunk, Chunk)
            read += chunk.types
        # Nothing is awaited between the last event and this: the machine goes dark here.
        power.restore(directory / "found")
        reader.close()
    power.unregister()  # the next machine has an ordinary disk

    store = SQLiteStore(directory / "found")
    await store.open()
    segments = await store.segments(run.number, after=-1, bytes_max=1 << 20)
    await store.close()
    return read, [decode_event(line)["type"] for segment in segments for line in segment.body.splitlines()]


async def test_what_a_reader_saw_survives_the_power_cut(tmp_path: Path, power: PowerCut) -> None:
    read, found = await _types_after_the_power_cut(tmp_path, power)

    assert read == ["started", "token", "step_started", "step_completed"]
    assert found == read


async def test_synchronous_normal_would_be_caught(
    tmp_path: Path, power: PowerCut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: SQLite syncs its log only at checkpoints, and what a reader saw is gone."""
    monkeypatch.setattr(connection, "SYNCHRONOUS", "NORMAL")
    monkeypatch.setattr(connection, "SYNCHRONOUS_READ_BACK", 1)

    read, found = await _types_after_the_power_cut(tmp_path, power)

    assert read == ["started", "token", "step_started", "step_completed"]
    assert found == []
