"""
Requests to the server: one try, or several under one Idempotency-Key; and streams. Errors of the HTTP library become ours
here and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from holdfast.client.backoff import RETRYABLE, Backoff, retry_after_seconds
from holdfast.client.following import SILENCE_SECONDS, StreamFault
from holdfast.client.workflow.errors import WorkflowConnectionError, WorkflowError, WorkflowHTTPError

if TYPE_CHECKING:
    import httpx2

TRIES_MAX: Final = 5

Sleep = Callable[[float], Awaitable[None]]


def encoded(value: Any) -> bytes:
    """The JSON text of a body."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def idempotency_key(body: bytes) -> str:
    """The key of a post that says the same however often it is made."""
    return hashlib.sha256(body).hexdigest()


def is_passing(error: WorkflowError) -> bool:
    """Whether the same call may succeed later: it did not reach the server, or was refused for now."""
    if isinstance(error, WorkflowHTTPError):
        return error.status_code in RETRYABLE or error.code == "idempotency_in_progress"
    return isinstance(error, WorkflowConnectionError)


class Http:
    """
    The connections to one server. They are made when they are first needed, anew in every event loop.

    `backoff` makes the delays of whatever is repeated, and `sleep` waits for them; tests replace both.
    """

    def __init__(self, base_url: str, timeout: float) -> None:
        self.headers: dict[str, str] = {}
        self.backoff: Callable[[], Backoff] = Backoff
        self.sleep: Sleep = asyncio.sleep
        self._base_url = base_url
        self._timeout = timeout
        self._ssl: ssl.SSLContext | None = None
        self._loading = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Streams have a pool of their own: with a thousand of them open, a request would look at each.
        self._requests: httpx2.AsyncClient | None = None
        self._streams: httpx2.AsyncClient | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        """
        What the server answers, decoded. One try.

        Args:
            body: is sent as JSON; `content` is JSON already.
            query: without what is None.
            more: for the HTTP library (`files`, `data`).

        Raises:
            WorkflowHTTPError: it answered anything but 200.
            WorkflowConnectionError: it is unknown whether it did what was asked.
        """
        await self._loaded()
        import httpx2

        if body is not None:
            content = encoded(body)
        sent = {
            **self.headers,
            **({"Content-Type": "application/json"} if content is not None else {}),
            **(headers or {}),
        }
        try:
            response = await self._client().request(
                method,
                path,
                content=content,
                params=_query(query),
                headers=sent,
                timeout=timeout or self._timeout,
                **more,
            )
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as exc:
            raise WorkflowConnectionError(f"{method} {path}: {_told(exc)}") from exc
        return _decoded(response.status_code, response.headers, response.content)

    async def request_again(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> Any:
        """
        The same with up to five tries under one Idempotency-Key, so that it happens once.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError: those of the last try.
        """
        headers = {**(arguments.pop("headers", None) or {}), "Idempotency-Key": key or str(uuid.uuid4())}
        backoff = self.backoff()
        while True:
            try:
                return await self.request(method, path, headers=headers, **arguments)
            except WorkflowError as exc:
                if backoff.tries + 1 >= TRIES_MAX or not is_passing(exc):
                    raise
                await self.sleep(backoff.next_seconds(getattr(exc, "retry_after", None)))

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        The bytes of an event stream, as they come. Nothing for 45 s is a fault.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError, StreamFault
        """
        await self._loaded()
        import httpx2

        headers = {**self.headers, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        timeout = httpx2.Timeout(self._timeout, read=SILENCE_SECONDS)
        try:
            async with self._client(is_stream=True).stream(
                "GET", path, params=_query(query), headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    _decoded(response.status_code, response.headers, await response.aread())
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise StreamFault("an answer that is no event stream")
                async with aclosing(response.aiter_raw()) as pieces:
                    yield pieces
        except (httpx2.TransportError, httpx2.StreamError) as exc:
            raise WorkflowConnectionError(f"GET {path}: {_told(exc)}") from exc

    async def aclose(self) -> None:
        """Close the connections. Those of an event loop that is gone went with it."""
        requests, streams, loop = self._requests, self._streams, self._loop
        self._requests = self._streams = self._loop = None
        if requests is not None and streams is not None and loop is asyncio.get_running_loop():
            await requests.aclose()
            await streams.aclose()

    async def _loaded(self) -> None:
        """The HTTP library and its certificates take a tenth of a second and more: not on the event loop."""
        if self._ssl is None:
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        import httpx2

        with self._loading:
            if self._ssl is None:
                self._ssl = httpx2.create_ssl_context()

    def _client(self, *, is_stream: bool = False) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._requests is None or self._streams is None or loop is not self._loop:
            self._loop = loop
            self._requests, self._streams = self._made(keepalive_max=100), self._made(keepalive_max=0)
        return self._streams if is_stream else self._requests

    def _made(self, *, keepalive_max: int) -> httpx2.AsyncClient:
        import httpx2

        assert self._ssl is not None, "it is loaded before it is asked for"
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=keepalive_max)
        return httpx2.AsyncClient(base_url=self._base_url, limits=limits, verify=self._ssl, follow_redirects=False)


def _query(query: Mapping[str, Any] | None) -> dict[str, str]:
    shown = {name: value for name, value in (query or {}).items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shown.items()}


def _decoded(status_code: int, headers: Mapping[str, str], content: bytes) -> Any:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if status_code == 200 and answer is not None:
        return answer
    detail = answer.get("detail") if isinstance(answer, dict) else None
    if not isinstance(detail, dict):
        # Not ours: a proxy's page, or another server.
        detail = {"message": "the answer is not a Holdfast server's: " + content[:200].decode(errors="replace")}
    code = str(detail.get("code", "invalid_response"))
    raise WorkflowHTTPError(status_code, code, detail, retry_after=retry_after_seconds(headers.get("retry-after")))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
