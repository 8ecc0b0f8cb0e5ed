"""
A network that does what a test says: a transport for clients, without sockets.

Each request is answered by the next of the given replies; what was asked is kept. A body may end, break, or say nothing
until the client's own limit is over.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import httpx2

EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8"}


class End(Enum):
    """How a body ends."""

    PROPERLY = auto()
    BROKEN = auto()  # the connection closes in mid-body
    SILENT = auto()  # nothing comes any more; the client's read timeout runs out at once


@dataclass
class Reply:
    """An answer. `pieces` come one after the other."""

    status_code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] = ()
    end: End = End.PROPERLY


def stream(*pieces: bytes, end: End = End.PROPERLY, **headers: str) -> Reply:
    """An event stream."""
    return Reply(200, {**EVENT_STREAM, **headers}, pieces, end)


def answer(body: Any, status_code: int = 200, **headers: str) -> Reply:
    """A JSON answer."""
    content = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Reply(status_code, content, [json.dumps(body).encode()])


class Unreachable:
    """In the place of a reply: nobody listens."""


class Wire(httpx2.AsyncBaseTransport):
    """
    Answers requests with `replies`, in this order; or, behind them, with what `otherwise` makes of a request.

    `open` counts the bodies that are being read; `asked` holds the requests.
    """

    def __init__(
        self,
        *replies: Reply | Unreachable,
        otherwise: Callable[[httpx2.Request], Reply | Unreachable] | None = None,
    ) -> None:
        self.asked: list[httpx2.Request] = []
        self.open = 0
        self._replies = deque(replies)
        self._otherwise = otherwise

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if self._replies:
            reply = self._replies.popleft()
        else:
            assert self._otherwise is not None, f"nothing is left to answer {request.method} {request.url} with"
            reply = self._otherwise(request)
        if isinstance(reply, Unreachable):
            raise httpx2.ConnectError("nobody listens", request=request)
        self.open += 1
        return httpx2.Response(reply.status_code, headers=reply.headers, stream=_Body(self, request, reply))

    def headers(self, name: str) -> Sequence[str | None]:
        """A header of all requests."""
        return [request.headers.get(name) for request in self.asked]


class _Body(httpx2.AsyncByteStream):
    def __init__(self, wire: Wire, request: httpx2.Request, reply: Reply) -> None:
        self._wire = wire
        self._request = request
        self._reply = reply
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._reply.pieces:
            yield piece
        if self._reply.end is End.BROKEN:
            raise httpx2.RemoteProtocolError("peer closed the connection", request=self._request)
        if self._reply.end is End.SILENT:
            raise httpx2.ReadTimeout("", request=self._request)

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            self._wire.open -= 1


class HeldClock:
    """A clock that only sleeping moves, with what was slept."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
