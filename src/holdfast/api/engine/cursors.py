"""
Where a reader of one turn goes on: its cursor against what the journal holds. No I/O.

    the cursor                                              the stream
    of a newer epoch than the journal's                     rolled_back, from the start
    of an older one, in history that was rolled back        rolled_back, behind the newest restored event
    before the first event that is kept                     pruned, behind the newest pruned one
    behind the last event                                   ahead, from the start
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from holdfast.errors import InvalidRequest
from holdfast.model import Run

SEQUENCE_MAX: Final = 2**53 - 1

_EVENT_ID: Final = re.compile(r"([0-9]{1,16})(?:@([0-9]{1,9}))?\Z", re.ASCII)


class EventId(msgspec.Struct, frozen=True):
    """The `id:` of a frame in a stream of one turn."""

    sequence: int
    epoch: int

    @property
    def text(self) -> str:
        return f"{self.sequence}@{self.epoch}" if self.epoch else str(self.sequence)


class Start(msgspec.Struct, frozen=True):
    """Behind which sequence a stream begins (-1: at the start), and whether it has to tell of a gap first."""

    after: int
    gap: str | None = None  # rolled_back, pruned, ahead
    is_restart: bool = False  # nothing that the cursor stands for was ever part of the journal


def parse_event_id(text: str, *, field: str) -> EventId:
    """
    `<sequence>` or `<sequence>@<epoch>`.

    Raises:
        InvalidRequest
    """
    match = _EVENT_ID.match(text)
    if match is None or int(match[1]) > SEQUENCE_MAX:
        raise InvalidRequest(
            f"{field}: a sequence, or <sequence>@<epoch>, as in the id lines of this stream; not {text[:60]!r}",
            field=field,
        )
    return EventId(int(match[1]), int(match[2] or 0))


def start_behind(run: Run, cursor: EventId) -> Start:
    """Where a reader with this cursor goes on."""
    if cursor.epoch > run.epoch:
        return Start(run.first_sequence - 1, "rolled_back", is_restart=True)
    rewritten = [first for epoch, first in run.epochs if epoch > cursor.epoch]
    if rewritten and cursor.sequence >= min(rewritten):
        return Start(max(min(rewritten), run.first_sequence) - 1, "rolled_back")
    if cursor.sequence > run.tail_sequence:
        return Start(run.first_sequence - 1, "ahead", is_restart=True)
    if cursor.sequence < run.first_sequence - 1:
        return Start(run.first_sequence - 1, "pruned")
    return Start(cursor.sequence)
