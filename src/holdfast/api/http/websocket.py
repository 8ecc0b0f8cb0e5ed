"""
A WebSocket in the place of an HTTP request: the handshake, messages in, frames out, and how it is closed.

The request passes the door and the handler like every other one, so what is refused is refused in HTTP. Then its
connection is handed over to `WebSocket`, which reads frames by the Sans-I/O part of the library `websockets`. There is
no compression, no subprotocol, and no queue of what goes out: frames are written straight to the connection, by
whoever follows a run. Of what comes in, little is kept: while messages wait, the connection is not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from holdfast.api.http.asgi import Header, Scope, connection_of, is_websocket
from holdfast.api.http.connection import SocketConnection
from holdfast.api.http.errors import BadHttp, UpgradeRequired
from holdfast.api.http.frames import MessageRate
from holdfast.api.http.reply import begin, shared_headers

MESSAGE_BYTES_MAX: Final = 1024 * 1024
MESSAGES_PER_SECOND: Final = 20
MESSAGES_BURST: Final = 100
# So many messages may wait to be heard before the connection is not read any more.
WAITING_MAX: Final = 4
# How long the other side may take nothing of what waits, and how long it may take in all, to answer a close.
LINGER_SECONDS: Final = 5.0
LINGER_SECONDS_MAX: Final = 60.0
REASON_BYTES_MAX: Final = 123

BINARY: Final = 1003
BAD_TEXT: Final = 1007
TOO_FAST: Final = 4429

# The library would log whole frames, and the first one may hold a key.
_SILENT: Final = logging.getLogger("holdfast.websocket")
_SILENT.disabled = True


def accept(scope: Scope, headers: tuple[Header, ...] = ()) -> WebSocket:
    """
    Answer a request with 101 and take its connection over.

    Raises:
        UpgradeRequired: the request does not ask for a WebSocket.
        BadHttp: it asks in a wrong way.
        ConnectionError: the client left.
    """
    if not is_websocket(scope):
        raise UpgradeRequired("this is a WebSocket: call it with Upgrade: websocket")
    handshake = ServerProtocol(logger=_SILENT)
    given = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    response = handshake.accept(Request(scope["path"], given, protocol=f"HTTP/{scope['http_version']}"))
    if response.status_code != 101:
        raise BadHttp(f"this is no WebSocket handshake: {handshake.handshake_exc}")
    for name, value in (*headers, *shared_headers(scope)):
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    begin(scope, 101)
    http = connection_of(scope)
    socket = WebSocket(http.transport)
    early, socket.on_over = http.hand_over(socket)
    socket.connection.write(response.serialize())
    if early:
        socket.data_received(early)
    return socket


class WebSocket(asyncio.Protocol):
    """One open WebSocket. Its connection is written to by whoever holds it, in whole frames."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader = ServerProtocol(state=State.OPEN, max_size=MESSAGE_BYTES_MAX, logger=_SILENT)
        self._flow = FlowControl(transport)
        self.connection = SocketConnection(transport, self._flow)
        self.is_closing = False
        self.on_over: Callable[[], None] = _nothing
        self._rate = MessageRate(MESSAGES_PER_SECOND, MESSAGES_BURST, self._loop.time())
        self._message = bytearray()
        self._inbox: deque[bytes] = deque()
        self._hears = True
        self._waiter: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None

    # For whoever holds it

    async def receive(self) -> bytes | None:
        """
        The next message, valid UTF-8; None when none follows. Cancelling it loses nothing.

        What the other side said before it left is received; nothing is once the socket was closed from here.
        """
        while not self._inbox:
            if not self._hears:
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._inbox.popleft()
        if not self._inbox:
            self._flow.resume_reading()
        return message

    def stop_hearing(self) -> None:
        """Take no further message; those that wait are still received."""
        self._hears = False
        self._wake()

    def close(self, code: int, reason: str) -> None:
        """
        Send what waits, then a close. An other side that does not take it for LINGER_SECONDS is cut off.

        It may be called at any time, since all that is written are whole frames; a second call changes nothing.
        """
        if self.is_closing:
            return
        self._inbox.clear()
        self._be_closing()
        if self._reader.state is State.OPEN:
            self._reader.send_close(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
            self._flush()

    def _be_closing(self) -> None:
        self.is_closing = True
        self._flow.resume_reading()  # for the other side's answer
        self.stop_hearing()
        if not self.connection.is_lost:
            self._closed_at, self._taken = self._loop.time(), self.connection.taken
            self._linger = self._loop.call_later(LINGER_SECONDS, self._cut)

    def _cut(self) -> None:
        """End the wait for the other side, unless it is still taking what waits."""
        taken, before = self.connection.taken, self._taken
        if taken > before and self._loop.time() - self._closed_at < LINGER_SECONDS_MAX:
            self._taken = taken
            self._linger = self._loop.call_later(LINGER_SECONDS, self._cut)
        elif self.connection.waiting:
            self.connection.abort()
        else:
            self._transport.close()

    # From the connection

    def data_received(self, data: bytes) -> None:
        self._reader.receive_data(data)
        for frame in self._reader.events_received():
            if isinstance(frame, Frame):
                self._on_frame(frame)
        # A violation of the protocol, or a message that is too long: the library has closed with the code for it.
        if self._reader.state is not State.OPEN and not self.is_closing:
            self._be_closing()
        self._flush()

    def eof_received(self) -> bool | None:
        self._reader.receive_eof()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lost()
        if not self.is_closing:
            self._be_closing()
        if self._linger is not None:
            self._linger.cancel()
        self._flow.resume_writing()
        self.on_over()

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    def shutdown(self) -> None:
        """For uvicorn, which stops: whoever holds the socket has closed it already."""

    def _on_frame(self, frame: Frame) -> None:
        if self.is_closing or frame.opcode is Opcode.CLOSE or frame.opcode is Opcode.PONG:
            return
        if frame.opcode is not Opcode.CONT and not self._rate.take(self._loop.time()):
            self.close(TOO_FAST, f"more than {MESSAGES_PER_SECOND} messages a second")
        elif frame.opcode is Opcode.BINARY:
            self.close(BINARY, "messages are text")
        elif frame.opcode is not Opcode.PING:
            self._message += frame.data
            if frame.fin:
                message, self._message = bytes(self._message), bytearray()
                self._on_message(message)

    def _on_message(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            self.close(BAD_TEXT, "the message is no UTF-8")
            return
        if not self._hears:
            return
        self._inbox.append(message)
        if len(self._inbox) >= WAITING_MAX:
            self._flow.pause_reading()
        self._wake()

    def _flush(self) -> None:
        for data in self._reader.data_to_send():
            if data:
                self.connection.write(data)
            elif self._reader.parser_exc is None:
                self._transport.close()
            elif not self.connection.is_lost and self._transport.can_write_eof():
                # The client may still be sending what was refused: closing at once would reset the connection, and it
                # might never read why.
                self._transport.write_eof()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing() -> None:
    pass
