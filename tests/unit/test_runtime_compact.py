"""The compact view against a naive one: rows joined by hand, wherever chunks are cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.runtime import compact
from holdfast.api.runtime.compact import CompactFrames, Fold
from holdfast.api.runtime.filters import EVERYTHING, EventFilter
from holdfast.api.runtime.projection import frame
from holdfast.journal import Chunk, Signal
from holdfast.model.encoding import encode_event, encode_fields

Event = tuple[str, dict[str, Any]]


def lines_of(events: Sequence[Event]) -> list[str]:
    return [
        encode_event("q-1", place, name, 1_000_000 + place, encode_fields(fields))
        for place, (name, fields) in enumerate(events)
    ]


class ListReader:
    """Reads lines in chunks that are cut behind these places; as a Reader does, it is woken and ends."""

    def __init__(self, chunks: Sequence[Chunk], after: int) -> None:
        self.cursor = after
        self._chunks = chunks
        self._is_woken = False

    async def next(self) -> Chunk | Signal:
        if self._is_woken:
            self._is_woken = False
            return Signal.WOKEN
        for chunk in self._chunks:
            if chunk.last > self.cursor:
                found = chunk.after(self.cursor)
                self.cursor = found.last
                return found
        return Signal.END

    def wake(self) -> None:
        self._is_woken = True

    def close(self) -> None:
        pass


class RawSource:
    """What is live: the lines as they are."""

    def __init__(self, reader: ListReader) -> None:
        self._reader = reader
        self.wake, self.close = reader.wake, reader.close

    async def next(self) -> bytes | Signal:
        found = await self._reader.next()
        if isinstance(found, Signal):
            return found
        texts = [frame(found.first + place, found.types[place], line) for place, line in enumerate(found.lines)]
        return "".join(texts).encode()


def chunks_of(lines: Sequence[str], cuts: Sequence[int]) -> list[Chunk]:
    places = sorted({0, len(lines), *(cut % (len(lines) + 1) for cut in cuts)})
    return [Chunk(start, lines[start:end]) for start, end in pairwise(places)]


def read(
    lines: Sequence[str],
    *,
    cuts: Sequence[int] = (),
    after: int = -1,
    tail: int | None = None,
    is_finished: bool = True,
    wanted: EventFilter = EVERYTHING,
    key: object = ("k",),
    is_woken: bool = False,
) -> list[dict[str, Any]]:
    """The events that a reader of these lines gets."""
    chunks = chunks_of(lines, cuts)

    async def run() -> bytes:
        source = CompactFrames(
            Fold(wanted, partial(frame, epoch=0), key),
            follow=lambda after: ListReader(chunks, after),  # type: ignore[arg-type, return-value]
            live=lambda after: RawSource(ListReader(chunks, after)),
            after=after,
            tail=len(lines) - 1 if tail is None else tail,
            is_finished=is_finished,
            gap=lambda *_: b"",
        )
        found = b""
        for turn in count():
            if is_woken and turn % 2:
                source.wake()
            got = await source.next()
            if got is Signal.END:
                source.close()
                return found
            if not isinstance(got, Signal):
                found += got
        raise AssertionError("unreachable")

    text = asyncio.run(run()).decode()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def naive(lines: Sequence[str], *, after: int, tail: int) -> list[dict[str, Any]]:
    """The same by the words of the specification, one event at a time."""
    rows: list[list[dict[str, Any]]] = []
    for event in map(json.loads, lines[after + 1 : tail + 1]):
        last = rows[-1][-1] if rows else None
        if event["type"] in ("token", "thinking") and last is not None and _continues(last, event):
            rows[-1].append(event)
        else:
            rows.append([event])
    found = []
    for row in rows:
        is_open = row is rows[-1] and row[-1]["type"] in ("token", "thinking")
        if row[0]["type"] not in ("token", "thinking") or is_open:
            found += row
        else:
            text = "".join(event["content"] for event in row)
            found.append({**row[-1], "content": text, "first_sequence": row[0]["sequence"]})
    return found + [json.loads(line) for line in lines[tail + 1 :]]


def _continues(last: dict[str, Any], event: dict[str, Any]) -> bool:
    fixed = {"id", "sequence", "timestamp", "content"}
    before = {name: value for name, value in last.items() if name not in fixed}
    now = {name: value for name, value in event.items() if name not in fixed}
    return "finish_reason" not in before and before == {k: v for k, v in now.items() if k != "finish_reason"}


texts = st.text(max_size=4) | st.sampled_from(['"', "\\", '\\"', "é😀", "\u2028", '","content":"'])
deltas = st.tuples(
    st.sampled_from(["token", "token", "token", "thinking"]),
    st.builds(
        lambda content, agent, finish: {"content": content, **agent, **finish},
        texts,
        st.sampled_from([{}, {}, {}, {"agent": "b", "parent_tool_call_id": "c"}]),
        st.sampled_from([{}, {}, {}, {}, {"finish_reason": "stop"}]),
    ),
)
others = st.tuples(st.sampled_from(["progress", "score"]), st.just({"message": "m"}))
journals = st.lists(deltas | deltas | deltas | others, max_size=25)


@given(journals, st.lists(st.integers(0, 30)), st.integers(-1, 26), st.integers(0, 30), st.booleans())
def test_rows_are_joined_as_by_hand(
    events: list[Event], cuts: list[int], after: int, tail: int, is_shared: bool
) -> None:
    lines = lines_of([("started", {}), *events, ("complete", {"output": None})])
    tail = min(tail, len(lines) - 1)
    after = min(after, tail)

    found = read(
        lines,
        cuts=cuts,
        after=after,
        tail=tail,
        is_finished=tail == len(lines) - 1,
        key=("k",) if is_shared else None,
    )

    assert found == naive(lines, after=after, tail=tail)


@given(journals, st.lists(st.integers(0, 30)), st.integers(0, 30), st.integers(1, 12))
def test_a_row_over_the_limit_is_several_and_an_unfinished_one_is_as_it_was(
    events: list[Event], cuts: list[int], tail: int, limit: int
) -> None:
    """The text stays the same, no event is over the limit unless one delta was, and no number is missing."""
    lines = lines_of([("started", {}), *events, ("complete", {"output": None})])
    tail = min(tail, len(lines) - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "ROW_BYTES_MAX", limit)
        found = read(lines, cuts=cuts, tail=tail, is_finished=tail == len(lines) - 1)
    whole = naive(lines, after=-1, tail=tail)

    covered: list[int] = []
    for event in found:
        covered += range(event.get("first_sequence", event["sequence"]), event["sequence"] + 1)
        if event.get("first_sequence", event["sequence"]) != event["sequence"]:
            assert len(json.dumps(event["content"], ensure_ascii=False)) - 2 <= 6 * limit
    assert covered == list(range(len(lines)))
    assert [event for event in found if "first_sequence" not in event] == [
        event for event in whole if "first_sequence" not in event
    ]
    assert "".join(event.get("content", "") for event in found) == "".join(event.get("content", "") for event in whole)


def test_waking_it_anywhere_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "ROW_BYTES_MAX", 3)
    events = [("token", {"content": str(place % 10)}) for place in range(40)]
    lines = lines_of([("started", {}), *events, ("progress", {}), *events])

    found = read(lines, cuts=range(0, 80, 3), tail=60, is_finished=False, is_woken=True)

    assert "".join(event.get("content", "") for event in found) == "0123456789" * 8
    assert [event["sequence"] for event in found if "first_sequence" not in event] == [0, 41, *range(42, 82)]


def test_a_filter_sees_joined_events() -> None:
    lines = lines_of(
        [("token", {"content": "a"}), ("token", {"content": "b"}), ("thinking", {"content": "c"}), ("complete", {})]
    )

    found = read(lines, wanted=EventFilter.parse({"types": "thinking"}, None))

    assert [(event["type"], event.get("content")) for event in found] == [("thinking", "c"), ("complete", None)]


def test_readers_at_the_same_place_share_what_was_joined() -> None:
    lines = lines_of([*(("token", {"content": "a"}) for _ in range(3)), ("complete", {})])
    fold = Fold(EVERYTHING, partial(frame, epoch=0), ("k",))
    chunk = Chunk(0, lines)

    once, again = (fold.take(None, chunk, 0, 3, 4) for _ in range(2))

    assert once is again
    assert fold.take(None, chunk, 1, 3, 4) is not once
