"""
A way to a server that can go wrong, and the server at its end: one interface, over a server process behind a proxy and
over the fake. A test that is written against `Line` holds both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2

from holdfast.testing import FakeServer
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.server import KEY, ServerProcess, start_server


class Line(Protocol):
    """Planned faults happen to the next requests that are made, once each (or so many times)."""

    url: str
    key: str

    @property
    def requests(self) -> int:
        """How many requests were made."""
        ...

    @property
    def open(self) -> int:
        """How many connections are open."""
        ...

    @property
    def faults_left(self) -> int:
        """How many planned faults have not happened yet."""
        ...

    def transport(self) -> dict[str, Any]:
        """What a client is given beside address and key, to come this way."""
        ...

    def cut(self, after_bytes: int, *, times: int = 1) -> None:
        """Cut the connection after so many bytes of the answer, head included."""
        ...

    def freeze(self, after_bytes: int) -> None:
        """Let an answer go silent after so many bytes of its body, and close nothing: half open."""
        ...

    def refuse(self, status: int, *, retry_after: int | None = None, times: int = 1) -> None:
        """Answer in the place of the server."""
        ...

    def unreachable(self, *, times: int = 1) -> None:
        """Let requests not arrive."""
        ...

    def drop(self) -> None:
        """Cut all connections now."""
        ...

    async def restart(self) -> None:
        """Kill the server (-9) and start it on the same data; when this returns it answers."""
        ...


class FakeLine:
    """The way to a `FakeServer`."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.url, self.key = server.url, server.key
        self.requests = 0

    @property
    def open(self) -> int:
        return len(self.server._network._links)

    @property
    def faults_left(self) -> int:
        return self.server.faults_left

    def transport(self) -> dict[str, Any]:
        return {"transport": _Counted(self)}

    def cut(self, after_bytes: int, *, times: int = 1) -> None:
        self.server.cut_answer(after_bytes=after_bytes, times=times)

    def freeze(self, after_bytes: int) -> None:
        self.server.freeze(after_bytes=after_bytes)

    def refuse(self, status: int, *, retry_after: int | None = None, times: int = 1) -> None:
        self.server.refuse(status, retry_after=retry_after, times=times)

    def unreachable(self, *, times: int = 1) -> None:
        self.server.unreachable(times=times)

    def drop(self) -> None:
        self.server.drop()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.restart)


class _Counted(httpx2.AsyncBaseTransport):
    def __init__(self, line: FakeLine) -> None:
        self._line = line
        self._transport = line.server.transport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._line.requests += 1
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


class RealServer:
    """A server process that can be killed and started again on its data, which gives it another port."""

    def __init__(self, data: Path, *, agents: Path, settings: dict[str, str]) -> None:
        self._data, self._agents, self._settings = data, agents, settings
        self.process = self._start()

    @property
    def port(self) -> int:
        return self.process.port

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def _start(self) -> ServerProcess:
        return start_server(self._data, agents=self._agents, environment=self._settings)


class RealLine:
    """The way to a server process, through a proxy."""

    def __init__(self, server: RealServer, proxy: FaultyProxy) -> None:
        self.server, self.proxy = server, proxy
        self.url, self.key = f"http://127.0.0.1:{proxy.port}", KEY

    @property
    def requests(self) -> int:
        return self.proxy.requests

    @property
    def open(self) -> int:
        return self.proxy.open

    @property
    def faults_left(self) -> int:
        return self.proxy.faults_left

    def transport(self) -> dict[str, Any]:
        return {}

    def cut(self, after_bytes: int, *, times: int = 1) -> None:
        self.proxy.plan(Fault("cut", after_bytes), times)

    def freeze(self, after_bytes: int) -> None:
        self.proxy.plan(Fault("freeze", after_bytes))

    def refuse(self, status: int, *, retry_after: int | None = None, times: int = 1) -> None:
        page = b"<html><h1>The proxy says no</h1></html>"
        head = b"HTTP/1.1 %d No\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: %d\r\n"
        asks = b"" if retry_after is None else b"retry-after: %d\r\n" % retry_after
        self.proxy.plan(Fault("refuse", answer=head % (status, len(page)) + asks + b"\r\n" + page), times)

    def unreachable(self, *, times: int = 1) -> None:
        self.proxy.plan(Fault("hang_up"), times)

    def drop(self) -> None:
        self.proxy.drop()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.restart)
        self.proxy.target = self.server.port


@asynccontextmanager
async def line_to(server: RealServer | FakeServer) -> AsyncIterator[Line]:
    """A way to this server, gone with everything that was on it at the end."""
    if isinstance(server, FakeServer):
        yield FakeLine(server)
    else:
        async with FaultyProxy(server.port) as proxy:
            yield RealLine(server, proxy)
