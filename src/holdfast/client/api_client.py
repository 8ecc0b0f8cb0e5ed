"""What the clients of all APIs have in common: where the server is, the key, and that they are closed."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from holdfast.client.errors import ApiError, ForeignAnswer
from holdfast.client.http import Http, Request, deadline_of, encoded, new_key
from holdfast.client.records import Record
from holdfast.client.resuming import Source
from holdfast.client.streams import AsyncEventStream

if TYPE_CHECKING:
    import httpx2

# Where `holdfast serve` listens if nothing else is said.
DEFAULT_URL: Final = "http://127.0.0.1:8000"

E = TypeVar("E")
R = TypeVar("R", bound=Record)


class ApiClient:
    """The connections of a client, and how its calls are made. One client serves any number of tasks."""

    _KEY_HEADER = "X-API-Key"

    def __init__(
        self,
        url: str | None,
        key: str | None,
        *,
        timeout: float,
        heartbeat_seconds: float,
        reconnect_seconds: float,
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        self._http = Http(url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL, timeout, transport=transport)
        self._heartbeat_seconds = heartbeat_seconds
        self._reconnect_seconds = reconnect_seconds
        self.set_key(key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, those of streams included. Runs go on."""
        await self._http.aclose()

    def set_key(self, key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._http.set_header(self._KEY_HEADER, key)

    async def _get(self, path: str, query: dict[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        return (await self._http.send_again(Request("GET", path, query or {}), timeout=timeout)).json()

    async def _change(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        key: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """A call that changes something: up to five tries under one Idempotency-Key."""
        request = self._keyed(method, path, body, query=query, key=key)
        return (await self._http.send_again(request, deadline=deadline_of(timeout))).json()

    def _keyed(
        self, method: str, path: str, body: Any = None, *, query: dict[str, Any] | None = None, key: str | None = None
    ) -> Request:
        content = None if body is None else encoded(body)
        return Request(method, path, query or {}, {"Idempotency-Key": key or new_key()}, content)

    async def _is_ready(self, path: str) -> bool:
        """Whether the server says there that it takes work. One try."""
        try:
            await self._http.send(Request("GET", path))
        except ApiError as exc:
            if exc.status_code == 503:
                return False
            raise
        return True

    def _stream(self, source: Source[E], timeout: float | None, *, is_once: bool = False) -> AsyncEventStream[E]:
        return AsyncEventStream(
            self._http,
            source,
            heartbeat_seconds=self._heartbeat_seconds,
            timeout=timeout,
            reconnect_seconds=self._reconnect_seconds,
            is_once=is_once,
        )


def record(kind: type[R], body: Any) -> R:
    """
    An answer as a record.

    Raises:
        ForeignAnswer: it is no JSON object.
    """
    if not isinstance(body, dict):
        raise ForeignAnswer(f"expected a JSON object, found {type(body).__name__}")
    return kind(body)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were said at all."""
    return {name: value for name, value in fields.items() if value is not None}
