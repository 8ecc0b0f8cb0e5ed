"""
uvicorn's HTTP protocol with limits, and with a `Connection` for each request.

What is refused here never becomes a request: too long a target, too many or too long headers, headers that do not
come, bytes that are no HTTP. The answer has the shape of the API that owns the path, as far as it is known; then the
connection is closed, half at first, so that a client that is still sending gets to read the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.api.http.connection import Connection
from holdfast.api.http.errors import BadHttp, HeadersTimeout, HeadersTooLarge, UriTooLong
from holdfast.api.http.reply import Reply

URL_BYTES_MAX = 8 * 1024
HEADER_BYTES_MAX = 64 * 1024
HEADER_LINES_MAX = 100
# The parser keeps an unfinished header line to itself, so what it was fed is counted as well.
HEAD_BYTES_MAX = HEADER_BYTES_MAX + 2 * URL_BYTES_MAX
LINGER_SECONDS = 1.0
# A client of a WebSocket waits for its answer before it sends anything; one that does not is not read on for long.
EARLY_BYTES_MAX = 64 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `config.app` is the door, which renders refusals."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._connection = Connection(transport, self.flow, self._hand_over, self._leave_chunks)
        self._extensions = {"holdfast": self._connection}
        self._refusal: BadHttp | None = None
        self._is_refused = False
        self._is_upgrade = False
        self._early = bytearray()
        self._is_head_open = False
        self._head_bytes = 0
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        door: Any = self.app
        self._headers_seconds: float = door.headers_seconds
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_complete()
        super().connection_lost(exc)
        self._connection.lost()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._is_upgrade:
            self._keep_early(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            # A WebSocket, if its handler takes it as one. Any other protocol is not known here: the request is
            # answered like all others.
            self._on_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            self._refuse(self._refusal or BadHttp(f"this is no HTTP/1.1 request: {exc}"))
            return
        if self._is_head_open:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(HeadersTooLarge(f"the headers are longer than {HEADER_BYTES_MAX} bytes"))
            elif self._deadline is None:
                self._expect_head()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]  # ours
        self._is_head_open = True
        self._head_bytes = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._raise(UriTooLong(f"the request target is longer than {URL_BYTES_MAX} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > HEADER_BYTES_MAX or len(self.headers) > HEADER_LINES_MAX:
            text = f"{HEADER_BYTES_MAX} bytes and {HEADER_LINES_MAX} lines"
            self._raise(HeadersTooLarge(f"the headers have more than {text}"))

    def on_headers_complete(self) -> None:
        self._is_head_open = False
        self._head_is_complete()
        super().on_headers_complete()
        if self._get_upgrade() == b"websocket":
            # What follows is no HTTP, so the connection ends with the answer, unless it becomes a WebSocket.
            self._is_upgrade = True
            self.cycle.keep_alive = False

    def _leave_chunks(self) -> None:
        """The answer that is about to begin has no length, and is read by a client that knows no chunks."""
        self.cycle.chunked_encoding = False

    # Handing over to a WebSocket

    def _on_upgrade(self, following: bytes) -> None:
        if self._is_upgrade:
            self._keep_early(following)

    def _keep_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > EARLY_BYTES_MAX:
            self.flow.pause_reading()

    def _hand_over(self, protocol: asyncio.Protocol) -> tuple[bytes, Callable[[], None]]:
        self._head_is_complete()
        # There is nothing left to answer; uvicorn would see to that.
        self.cycle.disconnected = True
        self.connections.discard(self)
        connections: set[Any] = self.connections
        connections.add(protocol)
        self.transport.set_protocol(protocol)
        self.flow.resume_reading()
        early, self._early = bytes(self._early), bytearray()
        return early, lambda: connections.discard(protocol)

    # Refusing

    def _raise(self, refusal: BadHttp) -> None:
        """Stop the parser from within one of its callbacks."""
        self._refusal = refusal
        raise refusal

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self._headers_seconds, self._on_head_late)

    def _head_is_complete(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_head_late(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_head_open:
            self._refuse(HeadersTimeout(f"the headers did not arrive within {self._headers_seconds:g} seconds"))
        else:
            self.transport.close()

    def _refuse(self, error: BadHttp) -> None:
        self._is_refused = True
        self._head_is_complete()
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn declares
        if cycle is not None and not cycle.response_complete:
            # An answer is under way; bytes of another one in the middle of it would be worse than its end.
            self.transport.abort()
            return
        door: Any = self.app
        self.transport.write(_as_http(door.refuse(getattr(self, "url", b""), error)))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _as_http(reply: Reply) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    headers = [*reply.headers, (b"content-type", reply.media_type), (b"content-length", b"%d" % len(reply.body))]
    lines += [name + b": " + value for name, value in (*headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + reply.body
