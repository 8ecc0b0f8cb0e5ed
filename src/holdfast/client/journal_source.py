"""What reading the journal of one run has in common in the APIs that number its events. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

from holdfast.client.http import Request
from holdfast.client.resuming import Discards, OnDiscard
from holdfast.client.sse import ServerSentEvent

_CURSOR: Final = re.compile(r"-?[0-9]{1,19}(?:@[0-9]{1,19})?")


class JournalSource:
    """
    A run's events behind a cursor; a `Source` adds what they are.

    Args:
        start: the request that starts the run; its repeats are the same request. None reads a run that exists.
        cursor: `N` or `N@epoch`, the last sequence that the reader has.
        query: further parameters of the stream.

    Raises:
        ValueError: the cursor is none.
    """

    # Of the stream of a run; `{}` is its id.
    _PATH: ClassVar[str]

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
        self.discards = Discards(on_discard)
        self._start = start
        self._query = query or {}
        self._last = -1 if cursor is None else _sequence_of(cursor)

    def request(self) -> Request:
        if self._start is not None and self.run_id is None:
            return self._start
        assert self.run_id is not None
        path = self._PATH.format(quote(self.run_id, safe=""))
        return Request("GET", path, self._query, {"Last-Event-ID": self.cursor})

    def opened(self, status_code: int, headers: Mapping[str, str]) -> None:
        self.run_id = self.run_id or headers.get("x-run-id")
        self.is_over = status_code == 204

    def ended(self) -> None:
        """The end of a body says nothing: the run's last event does."""

    def _passed(self, run_id: str | None, sequence: int | None, frame: ServerSentEvent) -> bool:
        """Whether the reader has this event already; else it stands behind it now."""
        if sequence is not None:
            if sequence <= self._last:
                return True
            self._last, self.cursor = sequence, frame.id or str(sequence)
        self.run_id = self.run_id or run_id
        return False

    def _skip_to(self, first: int, *, is_rolled_back: bool) -> int:
        """The next event is `first`; what the reader has behind it may be void. The last sequence that it had."""
        last, self._last = self._last, first - 1
        if is_rolled_back:
            self.discards.add(self.run_id, first, last)
        return last


def _sequence_of(cursor: str) -> int:
    if not _CURSOR.fullmatch(cursor):
        raise ValueError(
            f"after: expected the sequence of an event, or the cursor of a stream (N or N@epoch), found {cursor!r}"
        )
    return int(cursor.partition("@")[0])
