"""
Requests to a server: one try, or several under one Idempotency-Key; and streams. Errors of the HTTP library become ours
here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from holdfast.client.addressing import checked_header, checked_url, without_user
from holdfast.client.answers import Answer, error_of
from holdfast.client.backoff import Backoff
from holdfast.client.errors import ApiError, ClientClosed, ClientError, ConnectionFailed, DeadlineExceeded

if TYPE_CHECKING:
    import httpx2

TRIES_MAX: Final = 5
# A plain call is not repeated after a longer wait than this: its caller decides.
RETRY_AFTER_SECONDS_MAX: Final = 30.0

Sleep = Callable[[float], Awaitable[None]]


class Closable(Protocol):
    """What is read from the connections, and may be left where it stands."""

    async def leave(self) -> None:
        """Let go of the connection, and tell who is reading."""
        ...


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `query` and `headers` without what is None; `content` is JSON already."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that has begun: what the answer's head says, and its bytes as they come."""

    status_code: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


def encoded(value: Any) -> bytes:
    """The JSON text of a body."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class Http:
    """
    The connections to one server. They are made when they are first needed, anew in every event loop.

    `backoff` makes the delays of whatever is repeated, `sleep` waits for them, and `clock` says how long something takes;
    tests replace all three. `transport` replaces the network.

    Raises:
        ValueError: `base_url` is none.
    """

    def __init__(self, base_url: str, timeout: float, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.headers: Mapping[str, str] = {}
        self.backoff: Callable[[], Backoff] = Backoff
        self.sleep: Sleep = asyncio.sleep
        self.clock: Callable[[], float] = time.monotonic
        self.closings = 0  # how often it was closed
        self.readers: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._base_url, self._user = without_user(checked_url(base_url))
        self._timeout = timeout
        self._transport = transport
        self._is_secure = base_url.lower().startswith("https:")
        self._is_loaded = False
        self._ssl: ssl.SSLContext | None = None
        self._loading = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Streams have a pool of their own: with a thousand of them open, a request would look at each.
        self._requests: httpx2.AsyncClient | None = None
        self._streams: httpx2.AsyncClient | None = None

    def set_header(self, name: str, value: str | None) -> None:
        """
        A header of all further requests; None: they have it no more. Called from any thread.

        Raises:
            ValueError: no header may hold it. Nothing was changed.
        """
        others = {other: held for other, held in self.headers.items() if other != name}
        self.headers = others if value is None else {**others, name: checked_header(name, value)}

    async def send(self, request: Request, *, timeout: float | None = None, **more: Any) -> Answer:
        """
        What the server answers, if it is no error. One try.

        Args:
            timeout: seconds that it may take; default is the client's.
            more: for the HTTP library (`files`, `data`).

        Raises:
            ApiError: it answered with an error.
            ConnectionFailed: it is unknown whether it did what was asked.
        """
        await self._loaded()
        import httpx2

        closings = self.closings
        try:
            response = await self._client().request(
                request.method,
                request.path,
                content=request.content,
                params=_query(request.query),
                headers=self._headers(request),
                timeout=timeout or self._timeout,
                **more,
            )
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as exc:
            self.check_open(closings)
            raise self._failed(request, exc) from exc
        answer = Answer(response.status_code, response.headers, response.content)
        if not 200 <= answer.status_code < 300:
            raise error_of(answer)
        return answer

    async def send_again(
        self, request: Request, *, timeout: float | None = None, deadline: float | None = None
    ) -> Answer:
        """
        The same with up to five tries, for what may be sent again: it reads, or has an Idempotency-Key.

        Args:
            deadline: the time of the event loop at which it ends, whatever it is at.

        Raises:
            DeadlineExceeded
            ApiError, ConnectionFailed: those of the last try. What asks for a wait of over 30 s is not repeated.
        """
        return await within(deadline, self._send_again(request, timeout))

    async def _send_again(self, request: Request, timeout: float | None) -> Answer:
        return await self.again(
            lambda: self.send(request, timeout=timeout), is_passing, wait_seconds_max=RETRY_AFTER_SECONDS_MAX
        )

    async def again(
        self,
        attempt: Callable[[], Awaitable[T]],
        is_passing: Callable[[ClientError], bool],
        *,
        wait_seconds_max: float = math.inf,
    ) -> T:
        """What an attempt comes to, after up to five of them: another follows an error that passes. Raises the last one."""
        backoff = self.backoff()
        while True:
            try:
                return await attempt()
            except ClientError as exc:
                wait = retry_after_of(exc)
                if backoff.tries + 1 >= TRIES_MAX or not is_passing(exc) or (wait or 0) > wait_seconds_max:
                    raise
            await self.pause(backoff.next_seconds(wait))

    async def pause(self, seconds: float) -> None:
        """
        Wait before another try.

        Raises:
            ClientClosed: it was closed meanwhile, so that there is no other try.
        """
        closings = self.closings
        await self.sleep(seconds)
        self.check_open(closings)

    @asynccontextmanager
    async def stream(self, request: Request, *, silence_seconds: float) -> AsyncIterator[Opened]:
        """
        An event stream, as it comes. However the block is left, the connection is closed.

        Args:
            silence_seconds: after so long without a byte it is a fault: the connection is half open.

        Raises:
            ApiError: the server answered with an error.
            ConnectionFailed: the connection broke, is silent, or there is none.
        """
        await self._loaded()
        import httpx2

        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **self._headers(request)}
        timeout = httpx2.Timeout(self._timeout, read=silence_seconds)
        closings = self.closings
        try:
            async with self._client(is_stream=True).stream(
                request.method,
                request.path,
                content=request.content,
                params=_query(request.query),
                headers=headers,
                timeout=timeout,
            ) as response:
                if not 200 <= response.status_code < 300:
                    raise error_of(Answer(response.status_code, response.headers, await response.aread()))
                if response.status_code == 200 and not _is_stream(response.headers):
                    found = response.headers.get("content-type", "no type")
                    raise error_of(Answer(502, {}, f"an answer that is no event stream, but {found}".encode()))
                # It is not asked for, and there are proxies that compress all the same.
                is_plain = response.headers.get("content-encoding", "identity") == "identity"
                async with aclosing(response.aiter_raw() if is_plain else response.aiter_bytes()) as pieces:
                    yield Opened(response.status_code, response.headers, pieces)
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as exc:
            self.check_open(closings)
            raise self._failed(request, exc) from exc

    def check_open(self, closings: int) -> None:
        """
        Raises:
            ClientClosed: it was closed since it had been closed so often.
        """
        if self.closings != closings:
            raise ClientClosed("the client was closed")

    async def aclose(self) -> None:
        """
        Close the connections, and end what uses them: ClientClosed. Those of an event loop that is gone went with it. A
        later call makes new ones.
        """
        self.closings += 1
        requests, streams, loop = self._requests, self._streams, self._loop
        self._requests = self._streams = self._loop = None
        if requests is not None and streams is not None and loop is asyncio.get_running_loop():
            for reader in list(self.readers):
                await reader.leave()
            try:
                await requests.aclose()
            finally:
                await streams.aclose()

    def _headers(self, request: Request) -> dict[str, str]:
        body = {} if request.content is None else {"Content-Type": "application/json"}
        own = {name: checked_header(name, value) for name, value in request.headers.items() if value is not None}
        return {**self.headers, **body, **own}

    def _failed(self, request: Request, error: Exception) -> ConnectionFailed:
        import httpx2

        # What breaks the protocol is told with what was sent, which nobody is to read.
        text = "" if isinstance(error, httpx2.LocalProtocolError) else str(error)
        told = f"{type(error).__name__}: {text}" if text else type(error).__name__
        failed = ConnectionFailed(f"{request.method} {self._base_url.rstrip('/')}{request.path}: {told}")
        failed.is_overdue = isinstance(error, httpx2.ReadTimeout)
        return failed

    async def _loaded(self) -> None:
        """The HTTP library and its certificates take a tenth of a second and more: not on the event loop."""
        if not self._is_loaded:
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        import httpx2

        with self._loading:
            # Without https there is nothing to verify.
            if self._is_secure and self._ssl is None:
                self._ssl = httpx2.create_ssl_context()
            self._is_loaded = True

    def _client(self, *, is_stream: bool = False) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._requests is None or self._streams is None or loop is not self._loop:
            self._loop = loop
            self._requests, self._streams = self._made(keepalive_max=100), self._made(keepalive_max=0)
        return self._streams if is_stream else self._requests

    def _made(self, *, keepalive_max: int) -> httpx2.AsyncClient:
        import httpx2

        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=keepalive_max)
        return httpx2.AsyncClient(
            base_url=self._base_url,
            auth=self._user,
            limits=limits,
            # Without https there is nothing to verify, and redirects are not followed.
            verify=False if self._ssl is None else self._ssl,
            follow_redirects=False,
            transport=self._transport,
        )


def new_key() -> str:
    """An idempotency key that no other call has."""
    return str(uuid.uuid4())


def is_passing(error: ClientError) -> bool:
    """Whether the same call may succeed later: it did not reach the server, or was refused for now."""
    return error.is_passing if isinstance(error, ApiError) else isinstance(error, ConnectionFailed)


def retry_after_of(error: ClientError) -> float | None:
    """How many seconds the server wants to be left alone, if it said."""
    seconds: float | None = getattr(error, "retry_after", None)
    return seconds


def deadline_of(timeout: float | None) -> float | None:
    """The time of the event loop at which a timeout, in seconds, is over. None or infinite: never."""
    return None if timeout is None or math.isinf(timeout) else asyncio.get_running_loop().time() + timeout


async def within(deadline: float | None, work: Awaitable[T]) -> T:
    """
    What the work comes to, before the deadline; what it has open is closed by then.

    Raises:
        DeadlineExceeded
    """
    if deadline is None:
        return await work
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await work
    except TimeoutError as exc:
        if not limit.expired() or isinstance(exc, ClientError):
            raise
        raise DeadlineExceeded("the time that was given is over") from None


def _is_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").lower().startswith("text/event-stream")


def _query(query: Mapping[str, Any]) -> dict[str, str]:
    shown = {name: value for name, value in query.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shown.items()}
