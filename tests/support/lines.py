"""
A way to a server that can go wrong, and the server at its end: one interface, over a server process behind a proxy and
over the fake. A test that is written against `Line` holds both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import httpx2

from holdfast.testing import FakeServer
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.server import KEY, ServerProcess, start_server
from tests.support.until import until

# Heartbeats, a tenth of a second apart.
DAY: Final = 15


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

    @property
    def heartbeat_seconds(self) -> float:
        """What a client of `pass_a_day` is told about heartbeats."""
        ...

    def carried(self, request: int) -> int:
        """How many bytes of the answer to the n-th request left the server, or all that it may buffer."""
        ...

    async def pass_a_day(self) -> None:
        """Let nothing come but heartbeats, to one reader, for as long as this server can be made to believe in."""
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
    """The way to a `FakeServer`. A day is a day of its clock and its timers; four times in it, the network is cut."""

    heartbeat_seconds = 15.0

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.url, self.key = server.url, server.key
        self.answers: list[int] = []  # bytes of their bodies that clients took

    @property
    def requests(self) -> int:
        return len(self.answers)

    @property
    def open(self) -> int:
        return len(self.server._network._links)

    def carried(self, request: int) -> int:
        return self.answers[request] + self.server._network.waiting()

    async def pass_a_day(self) -> None:
        for number in range(self.requests + 1, self.requests + 5):
            await asyncio.to_thread(self.server.advance, 6 * 3600)
            self.server.drop()
            await until(lambda: self.requests == number and self.answers[-1] > 0)  # noqa: B023  # before the next

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
        self._line.answers.append(0)
        number = len(self._line.answers) - 1
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _CountedBody(response.stream, self._line, number)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _CountedBody(httpx2.AsyncByteStream):
    def __init__(self, body: httpx2.AsyncByteStream, line: FakeLine, number: int) -> None:
        self._body, self._line, self._number = body, line, number

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._body:
            self._line.answers[self._number] += len(data)
            yield data

    async def aclose(self) -> None:
        await self._body.aclose()


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
    """
    The way to a server process, through a proxy. Nobody can give a process another clock: instead of a day, `DAY` heartbeats
    pass, which is longer than a client takes silence for.
    """

    heartbeat_seconds = 0.7

    def __init__(self, server: RealServer, proxy: FaultyProxy) -> None:
        self.server, self.proxy = server, proxy
        self.url, self.key = f"http://127.0.0.1:{proxy.port}", KEY

    @property
    def requests(self) -> int:
        return len(self.proxy.answers)

    @property
    def open(self) -> int:
        return self.proxy.open

    def carried(self, request: int) -> int:
        return self.proxy.answers[request]

    async def pass_a_day(self) -> None:
        before = self.proxy.heartbeats
        await until(lambda: self.proxy.heartbeats - before >= DAY, every=0.05)

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
