"""
A TCP proxy that loses things: replies, requests, connections, all of them, at the moment that a test chooses.

It understands nothing of what it carries. A connection is idle when both sides have had their say, so that what comes
next from the client is a request, and what comes next from the server the reply to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self


class Proxy:
    """Listens on a port of its own and passes on to `host:port`, as an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refuses = False  # new connections are closed at once
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Close all connections."""
        for link in list(self._links):
            link.close()

    def freeze(self) -> None:
        """Let nothing through any more, in no direction, and close nothing: as when a cable is pulled."""
        for link in self._links:
            link.is_frozen = True

    def lose_replies(self, *, containing: bytes = b"") -> None:
        """Close each connection at its next reply (that contains this); the reply is lost, what it tells of is not."""
        for link in self._links:
            link.loses = containing

    def hold_requests(self) -> list[Callable[[], None]]:
        """
        Close each connection to the client at its next request, and keep that request.

        Calling what comes back lets the requests arrive at the server after all, much too late.
        """
        releases: list[Callable[[], None]] = []
        for link in self._links:
            link.holds_request = True
            releases.append(link.release)
        return releases

    # What a proxy that understands more may decide

    def sees_request(self, link: Link, data: bytes) -> None:
        """A piece of a request passes."""

    def loses_reply(self, link: Link, data: bytes) -> bool:
        """Whether a piece of a reply is lost, and the connection closed."""
        return link.loses is not None and link.loses in data

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuses:
            await _closed(writer)
            return
        # In a task of its own: the server's is not ours to cancel.
        link = Link(self, reader, writer)
        self._links.add(link)
        task = asyncio.create_task(link.carry(self._target))
        self._tasks.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            await link.closed()


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._server_writer: asyncio.StreamWriter | None = None
        self._held = b""
        self._released = asyncio.Event()
        self.is_frozen = False
        self.loses: bytes | None = None
        self.holds_request = False

    async def carry(self, target: tuple[str, int]) -> None:
        try:
            server_reader, self._server_writer = await asyncio.open_connection(*target)
        except OSError:
            self.close()
            return
        there = asyncio.create_task(self._requests(self._client[0], self._server_writer))
        back = asyncio.create_task(self._replies(server_reader, self._client[1]))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if self._held:
                back.cancel()
                await asyncio.wait({back})
                await self._deliver_late(server_reader, self._server_writer)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            self.close()

    async def _deliver_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._released.wait()
        with contextlib.suppress(OSError):
            writer.write(self._held)
            await writer.drain()
            await reader.read(1 << 16)  # until it has answered, or hung up

    def release(self) -> None:
        self._released.set()

    def close(self) -> None:
        self._released.set()
        for writer in (self._client[1], self._server_writer):
            if writer is not None and not writer.is_closing():
                writer.close()

    async def closed(self) -> None:
        """Once both sides are."""
        for writer in (self._client[1], self._server_writer):
            if writer is not None:
                await _closed(writer)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.is_frozen:
                    await asyncio.Event().wait()
                if self.holds_request:
                    self._held = data
                    self._client[1].close()
                    return
                self._proxy.sees_request(self, data)
                writer.write(data)
                await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.is_frozen:
                    await asyncio.Event().wait()
                if self._proxy.loses_reply(self, data):
                    return
                writer.write(data)
                await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
