"""What a stream says of a gap that opens while it is read, what its heartbeats repeat, and who stays while the store is away."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.api.engine import streams
from holdfast.api.engine.projection import FrameId, Projection
from holdfast.api.engine.streams import Place, TaskFrames, TurnFrames
from holdfast.errors import StoreUnavailable
from holdfast.journal import END, GAP, WOKEN, Chunk, Signal
from holdfast.model.encoding import encode_event, encode_fields

TIME = 1_795_219_159_000_000


class FakeReader:
    """Gives what the test says; after a gap its cursor is before the next chunk."""

    def __init__(self, *given: Chunk | Signal) -> None:
        self.cursor = 3
        self._given = list(given)

    async def next(self) -> Chunk | Signal:
        item = self._given.pop(0)
        self.cursor = item.last if isinstance(item, Chunk) else 8
        return item

    def wake(self) -> None: ...

    def close(self) -> None: ...


def token(sequence: int) -> Chunk:
    line = encode_event("r", sequence, "token", TIME + 2 * sequence, encode_fields({"content": "x"}))
    return Chunk(sequence, [line])


def data_of(frames: bytes | Signal) -> list[dict[str, Any]]:
    assert isinstance(frames, bytes)
    return [json.loads(line[6:]) for line in frames.decode().splitlines() if line.startswith("data: ")]


async def test_events_that_were_pruned_while_they_were_read_are_told() -> None:
    for ids, lost_from in ((FrameId.SEQUENCE, 3), (FrameId.TIMESTAMP, (TIME + 6) / 1000)):
        reader: Any = FakeReader(token(3), GAP, token(9))
        frames = TurnFrames(reader, Projection("t", "r", ids=ids), Place("t", "r", 0))
        await frames.next()

        gap, event = data_of(await frames.next())

        assert (gap["type"], gap["reason"], gap["lost_from"]) == ("replay_gap", "pruned", lost_from)
        assert gap["timestamp"] < event["timestamp"] - 0.001
        assert event["sequence"] == 9


async def test_a_heartbeat_repeats_the_last_frame_or_the_readers_cursor() -> None:
    reader: Any = FakeReader(token(4))
    frames = TurnFrames(reader, Projection("t", "r"), Place("t", "r", TIME))

    before = frames.place.heartbeat()
    await frames.next()
    after = frames.place.heartbeat()

    assert before.startswith(b": heartbeat\n\nevent: heartbeat\ndata: ")
    assert [data["sequence"] for data in (*data_of(before), *data_of(after))] == [None, 4]
    assert [data["timestamp"] for data in (*data_of(before), *data_of(after))] == [TIME / 1000, (TIME + 8) / 1000]


class AwayStore:
    """Holds one turn in two segments; every second call finds it away."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _answers(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) % 2:
            raise StoreUnavailable("away")

    async def segments_by_time(self, tenant: str, *, after: int, **_: Any) -> list[Any]:
        self._answers("segments")
        left = [number for number in (1, 2) if TIME + 2 * number > after][:1]
        return [
            SimpleNamespace(
                number=1, first=number, body=f"{token(number).lines[0]}\n".encode(), last_timestamp=TIME + 2 * number
            )
            for number in left
        ]

    async def run_by_number(self, number: int) -> Any:
        self._answers("run")
        return SimpleNamespace(thread_id="t", run_id="r", epoch=0)


async def test_a_reader_of_a_tasks_history_stays_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_SECONDS", 0.001)
    store = AwayStore()
    runs: Any = SimpleNamespace(store=store, journal=SimpleNamespace(rollbacks=0))
    frames = TaskFrames(runs, "a", Place("t", None, 0), active=None)
    given = []
    while (found := await frames.next()) is not END:
        given += data_of(found)

    assert [data["sequence"] for data in given] == [1, 2]
    assert store.calls == ["segments", "segments", "run", "run", "segments", "segments", "segments", "segments"]


async def test_one_who_waits_for_the_store_is_woken_at_once() -> None:
    runs: Any = SimpleNamespace(store=AwayStore(), journal=SimpleNamespace(rollbacks=0))
    frames = TaskFrames(runs, "a", Place("t", None, 0), active=None)
    waiting = asyncio.create_task(frames.next())
    await asyncio.sleep(0)

    frames.wake()

    assert await waiting is WOKEN
