"""
The events of many turns in the order of time, as the store holds them.

Segments of different runs overlap: what was committed together was written side by side. So pages are taken in the
order in which segments begin, and an event is given out once no segment that was not read yet can hold an older one.
In the embedded store every event of a commit is younger than those of the commits before it; therefore what is there
when the store has no further segment is complete up to its youngest event. Where several processes commit, it is
complete up to the floor that they have in common; what is younger waits until that has risen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from holdfast.journal import Chunk
from holdfast.model import Segment
from holdfast.model.encoding import format_time
from holdfast.store.base import Store

# Some hundred events at once; more would hold up the other streams of the server while they are merged.
PAGE_BYTES_MAX = 64 * 1024

Piece: TypeAlias = tuple[int, Chunk]
"""The number of a run, and adjacent events of it."""

_Waiting: TypeAlias = tuple[str, int, int, str]
"""The time of an event as text, the number of its run, its sequence, its line."""


class Timeline:
    """Reads the events of a tenant, or of one of its threads, that are younger than `after` (in microseconds)."""

    def __init__(self, store: Store, tenant: str, *, after: int, thread_id: str | None = None) -> None:
        self._store = store
        self._tenant = tenant
        self._thread_id = thread_id
        self._after = after
        self._begun_after: int | None = None
        self._waiting: list[_Waiting] = []
        self.floor: int | None = None  # as it was at the last look

    async def next(self) -> Sequence[Piece] | None:
        """
        The next events, maybe none of a page; None when all that is committed, up to the floor, was given out.

        Later calls go on with what is committed then.
        """
        if self._thread_id is not None:
            return await self._next_of_thread()
        # Read before the page, which may then hold more than is complete up to this floor, but never less.
        self.floor = await self._store.common_floor()
        page = await self._store.segments_by_time(
            self._tenant, after=self._after, begun_after=self._begun_after, bytes_max=PAGE_BYTES_MAX
        )
        if not page:
            return self._give(None) or None
        self._begun_after = page[-1].first_timestamp
        after = format_time(self._after)
        self._waiting += [item for segment in page for item in _events(segment) if item[0] > after]
        self._waiting.sort()
        return self._give(self._begun_after)

    async def _next_of_thread(self) -> Sequence[Piece] | None:
        page = await self._store.segments_by_time(
            self._tenant, after=self._after, thread_id=self._thread_id, bytes_max=PAGE_BYTES_MAX
        )
        if not page:
            return None
        after = format_time(self._after)
        self._after = page[-1].last_timestamp
        return _pieces(item for segment in page for item in _events(segment) if item[0] > after)

    def _give(self, until: int | None) -> Sequence[Piece]:
        """What waits up to this time and up to the floor; None: that is no bound."""
        bounds = [bound for bound in (until, self.floor) if bound is not None]
        events = self._waiting
        if bounds:
            limit = format_time(min(bounds))
            events = [item for item in events if item[0] <= limit]
        self._waiting = self._waiting[len(events) :]
        return _pieces(events)


def _events(segment: Segment) -> list[_Waiting]:
    lines = segment.body.decode().split("\n")
    lines.pop()
    return [(time_of(line), segment.number, segment.first + index, line) for index, line in enumerate(lines)]


def _pieces(events: Iterable[_Waiting]) -> list[Piece]:
    """Adjacent events of one run as one chunk."""
    pieces: list[Piece] = []
    current, following = 0, 0
    lines: list[str] = []
    for _, number, sequence, line in events:
        if number != current or sequence != following:
            lines = []
            pieces.append((number, Chunk(sequence, lines, 0)))
        lines.append(line)
        current, following = number, sequence + 1
    return pieces


def time_of(line: str) -> str:
    """The timestamp of a canonical line as its text, which sorts like the time."""
    at = line.index('"timestamp":"') + 13
    return line[at : at + 27]
