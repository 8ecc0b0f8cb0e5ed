"""
What a handler may do with the connection of its request, beyond ASGI: write frames without a coroutine per event,
see whether the other side takes them, and cut hard.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

# Larger frames are not copied, so that readers who take nothing hold the same bytes and not one copy each.
COPY_BYTES_MAX = 4096
# SO_LINGER on, for no time: closing resets the connection instead of keeping what the other side does not take.
_RESET: Final = struct.pack("ii", 1, 0)


HandOver = Callable[[asyncio.Protocol], tuple[bytes, Callable[[], None]]]


class Connection:
    """Made by our protocol for each connection; found in the scope's extensions under `holdfast`."""

    __slots__ = ("_flow", "_hand_over", "_is_plain", "_leave_chunks", "_sent", "is_lost", "on_lost", "transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        hand_over: HandOver | None = None,
        leave_chunks: Callable[[], None] | None = None,
    ) -> None:
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        self.transport = transport
        self._hand_over = hand_over
        self._leave_chunks = leave_chunks
        self._is_plain = False
        self._flow = flow
        self._sent = 0

    def be_plain(self) -> None:
        """Let the answer that is about to begin have a body without chunks, which the end of the connection ends."""
        if self._leave_chunks is not None:
            self._leave_chunks()
            self._is_plain = True

    def write(self, data: bytes | memoryview) -> None:
        """Write one chunk of a body that was begun with chunked encoding. It never waits; see `is_paused`."""
        if self.is_lost:
            return
        if self._is_plain:
            self._sent += len(data)
            self.transport.write(data)
            return
        head = b"%x\r\n" % len(data)
        self._sent += len(head) + len(data) + 2
        if len(data) < COPY_BYTES_MAX:
            self.transport.write(b"".join((head, data, b"\r\n")))
        else:
            self.transport.writelines((head, data, b"\r\n"))

    @property
    def is_paused(self) -> bool:
        """More waits for the other side than should: await `drained` before writing on."""
        return self._flow.write_paused

    async def drained(self) -> None:
        """Wait until the other side took enough, or the connection is lost."""
        await self._flow.drain()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the other side, here and in the system."""
        if self.is_lost:
            return 0
        return self.transport.get_write_buffer_size() + _unacknowledged(self.transport)

    @property
    def taken(self) -> int:
        """A number that grows when the other side takes something."""
        return self._sent - self.waiting

    def close(self) -> None:
        """Send what waits, then close: a chunked body ends without its last chunk."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once, by a reset; what waits is thrown away, in the system too."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.is_lost:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[bytes, Callable[[], None]]:
        """
        Let another protocol have the connection, from the next byte on. What came behind the request comes back, and
        what the protocol has to call when it is over.

        Raises:
            ConnectionError: it is gone.
        """
        if self.is_lost or self._hand_over is None:
            raise ConnectionAbortedError("the client left")
        return self._hand_over(protocol)

    def lost(self) -> None:
        """For the protocol: the connection is gone."""
        self.is_lost = True
        if self.on_lost is not None:
            self.on_lost()


class SocketConnection(Connection):
    """The connection of a WebSocket: what is written goes out as it is."""

    __slots__ = ()

    def write(self, data: bytes | memoryview) -> None:
        """Write whole frames. It never waits; see `is_paused`."""
        if not self.is_lost:
            self._sent += len(data)
            self.transport.write(data)


class Taking:
    """Whether the other side of a connection takes what waits for it. Asked from time to time."""

    __slots__ = ("_at", "_connection", "_taken")

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._taken, self._at = connection.taken, now

    def is_stalled(self, now: float, seconds: float) -> bool:
        """Whether something waits for it, and it took nothing of it for so long."""
        taken = self._connection.taken
        if taken > self._taken or not self._connection.waiting:
            self._taken, self._at = taken, now
        return now - self._at >= seconds


def _unacknowledged(transport: asyncio.Transport) -> int:
    """
    Bytes that the system holds for the other side; 0 where it does not tell.

    It buffers megabytes, and takes more from us only when a third of that is free: a reader that is slow but steady
    would look like one that takes nothing.
    """
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:  # closed meanwhile
        return 0
    return int(count)
