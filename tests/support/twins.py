"""The sync clients behind the names of the async ones, so that one suite holds both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from holdfast.client import EventStream

_END: Final = object()


class Awaited:
    """A sync client whose calls are awaited: each is made in a thread, as a program without a loop would make it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> AwaitedStream | Awaitable[Any]:
            if method.__annotations__["return"].startswith("EventStream["):
                return AwaitedStream(method(*arguments, **named))
            return asyncio.to_thread(method, *arguments, **named)

        return call


class AwaitedStream:
    """A sync stream, iterated over in threads."""

    def __init__(self, stream: EventStream[Any]) -> None:
        self._stream = stream

    @property
    def run_id(self) -> str | None:
        return self._stream.run_id

    @property
    def cursor(self) -> str | None:
        return self._stream.cursor

    async def __aenter__(self) -> AwaitedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stream.close)

    def __aiter__(self) -> AwaitedStream:
        return self

    async def __anext__(self) -> Any:
        event = await asyncio.to_thread(next, self._stream, _END)
        if event is _END:
            raise StopAsyncIteration
        return event

    async def result(self) -> Any:
        return await asyncio.to_thread(self._stream.result)
