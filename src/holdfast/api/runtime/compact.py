"""
`view=compact`: stored rows of `token` or `thinking` events as one event each.

A row is adjacent events of one type with the same own fields beside their text. Its event has id, sequence and
timestamp of its last delta, so the cursor of a reader is as good as that of any other one; `first_sequence` says where
it begins. A row is joined only if another event follows it in what was stored when the stream began: the unfinished
one, and whatever is written later, come as they are.

The fold is a pure function from the row so far and a chunk to frames and the row so far, so readers at the same place
share both, however large the row. `CompactFrames` feeds it; a row that gets larger than one event may be needs a look
ahead at whether it ends, for which its own reader reads on and keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Final

import msgspec

from holdfast.api.http.sse import Source
from holdfast.api.runtime.filters import EventFilter
from holdfast.journal import Chunk, Reader, Signal

# The text of one joined event, in bytes of JSON: what the own fields of an event may have.
ROW_BYTES_MAX = 1024 * 1024

_JOINED: Final = frozenset({"token", "thinking"})
# Behind the timestamp, which is the last fixed field. A JSON string is taken as it is written: rows are joined undecoded.
_DELTA: Final = re.compile(r'(.*?"timestamp":"[^"]*","content":")((?:[^"\\]|\\.)*)"(.*)\}\Z', re.DOTALL)
_FINISH: Final = re.compile(r',"finish_reason":"(?:[^"\\]|\\.)*"')


class Row(msgspec.Struct, frozen=True):
    """A row so far. `head` and `rest` are what stands before and behind the text of its last delta."""

    name: str
    first: int
    last: int
    head: str
    texts: tuple[str, ...]
    rest: str
    size: int

    @property
    def is_closed(self) -> bool:
        """Its last delta said that the text is finished."""
        return bool(self.rest) and _FINISH.search(self.rest) is not None

    def line(self) -> str:
        """The row as one event."""
        return f'{self.head}{"".join(self.texts)}"{self.rest},"first_sequence":{self.first}}}'


class Folded(msgspec.Struct, frozen=True):
    """
    What became of a chunk. `stopped`: the event before which it must be known whether the row ends, for it got too
    large to be kept; what came before that event is in here.
    """

    frames: bytes
    row: Row | None
    stopped: int | None = None


class Fold(msgspec.Struct, frozen=True):
    """
    How one kind of reader sees rows. `frame` makes a frame of sequence, type and line; equal `key`s (None: not shared)
    stand for equal filters and frames.
    """

    wanted: EventFilter
    frame: Callable[[int, str, str], str]
    key: Hashable

    def take(self, row: Row | None, chunk: Chunk, start: int, until: int, followed: int) -> Folded:
        """
        Go on with a row through a chunk, from the event `start` up to and with `until`.

        Args:
            followed: rows are known to end at, or before, this event.
        """
        if self.key is None:
            return self._take(row, chunk, start, until, followed)
        # A row is known by its beginning: what it holds follows from the journal.
        place = None if row is None else row.first
        key = ("compact", self.key, place, start, min(until, chunk.last), min(followed, chunk.last + 1))
        return chunk.made_once(key, lambda chunk: self._take(row, chunk, start, until, followed))

    def _take(self, row: Row | None, chunk: Chunk, start: int, until: int, followed: int) -> Folded:
        parts: list[str] = []
        texts: list[str] = []  # of the row, from this chunk
        skip = start - chunk.first
        for sequence, (name, line) in enumerate(
            zip(chunk.types[skip:], chunk.lines[skip : until + 1 - chunk.first], strict=False), start
        ):
            delta = _DELTA.match(line) if name in _JOINED else None
            if delta is None:
                self._end(parts, _grown(row, texts))
                row = None
                if self.wanted.admits(name):
                    parts.append(self.frame(sequence, name, line))
                continue
            head, text, rest = delta.groups()
            size = len(text) if text.isascii() else len(text.encode())
            if row is not None and not _continues(row, name, rest):
                self._end(parts, _grown(row, texts))
                row = None
            elif row is not None and row.size + size > ROW_BYTES_MAX:
                if sequence >= followed:
                    return Folded("".join(parts).encode(), _grown(row, texts), sequence)
                self._end(parts, _grown(row, texts))
                row = None
            first, known = (sequence, ()) if row is None else (row.first, row.texts)
            row = Row(name, first, sequence, head, known, rest, size + (0 if row is None else row.size))
            texts.append(text)
        return Folded("".join(parts).encode(), _grown(row, texts))

    def _end(self, parts: list[str], row: Row | None) -> None:
        if row is not None and self.wanted.admits(row.name):
            parts.append(self.frame(row.last, row.name, row.line()))


def _grown(row: Row | None, texts: list[str]) -> Row | None:
    """The row with these texts behind its own, which are thereby taken."""
    if row is not None and texts:
        row = msgspec.structs.replace(row, texts=(*row.texts, "".join(texts)))
    texts.clear()
    return row


def _continues(row: Row, name: str, rest: str) -> bool:
    if name != row.name or row.is_closed:
        return False
    return rest == row.rest or _FINISH.sub("", rest) == row.rest


class CompactFrames:
    """
    A source of frames: rows up to the event `tail`, what comes behind it as `live` shows it.

    `follow` opens a reader behind a cursor, `live` a source behind one. `is_finished`: the run was, so that every row
    ends. `gap` makes the frame for pruned events, as in `RunFrames`.
    """

    def __init__(
        self,
        fold: Fold,
        *,
        follow: Callable[[int], Reader],
        live: Callable[[int], Source],
        after: int,
        tail: int,
        is_finished: bool,
        gap: Callable[[int, int], bytes],
    ) -> None:
        self._fold = fold
        self._follow = follow
        self._make_live = live
        self._tail = tail
        self._gap = gap
        self._row: Row | None = None
        self._chunk: Chunk | None = None
        self._place = after + 1
        self._followed = tail + 1 if is_finished else 0
        self._reader = follow(after)
        self._ahead: Reader | None = None
        self._live: Source | None = None

    async def prime(self) -> None:
        """
        Read what comes first.

        Raises:
            JournalCorrupt, StoreUnavailable
        """
        await self._reader.prime()

    async def next(self) -> bytes | Signal:
        while True:
            if self._live is None and self._ahead is None and self._place > self._tail:
                self._go_live()
            if self._live is not None:
                return await self._live.next()
            if self._ahead is not None:
                signal = await self._look_ahead(self._ahead)
                if signal is not None:
                    return signal
                continue
            if self._chunk is None:
                before = self._reader.cursor
                got = await self._reader.next()
                if got is Signal.GAP:
                    # What was pruned meanwhile took the rest of the row with it.
                    row, self._row, self._place = self._row, None, self._reader.cursor + 1
                    return self._ended(row) + self._gap(before + 1, self._place)
                if isinstance(got, Signal):
                    return got
                self._chunk = got
            frames = self._take(self._chunk)
            if frames:
                return frames

    def _take(self, chunk: Chunk) -> bytes:
        folded = self._fold.take(self._row, chunk, self._place, self._tail, self._followed)
        self._row = folded.row
        if folded.stopped is None:
            self._place, self._chunk = chunk.last + 1, None
        else:
            self._place = folded.stopped
            self._ahead = self._follow(folded.stopped - 1)
        return folded.frames

    async def _look_ahead(self, ahead: Reader) -> Signal | None:
        """Find out whether the row ends in what is stored; None when that is known."""
        row = self._row
        assert row is not None
        while ahead.cursor < self._tail:
            start = ahead.cursor + 1
            chunk = await ahead.next()
            if chunk is Signal.WOKEN:
                return chunk
            if isinstance(chunk, Signal):  # pruned meanwhile, with the row
                self._followed = ahead.cursor + 1
                break
            end = _end_of(row, chunk, start, self._tail)
            if end is not None:
                self._followed = end
                break
        else:
            self._place = self._tail + 1  # it does not: all of it comes as it is
        ahead.close()
        self._ahead = None
        return None

    def _go_live(self) -> None:
        after = self._tail if self._row is None else self._row.first - 1
        self._row = self._chunk = None
        self._live = self._make_live(after)
        self._reader.close()

    def _ended(self, row: Row | None) -> bytes:
        if row is None or not self._fold.wanted.admits(row.name):
            return b""
        return self._fold.frame(row.last, row.name, row.line()).encode()

    def wake(self) -> None:
        (self._live or self._ahead or self._reader).wake()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        if self._live is None:
            self._reader.close()
        else:
            self._live.close()


def _end_of(row: Row, chunk: Chunk, start: int, tail: int) -> int | None:
    """The first event from `start` on, up to `tail`, that does not continue the row; None if all do."""
    skip = start - chunk.first
    rows = zip(chunk.types[skip:], chunk.lines[skip : tail + 1 - chunk.first], strict=False)
    for sequence, (name, line) in enumerate(rows, start):
        delta = _DELTA.match(line) if name == row.name else None
        if delta is None or not _continues(row, name, delta.group(3)):
            return sequence
    return None
