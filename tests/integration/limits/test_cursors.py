"""Cursors that no reader of an ordinary run has: far ahead, out of history that is gone, out of pruned history."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast.store.sqlite import SQLiteStore, mark_restored
from tests.support.recorder import Frame, Target
from tests.support.server import KEY, running_server

AGENTS = Path(__file__).with_name("agents.py")
FAR = 2**53 - 1


async def _first(target: Target, path: str, count: int, *, cursor: str | None = None) -> tuple[int, list[Frame]]:
    """The status, and the first messages of a stream, or all if it has fewer; it may not wait in silence for ever."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    frames: list[Frame] = []
    async with asyncio.timeout(30):
        stream = await target.open("GET", path, headers=headers)
        try:
            async for frame in stream.frames():
                frames.append(frame)
                if len(frames) == count:
                    break
        finally:
            stream.close()
    return stream.status, frames


async def _answer(target: Target, run_id: str, answer: str) -> None:
    (interrupt,) = (await target.call("GET", f"/runs/{run_id}/interrupts")).json()["interrupts"]
    path = f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}"
    assert (await target.call("POST", path, {"answer": answer})).status == 200


def _gap(frame: Frame) -> dict[str, Any]:
    assert (frame.event, frame.id) == ("gap", None)
    value: dict[str, Any] = json.loads(frame.data)
    return value


@pytest.mark.slow
async def test_a_reader_of_rolled_back_history_is_told_so_before_anything_else(tmp_path: Path) -> None:
    """A backup is restored; events 2 and 3 that a reader has are gone, and others take their numbers."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    with running_server(data, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        await target.call("POST", "/agents/asker/runs?run_id=run", {})
        _, before = await _first(target, "/runs/run/events", 2)
        server.terminate()
        server.wait()
    shutil.copytree(data, copy)
    with running_server(data, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        await _answer(target, "run", "lost")
        _, lost = await _first(target, "/runs/run/events?from_sequence=2", 9)
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    mark_restored(data)
    with running_server(data, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        _, same = await _first(target, "/runs/run/events?from_sequence=0", 2)
        # The cursor behind what was lost, and the one in the middle of it.
        at_end = asyncio.create_task(_first(target, "/runs/run/events", 9, cursor=lost[-1].id))
        inside = asyncio.create_task(_first(target, "/runs/run/events", 9, cursor=lost[0].id))
        honest = asyncio.create_task(_first(target, "/runs/run/events", 9, cursor=before[-1].id))
        await _answer(target, "run", "other")
        results = [(await task)[1] for task in (at_end, inside)]
        _, continued = await honest
        _, later = await _first(target, "/runs/run/events", 9, cursor=continued[-2].id)
        done, nothing = await _first(target, "/runs/run/events", 9, cursor=continued[-1].id)

    assert [frame.id for frame in before] == ["0", "1"]
    assert [frame.event for frame in lost] == ["interrupt_resolved", "complete"]
    assert [frame.data for frame in same] == [frame.data for frame in before]
    for found in results:
        gap = _gap(found[0])
        assert (gap["reason"], gap["epoch"], gap["first_sequence"]) == ("rolled_back", 1, 2)
        assert [frame.id for frame in found[1:]] == ["2@1", "3@1"]
        assert [frame.data for frame in found[1:]] == [frame.data for frame in continued]
    assert [frame.id for frame in continued] == ["2@1", "3@1"]
    assert continued[-1].json()["output"] == {"answer": "other"}
    assert [frame.data for frame in later] == [continued[-1].data]
    assert (done, nothing) == (204, [])


@pytest.mark.slow
async def test_a_reader_of_pruned_history_is_told_so_and_gets_the_rest(tmp_path: Path) -> None:
    with running_server(tmp_path, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        await target.call("POST", "/agents/asker/runs?run_id=run", {})
        await _first(target, "/runs/run/events", 2)
        await _answer(target, "run", "yes")
        _, whole = await _first(target, "/runs/run/events", 9)
        server.terminate()
        server.wait()
    store = SQLiteStore(tmp_path)
    await store.open()
    assert await store.prune(ended_before=2**62, rows_before=0, now=0)
    await store.close()
    with running_server(tmp_path, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        _, found = await _first(target, "/runs/run/events", 9)
        _, end = await _first(target, "/runs/run/events", 9, cursor=whole[-2].id)
        verified = (await target.call("GET", "/runs/run/verify")).json()

    gap = _gap(found[0])
    assert (gap["reason"], gap["requested"]) == ("pruned", 0)
    assert gap["first_sequence"] == found[1].json()["sequence"] > 0
    kept = len(found) - 1
    assert [frame.data for frame in found[1:]] == [frame.data for frame in whole[-kept:]]
    assert found[-1].event == "complete"
    assert [frame.data for frame in end][-1:] == [whole[-1].data]
    assert verified["ok"]


@pytest.mark.slow
async def test_a_cursor_far_ahead_is_told_so_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        await target.call("POST", "/agents/asker/runs?run_id=run", {})
        await _first(target, "/runs/run/events", 2)
        _, by_query = await _first(target, f"/runs/run/events?from_sequence={FAR}", 1)
        _, by_header = await _first(target, "/runs/run/events", 1, cursor=str(FAR))
        _, both = await _first(target, "/runs/run/events?from_sequence=0", 1, cursor=str(FAR))
        refused = [
            (await _first(target, f"/runs/run/events?from_sequence={text}", 1))[0] for text in ("-1", str(FAR + 1))
        ]
        refused += [(await _first(target, "/runs/run/events", 1, cursor=text))[0] for text in ("-1", str(FAR + 1), "x")]
        await _answer(target, "run", "yes")
        await _first(target, "/runs/run/events", 9)
        over, nothing = await _first(target, f"/runs/run/events?from_sequence={FAR}", 1)

    assert [_gap(frames[0])["reason"] for frames in (by_query, by_header, both)] == ["ahead"] * 3
    assert [_gap(frames[0])["requested"] for frames in (by_query, by_header)] == [FAR, FAR + 1]
    assert refused == [422] * 5
    assert (over, nothing) == (204, [])
