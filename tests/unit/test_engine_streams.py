"""What a stream says of a gap that opens while it is read, and what its heartbeats repeat."""

from __future__ import annotations

import json
from typing import Any

from holdfast.api.engine.projection import FrameId, Projection
from holdfast.api.engine.streams import Place, TurnFrames
from holdfast.journal import GAP, Chunk, Signal
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
