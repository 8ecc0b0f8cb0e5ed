"""
Adjacent events of one run, as readers get them. No I/O.

A chunk is shared by all its readers, and so are the frames that a projection made of it: an event is encoded once
for everybody, however many read along.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

from holdfast.errors import JournalCorrupt
from holdfast.model import Segment
from holdfast.model.encoding import event_type

T = TypeVar("T")

# What a reader gets at once, and so what one that is slow holds of our memory. One network write.
PIECE_BYTES_MAX = 64 * 1024


class Chunk:
    """Canonical lines (without line ends) of adjacent events; `first` is the sequence of the first one."""

    __slots__ = ("_made", "_pieces", "_types", "first", "lines", "size")

    def __init__(self, first: int, lines: Sequence[str], size: int | None = None) -> None:
        self.first = first
        self.lines = lines
        self.size = sum(map(len, lines)) if size is None else size
        self._types: list[str] | None = None
        self._pieces: list[Chunk] | None = None
        self._made: dict[Hashable, object] = {}

    @property
    def last(self) -> int:
        """The sequence of the last event: the cursor of a reader that has this chunk."""
        return self.first + len(self.lines) - 1

    @property
    def types(self) -> list[str]:
        """The type of each event."""
        if self._types is None:
            self._types = [event_type(line) for line in self.lines]
        return self._types

    def after(self, cursor: int) -> Chunk:
        """The part behind a cursor; the chunk itself where all of it is."""
        skip = cursor + 1 - self.first
        if skip <= 0:
            return self
        return Chunk(cursor + 1, self.lines[skip:])

    @property
    def pieces(self) -> list[Chunk]:
        """The same events in chunks of at most PIECE_BYTES_MAX, or of one event that is larger; made once."""
        if self._pieces is None:
            self._pieces = [self] if self.size <= PIECE_BYTES_MAX else list(_split(self))
        return self._pieces

    def piece_after(self, cursor: int) -> Chunk:
        """The first piece of what is behind a cursor; shared by all readers that are at the same place."""
        if self.size <= PIECE_BYTES_MAX:
            return self.after(cursor)
        place = bisect_right(self.pieces, cursor + 1, key=_first) - 1
        return self.pieces[max(place, 0)].after(cursor)

    def made_once(self, key: Hashable, make: Callable[[Chunk], T]) -> T:
        """What `make` makes of this chunk, made for the first reader that asks under this key and shared from then."""
        try:
            return self._made[key]  # type: ignore[return-value]  # the same key always goes with the same maker
        except KeyError:
            made = make(self)
            self._made[key] = made
            return made


def _first(chunk: Chunk) -> int:
    return chunk.first


def _split(chunk: Chunk) -> Iterator[Chunk]:
    begin, size = 0, 0
    for place, line in enumerate(chunk.lines):
        if size and size + len(line) > PIECE_BYTES_MAX:
            yield Chunk(chunk.first + begin, chunk.lines[begin:place], size)
            begin, size = place, 0
        size += len(line)
    yield Chunk(chunk.first + begin, chunk.lines[begin:], size)


def chain(prior: bytes, body: bytes) -> bytes:
    """The hash of a segment: SHA-256 over the hash before it (32 raw bytes), then its lines with their LF."""
    return hashlib.sha256(prior + body).digest()


def check_chain(run_id: str, segments: Sequence[Segment], prior: bytes | None) -> None:
    """
    Compute the hashes of adjacent segments anew; `prior` is the one before them (None: not known).

    Raises:
        JournalCorrupt: the bytes of one are not those that were written.
    """
    for segment in segments:
        if prior is not None and chain(prior, segment.body) != segment.hash:
            raise JournalCorrupt(
                f"run {run_id}: the events {segment.first} to {segment.last} are not what was written, "
                "their hash is another",
                first_bad_sequence=segment.first,
            )
        prior = segment.hash


def chunk_of(segments: Sequence[Segment], cursor: int) -> Chunk:
    """
    The events of adjacent segments behind a cursor.

    Raises:
        JournalCorrupt: a segment is missing between two, or has not as many lines as it should.
    """
    lines: list[str] = []
    expected = segments[0].first
    for segment in segments:
        text = segment.body.decode()
        here = text.split("\n")
        here.pop()
        if segment.first != expected or len(here) != segment.last - segment.first + 1:
            raise JournalCorrupt(
                f"the journal should go on with event {expected}; the segment found there has events "
                f"{segment.first} to {segment.last} in {len(here)} lines",
                first_bad_sequence=expected,
            )
        lines += here
        expected = segment.last + 1
    first = segments[0].first
    skip = max(cursor + 1 - first, 0)
    return Chunk(first + skip, lines[skip:] if skip else lines)
