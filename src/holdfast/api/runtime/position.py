"""
Where a reader of events begins: two kinds of cursor in, one decision out. The table of the specification, as code.

No I/O, so that every row of the table is a test.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from holdfast.api.http.errors import InvalidQuery
from holdfast.model import Run

_CURSOR: Final = re.compile(r"([0-9]{1,16})(?:@([0-9]{1,16}))?\Z")
_MOST: Final = 2**53 - 1


class Cursor(msgspec.Struct, frozen=True):
    """A place in a journal as a client knows it; a bare number means epoch 0."""

    sequence: int
    epoch: int


class Position(msgspec.Struct, frozen=True):
    """
    What a reader gets: events from `first` on, behind a `gap` frame with this reason. `is_done`: nothing is left, and
    nothing ever will be.
    """

    requested: int
    first: int
    gap: str | None = None
    is_done: bool = False


def read_cursor(text: str | None, name: str) -> Cursor | None:
    """
    A cursor from a query parameter or a header; None if it is absent or empty.

    Raises:
        InvalidQuery: it is neither `<n>` nor `<n>@<epoch>`, in ASCII digits up to 2^53-1.
    """
    if not text:
        return None
    match = _CURSOR.match(text)
    if match is not None:
        cursor = Cursor(int(match.group(1)), int(match.group(2) or 0))
        if cursor.sequence <= _MOST and cursor.epoch <= _MOST:
            return cursor
    raise InvalidQuery(f"{name} is a sequence like 5 or 5@1, up to {_MOST}, not {text[:40]!a}", field=name)


def find_position(run: Run, from_sequence: Cursor | None, last_event_id: Cursor | None) -> Position:
    """Decide; the first row of the table that fits wins."""
    start, epoch = 0, 0
    if from_sequence is not None:
        start, epoch = from_sequence.sequence, from_sequence.epoch
    if last_event_id is not None and last_event_id.sequence + 1 >= start:
        start, epoch = last_event_id.sequence + 1, last_event_id.epoch
    kept, tail, is_finished = run.first_sequence, run.tail_sequence, run.status.is_final
    if epoch > run.epoch:
        return Position(start, kept, "rolled_back")
    # The lowest sequence whose event may be another one than the event that the reader has.
    rewritten = min((first for later, first in run.epochs if later > epoch), default=None)
    if rewritten is not None and start > rewritten:
        return Position(start, max(rewritten, kept), "rolled_back")
    if start < kept:
        return Position(start, kept, "pruned")
    if start > tail and is_finished:
        return Position(start, start, is_done=True)
    if start <= tail + 1:
        return Position(start, start)
    return Position(start, start, "ahead")
