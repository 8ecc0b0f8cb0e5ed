"""
WebSocket frames as bytes (RFC 6455, section 5), and how many messages a client may send. No I/O.

What many readers get is framed once for all of them, so frames are made here and not by the library that reads them:
a server's frames have no mask, and need no state of a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

# A longer text is sent in fragments: between two of them a close or a pong may go out, and no write is larger.
FRAGMENT_BYTES_MAX: Final = 32 * 1024
# One write. A slow reader holds at most about two of these in our memory.
SLICE_BYTES_MAX: Final = 64 * 1024

_FIN: Final = 0x80
_TEXT: Final = 0x01
_CONTINUED: Final = 0x00
_DATA_PREFIX: Final = b"data: "


def text_frames(payload: bytes) -> bytes:
    """A text message, as one frame or as fragments."""
    if len(payload) <= FRAGMENT_BYTES_MAX:
        return _head(_FIN | _TEXT, len(payload)) + payload
    parts = []
    for start in range(0, len(payload), FRAGMENT_BYTES_MAX):
        piece = payload[start : start + FRAGMENT_BYTES_MAX]
        is_last = start + FRAGMENT_BYTES_MAX >= len(payload)
        parts += [_head((_FIN if is_last else 0) | (_CONTINUED if start else _TEXT), len(piece)), piece]
    return b"".join(parts)


def text_messages(payloads: Iterable[bytes]) -> bytes:
    """Many text messages, one behind the other."""
    parts: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        if size < _HEADS_MAX:
            parts.append(_HEADS[size])
            parts.append(payload)
        else:
            parts.append(text_frames(payload))
    return b"".join(parts)


def messages_of(frames: bytes) -> bytes:
    """Frames of server-sent events as text messages: of each its `data:`, to the byte."""
    return text_messages(line[len(_DATA_PREFIX) :] for line in frames.split(b"\n") if line.startswith(_DATA_PREFIX))


def slices(frames: bytes) -> Iterator[bytes | memoryview]:
    """Frames in pieces of at most SLICE_BYTES_MAX, none of which ends within a frame."""
    if len(frames) <= SLICE_BYTES_MAX:
        yield frames
        return
    view = memoryview(frames)
    begin = end = 0
    while end < len(frames):
        following = _end_of_frame(frames, end)
        if following - begin > SLICE_BYTES_MAX:
            yield view[begin:end]
            begin = end
        end = following
    yield view[begin:]


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def _end_of_frame(frames: bytes, start: int) -> int:
    size = frames[start + 1]
    if size < 126:
        return start + 2 + size
    width = 2 if size == 126 else 8
    return start + 2 + width + int.from_bytes(frames[start + 2 : start + 2 + width], "big")


# Of what most events are shorter than; a list is looked up faster than bytes are put together.
_HEADS_MAX: Final = 1024
_HEADS: Final = [_head(_FIN | _TEXT, size) for size in range(_HEADS_MAX)]


class MessageRate:
    """How many messages one client may send: so many a second, and a burst of so many at once."""

    __slots__ = ("_burst", "_left", "_per_second", "_seen")

    def __init__(self, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._seen = now

    def take(self, now: float) -> bool:
        """Whether one more is within the rate; it is counted if so."""
        self._left = min(self._left + (now - self._seen) * self._per_second, self._burst)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
