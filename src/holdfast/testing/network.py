"""
A network inside of the process: what a client writes is what the server's protocol is given, and the other way round.

The server lives on an event loop in a thread of its own. A client may be on any other loop, so the two ends meet in a
`_Pipe`, which wakes either side on its own loop. The bytes are those of a real connection, and so is the backpressure:
a client that reads nothing pauses the server's writing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore2
import uvicorn
from uvicorn.server import ServerState

from holdfast.api.http.protocol import LimitedProtocol

# What a server may write ahead of its client: about what a socket holds.
HIGH_WATER: Final = 256 * 1024
LOW_WATER: Final = 64 * 1024


class Network:
    """The connections to one server; `serve` says who answers them. Any thread may connect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._config: uvicorn.Config | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = ServerState()
        self._links: set[_Link] = set()

    def serve(self, config: uvicorn.Config) -> None:
        """Let this application answer from now on. Called on its event loop."""
        if not config.loaded:
            config.load()
        self._config, self._loop, self._state = config, asyncio.get_running_loop(), ServerState()

    def refuse(self) -> None:
        """Nobody answers from now on, as when no process listens."""
        self._config = None

    def drop(self) -> None:
        """Cut all connections, as a network does. Called from any thread."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.drop()

    def freeze(self) -> None:
        """Let all connections of this moment carry nothing any more, without an end: half open, from any thread."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.frozen = True

    def waiting(self) -> int:
        """How many bytes the clients have not taken, of all connections that carry something."""
        with self._lock:
            return sum(link.size for link in self._links if not link.frozen)

    async def connect(self, timeout: float | None) -> _Link:
        """
        A new connection, as the client sees it. If the client goes away meanwhile, it is cut.

        Raises:
            httpcore2.ConnectError: nobody listens.
            httpcore2.ConnectTimeout: nobody answered in time.
        """
        config, loop = self._config, self._loop
        if config is None or loop is None:
            raise httpcore2.ConnectError("connection refused")
        link = _Link(loop, self._forget)
        made: concurrent.futures.Future[None] = concurrent.futures.Future()

        def accept() -> None:
            link.accept(config, self._state)
            made.set_result(None)

        with self._lock:
            self._links.add(link)
        try:
            loop.call_soon_threadsafe(accept)
            async with asyncio.timeout(timeout):
                await asyncio.shield(asyncio.wrap_future(made))
        except BaseException as exc:
            _call_on(loop, link.drop_now)  # behind `accept`
            if isinstance(exc, TimeoutError):
                raise httpcore2.ConnectTimeout("nobody answered in time") from None
            if isinstance(exc, RuntimeError):  # the server's loop is over
                raise httpcore2.ConnectError("connection refused") from None
            raise
        return link

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class Backend(httpcore2.AsyncNetworkBackend):
    """
    The HTTP library's way into a `Network`, whatever the address says.

    `bytes_of_answer` is asked with each request how many bytes of its answer arrive; None: all.
    """

    def __init__(self, network: Network, bytes_of_answer: Callable[[], int | None]) -> None:
        self._network = network
        self._bytes_of_answer = bytes_of_answer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(timeout)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(timeout)

    async def _connect(self, timeout: float | None) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._network.connect(timeout), self._bytes_of_answer)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Link:
    """One connection: the server's transport, and the bytes that wait for the client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_gone: Callable[[_Link], None]) -> None:
        self.loop = loop
        self.frozen = False
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._is_ended = False  # the server wrote its last byte
        self._is_cut = False
        self._wake: Callable[[], None] | None = None
        self._transport: _Transport | None = None

    def accept(self, config: uvicorn.Config, state: ServerState) -> None:
        protocol = LimitedProtocol(config=config, server_state=state, app_state={}, _loop=self.loop)
        self._transport = _Transport(self, protocol)
        protocol.connection_made(self._transport)

    # For the server, on its loop

    def put(self, data: bytes) -> int:
        """Hand bytes to the client; how many wait for it now."""
        with self._lock:
            self._waiting += data
            size, wake = len(self._waiting), self._wake
        if wake is not None and not self.frozen:
            wake()
        return size

    @property
    def size(self) -> int:
        with self._lock:
            return len(self._waiting)

    def end(self, *, cut: bool) -> None:
        with self._lock:
            self._is_ended = True
            self._is_cut = self._is_cut or cut
            wake = self._wake
        if wake is not None and not self.frozen:
            wake()
        self._on_gone(self)

    def drop_now(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # For the client, on its own loop

    def write(self, data: bytes) -> None:
        """
        Raises:
            httpcore2.WriteError: the connection is gone.
        """
        if self.frozen:
            return
        if self._is_ended:
            raise httpcore2.WriteError("the connection is gone")
        transport = self._transport
        assert transport is not None
        try:
            self.loop.call_soon_threadsafe(transport.received, data)
        except RuntimeError:  # its loop is over
            raise httpcore2.WriteError("the connection is gone") from None

    async def read(self, bytes_max: int) -> bytes:
        """
        Some bytes; none: the server has ended the connection.

        Raises:
            httpcore2.ReadError: it was cut.
        """
        woken = asyncio.Event()
        wake = functools.partial(_call_on, asyncio.get_running_loop(), woken.set)
        while True:
            woken.clear()
            with self._lock:
                data = b"" if self.frozen else bytes(self._waiting[:bytes_max])
                del self._waiting[: len(data)]
                left, is_ended, is_cut = len(self._waiting), self._is_ended, self._is_cut
                self._wake = wake
            if data:
                if left <= LOW_WATER and self._transport is not None:
                    _call_on(self.loop, self._transport.resume)
                return data
            if is_cut and not self.frozen:
                raise httpcore2.ReadError("connection reset")
            if is_ended and not self.frozen:
                return b""
            await woken.wait()

    @property
    def is_readable(self) -> bool:
        """Whether bytes or an end wait for the client."""
        with self._lock:
            return not self.frozen and (bool(self._waiting) or self._is_ended)

    def drop(self) -> None:
        """Cut it for both sides; what is on its way to the client arrives before it sees the cut."""
        self.close()

    def close(self) -> None:
        """The client leaves."""
        if self._transport is not None:
            _call_on(self.loop, self._transport.abort)


class _Stream(httpcore2.AsyncNetworkStream):
    """The client's end."""

    def __init__(self, link: _Link, bytes_of_answer: Callable[[], int | None]) -> None:
        self._link = link
        self._bytes_of_answer = bytes_of_answer
        self._left: int | None = None  # of an answer that is to be cut
        self._is_asking = False  # a request is being written, in several pieces

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._is_asking = False
        if self._left == 0:
            self._link.close()
            raise httpcore2.ReadError("connection reset")
        try:
            async with asyncio.timeout(timeout):
                data = await self._link.read(max_bytes if self._left is None else min(max_bytes, self._left))
        except TimeoutError:
            raise httpcore2.ReadTimeout("nothing arrived in time") from None
        if self._left is not None:
            self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._is_asking:
            self._is_asking, self._left = True, self._bytes_of_answer()
        self._link.write(bytes(buffer))

    async def aclose(self) -> None:
        self._link.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("a fake server speaks plain HTTP")

    def get_extra_info(self, info: str) -> Any:
        # Asked of an idle connection: one that can be read from was ended by the server.
        return self._link.is_readable if info == "is_readable" else None


class _Transport(asyncio.Transport):
    """The server's end."""

    def __init__(self, link: _Link, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 1)})
        self._link = link
        self._protocol = protocol
        self._is_closing = False
        self._is_paused = False
        self._is_reading = True
        self._early: list[bytes] = []

    def received(self, data: bytes) -> None:
        """The client wrote."""
        if self._is_closing:
            return
        if self._is_reading:
            self._protocol.data_received(data)
        else:
            self._early.append(data)

    def resume(self) -> None:
        """The client has read."""
        if self._is_paused and not self._is_closing and self._link.size <= LOW_WATER:
            self._is_paused = False
            self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if self._link.put(bytes(data)) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._link.size

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._close(cut=False)

    def abort(self) -> None:
        self._close(cut=True)

    def _close(self, *, cut: bool) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._link.end(cut=cut)
        self._link.loop.call_soon(self._protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        early, self._early = self._early, []
        for data in early:
            self._link.loop.call_soon(self.received, data)

    def is_reading(self) -> bool:
        return self._is_reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # its loop is over, and so is whoever would hear of it
        loop.call_soon_threadsafe(function)
