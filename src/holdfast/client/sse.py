"""
Server-sent events from bytes, by the rules of the WHATWG (HTML, 9.2.6 "Interpreting an event stream"). No I/O.

`feed` takes pieces cut anywhere, also inside a character or between CR and LF, and returns the events that are complete
with them, at once: a lone CR ends a line without waiting for what follows. What the end of a connection leaves
unfinished is no event; make a new decoder for a new connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# A task status has at most 1 MiB of node texts, and 1 MiB of pending calls; JSON may escape each character sixfold.
EVENT_BYTES_MAX: Final = 32 * 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_DIGITS: Final = re.compile(r"[0-9]+")


class EventTooLarge(ValueError):
    """An event has more bytes than the decoder may hold. The decoder is of no more use."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """
    One event.

    `event` is "message" where the stream named none. `id` is that of the last event that had one, up to this; None
    before the first.
    """

    event: str
    data: str
    id: str | None = None


class SSEDecoder:
    """Bytes in, events out. `retry_ms` is the last waiting time that the stream asked for."""

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.retry_ms: int | None = None
        self.last_event_id: str | None = None
        self._event_bytes_max = event_bytes_max
        self._head: bytes | None = b""  # until it is known whether the stream begins with a byte order mark
        self._pieces: list[bytes] = []  # the unfinished line
        self._line_bytes = 0
        self._data_bytes = 0
        self._is_after_cr = False
        self._event = ""
        self._id: str | None = None
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """
        The events that are complete with this piece.

        Raises:
            EventTooLarge: one event is larger than the limit, finished or not.
        """
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._head = piece
                return []
            self._head = None
            piece = piece.removeprefix(_BOM)
        if self._is_after_cr and piece:
            self._is_after_cr = False
            piece = piece.removeprefix(b"\n")
        return self._lines(piece)

    def _lines(self, piece: bytes) -> list[ServerSentEvent]:
        events = []
        start = 0
        for end in _LINE_END.finditer(piece):
            line = piece[start : end.start()]
            if self._pieces:
                line = b"".join([*self._pieces, line])
                self._pieces.clear()
                self._line_bytes = 0
            if (event := self._line(line)) is not None:
                events.append(event)
            start = end.end()
        if piece:
            self._is_after_cr = piece.endswith(b"\r")
        if start < len(piece):
            self._pieces.append(piece[start:])
            self._line_bytes += len(piece) - start
            self._check_size()
        return events

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(line)
            self._check_size()
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            self.retry_ms = int(value[:9])
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        self._event, self._data, self._data_bytes = "", [], 0
        self.last_event_id = self._id
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self.last_event_id)

    def _check_size(self) -> None:
        if self._line_bytes + self._data_bytes > self._event_bytes_max:
            raise EventTooLarge(f"an event of the stream has more than {self._event_bytes_max} bytes")
