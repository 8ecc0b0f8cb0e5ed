"""
Following a run by its stream, through whatever happens to the connection: what to do next, and from where. No I/O.

A `Following` is asked for the next `Attempt` (open the stream, or poll; after how long; from which cursor), is told what
came of it, and returns the statuses that came. It never asks for a status that it has seen: the cursor is the `id:` of
the newest frame. A proxy that holds a stream back is found out by its silence: after two connections without a frame
in ten seconds the run is followed by long polls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.client.backoff import Backoff
from holdfast.client.sse import EventTooLarge, ServerSentEvent, SSEDecoder

# The first frame of a stream comes within one second, says the protocol; what needs ten is held back on its way.
FIRST_FRAME_SECONDS: Final = 10.0
SILENT_CONNECTIONS_MAX: Final = 2
# Three heartbeats: after such a silence the connection is gone, whatever the socket believes.
SILENCE_SECONDS: Final = 45.0
# Under the half minute after which many proxies give up on a request.
POLL_SECONDS: Final = 25


class StreamFault(Exception):
    """What came over the stream is not the protocol. The connection is of no more use; the run may be."""


class StreamRefused(Exception):
    """The server ended the stream for good: an `error` frame, with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next thing to do: wait, then open the stream, or (`is_poll`) ask once with `wait=POLL_SECONDS`."""

    is_poll: bool
    delay_seconds: float
    cursor: str | None


class Following:
    """Where a reader of one run stands. `last_seq` is the newest `seq` that was shown, None before the first."""

    def __init__(self, since: int | str | None = None, *, backoff: Backoff | None = None) -> None:
        self.cursor = None if since is None else str(since)
        self.last_seq = _number(self.cursor)
        self.is_over = False
        self._backoff = backoff or Backoff()
        self._decoder = SSEDecoder()
        self._delay_seconds = 0.0
        self._has_frame = False
        self._silent_connections = 0

    @property
    def is_polling(self) -> bool:
        return self._silent_connections >= SILENT_CONNECTIONS_MAX

    @property
    def has_frame(self) -> bool:
        """Whether the connection that is open brought a frame."""
        return self._has_frame

    def next_attempt(self) -> Attempt:
        """What to do now. Begins a new connection: whatever the last one left unfinished is void."""
        delay, self._delay_seconds = self._delay_seconds, 0.0
        self._decoder, self._has_frame = SSEDecoder(), False
        return Attempt(self.is_polling, delay, self.cursor)

    def feed(self, piece: bytes) -> list[Mapping[str, Any]]:
        """
        The task statuses that are complete with these bytes of the stream.

        Raises:
            StreamRefused: the server does not show this run to us any more.
            StreamFault: this is no such stream.
        """
        try:
            events = self._decoder.feed(piece)
        except EventTooLarge as exc:
            raise StreamFault(str(exc)) from None
        return [status for event in events if (status := self._take(event)) is not None]

    def polled(self, status: Mapping[str, Any]) -> None:
        """A long poll brought this status. It is the run's present one, whatever the cursor was."""
        self._came(status, None)

    def ended(self, *, retry_after: float | None = None) -> None:
        """The connection is over, by its end or a fault. The next attempt waits, unless the server said how long."""
        if self._delay_seconds == 0:
            self._delay_seconds = self._backoff.next_seconds(retry_after)

    def was_silent(self) -> None:
        """The connection was given up after FIRST_FRAME_SECONDS without a frame."""
        self._silent_connections += 1
        self.ended()

    def _take(self, event: ServerSentEvent) -> Mapping[str, Any] | None:
        frame = _frame(event)
        kind = frame.get("type", event.event)
        if kind == "sync":
            status = frame.get("task_status")
            if not isinstance(status, dict):
                raise StreamFault("a sync without its task_status")
            self._came(status, event.id)
            return status
        if kind == "reconnect":
            self._has_frame = True
            milliseconds = frame.get("retry_ms")
            self._delay_seconds = milliseconds / 1000 if isinstance(milliseconds, int | float) else 1.0
        elif kind == "error":
            raise StreamRefused(str(frame.get("code", "error")), str(frame.get("message", "")))
        return None

    def _came(self, status: Mapping[str, Any], event_id: str | None) -> None:
        sequence = status.get("seq")
        if isinstance(sequence, int):
            # Smaller than the one before where history was rolled back: then this is the truth.
            self.last_seq = sequence
            self.cursor = event_id if event_id and _number(event_id) == sequence else str(sequence)
        self.is_over = bool(status.get("completed"))
        self._has_frame = True
        if not self.is_polling:
            self._silent_connections = 0
        self._backoff.reset()


def _frame(event: ServerSentEvent) -> dict[str, Any]:
    try:
        frame = json.loads(event.data)
    except (ValueError, RecursionError):
        raise StreamFault(f"a frame that is no JSON: {event.data[:100]!r}") from None
    if not isinstance(frame, dict):
        raise StreamFault(f"a frame that is no JSON object: {event.data[:100]!r}")
    return frame


def _number(cursor: str | None) -> int | None:
    """The `N` of a cursor `N` or `N@epoch`."""
    head = (cursor or "").partition("@")[0]
    return int(head) if head.isascii() and head.isdigit() else None
