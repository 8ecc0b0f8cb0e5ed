"""
A proxy in front of a server that is what proxies are at their worst: it cuts answers after so many bytes, lets them go
silent, answers itself with a page of its own, or hangs up.

It carries one request for each connection, so "the next request" is the next connection's; both sides are told so by
`Connection: close`. What it holds itself is small, so that a slow reader behind it slows the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

# Of the system, and as much again of ours, for each direction.
BUFFER_BYTES: Final = 16 * 1024

_LENGTH: Final = re.compile(rb"^content-length: *([0-9]+)\r$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """What becomes of a request, or of its answer: cut after so many bytes, silent after so many of its body."""

    kind: Literal["cut", "freeze", "refuse", "hang_up"]
    after_bytes: int = 0
    answer: bytes = b""


class FaultyProxy:
    """Listens on a port of its own and passes on to `target`, as an async context manager."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.answers: list[int] = []  # how many bytes of each were passed on
        self.heartbeats = 0
        self._faults: deque[Fault] = deque()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=BUFFER_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def open(self) -> int:
        """Connections to clients that are not closed."""
        return len(self._links)

    @property
    def faults_left(self) -> int:
        return len(self._faults)

    def plan(self, fault: Fault, times: int = 1) -> None:
        """Let this happen to the next requests."""
        self._faults.extend([fault] * times)

    def drop(self) -> None:
        """Cut all connections now."""
        for link in self._links:
            link.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # In a task of its own: the server's is not ours to cancel.
        link = asyncio.create_task(self._carry(reader, writer))
        self._links.add(link)
        try:
            await asyncio.wait({link})
        finally:
            self._links.discard(link)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with _closing(writer):
                request = await _request(reader)
                self.answers.append(0)
                fault = self._faults.popleft() if self._faults else None
                if fault is not None and fault.kind in ("refuse", "hang_up"):
                    writer.write(fault.answer)
                    await writer.drain()
                    return
                there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=BUFFER_BYTES)
                async with _closing(back):
                    for end in (back, writer):
                        _be_small(end)
                    back.write(request)
                    await _first_of(self._answer(there, writer, fault), reader.read(1))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        number = len(self.answers) - 1
        left = None if fault is None else fault.after_bytes
        if fault is not None and fault.kind == "freeze":
            writer.write(await reader.readuntil(b"\r\n\r\n"))
        while left is None or left > 0:
            data = await reader.read(BUFFER_BYTES if left is None else min(left, BUFFER_BYTES))
            if not data:
                return
            writer.write(data)
            await writer.drain()
            left = None if left is None else left - len(data)
            self.answers[number] += len(data)
            self.heartbeats += data.count(b"\n: heartbeat\n")
        if fault is not None and fault.kind == "freeze":
            await asyncio.Event().wait()


def _be_small(end: asyncio.StreamWriter) -> None:
    end.transport.set_write_buffer_limits(BUFFER_BYTES)
    sock = end.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


async def _request(reader: asyncio.StreamReader) -> bytes:
    """A whole request, as it is passed on."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    first, rest = head.split(b"\r\n", 1)
    return first + b"\r\nConnection: close\r\n" + re.sub(rb"(?im)^connection:.*\r\n", b"", rest) + body


async def _first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
