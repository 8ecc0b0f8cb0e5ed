"""The stream of one run: how it is opened where the reader stands, and what its frames mean. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from holdfast.client.answers import failure_of
from holdfast.client.errors import ForeignAnswer, RunCancelled, StreamInterrupted
from holdfast.client.http import Request
from holdfast.client.resuming import Discards, OnDiscard
from holdfast.client.runtime.events import Cancelled, Complete, Error, Gap, Restarted, RunEvent, UnknownEvent, decoder
from holdfast.client.sse import ServerSentEvent

_CURSOR: Final = re.compile(r"-?[0-9]{1,19}(?:@[0-9]{1,19})?")
_LAST_TYPES: Final = frozenset({"complete", "error", "cancelled"})


class RunSource:
    """
    A run's events behind a cursor.

    Args:
        start: the request that starts the run; its repeats are the same request. None reads a run that exists.
        cursor: `N` or `N@epoch`, the last sequence that the reader has.
        query: further parameters of the stream.
    """

    def __init__(
        self,
        start: Request | None,
        *,
        run_id: str | None = None,
        cursor: str | None = None,
        query: Mapping[str, Any] | None = None,
        on_discard: OnDiscard | None = None,
    ) -> None:
        self.run_id = run_id
        self.cursor = cursor
        self.is_over = False
        self.is_confirming = False
        self._start = start
        self._query = query or {}
        self.discards = Discards(on_discard)
        self._last = -1 if cursor is None else _sequence_of(cursor)
        self._end: RunEvent | None = None

    def request(self) -> Request:
        if self._start is not None and self.run_id is None:
            return self._start
        assert self.run_id is not None
        path = f"/runs/{quote(self.run_id, safe='')}/events"
        return Request("GET", path, self._query, {"Last-Event-ID": self.cursor})

    def opened(self, status_code: int, headers: Mapping[str, str]) -> None:
        self.run_id = self.run_id or headers.get("x-run-id")
        self.is_over = status_code == 204

    def ended(self) -> None:
        """Nothing follows from that."""

    def take(self, frame: ServerSentEvent) -> RunEvent | None:
        try:
            event = decoder.decode(frame.data)
        except msgspec.DecodeError as exc:
            raise ForeignAnswer(f"a frame that is no JSON object: {exc}") from None
        if isinstance(event, Gap):
            return self._behind(event)
        if event.sequence is not None:
            if event.sequence <= self._last:
                return None
            self._last, self.cursor = event.sequence, frame.id or str(event.sequence)
        self.run_id = self.run_id or event.run_id
        if isinstance(event, Restarted):
            for first, last in event.discard:
                self.discards.add(self.run_id, first, last)
        elif isinstance(event, Complete | Error | Cancelled) or (
            isinstance(event, UnknownEvent) and event.type in _LAST_TYPES
        ):
            self.is_over, self._end = True, event
        return event

    def result(self) -> Any:
        end = self._end
        if isinstance(end, Complete):
            return end.output
        if isinstance(end, Error):
            raise failure_of(end.code, end.error, end.details, run_id=self.run_id)
        if isinstance(end, Cancelled):
            raise RunCancelled(end.reason or "the run was cancelled", run_id=self.run_id)
        raise StreamInterrupted(f"the last event of run {self.run_id} was not read here; ask for its row")

    def _behind(self, gap: Gap) -> Gap:
        last, self._last = self._last, gap.first_sequence - 1
        if gap.reason == "rolled_back":
            self.discards.add(self.run_id, gap.first_sequence, last)
        return gap


def _sequence_of(cursor: str) -> int:
    if not _CURSOR.fullmatch(cursor):
        raise ValueError(
            f"after: expected the sequence of an event, or the cursor of a stream (N or N@epoch), found {cursor!r}"
        )
    return int(cursor.partition("@")[0])
