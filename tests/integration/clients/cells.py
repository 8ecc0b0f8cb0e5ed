"""A client of one API in one form on a line to one server, behind one interface for all of them."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Any, Protocol

from holdfast.client import AsyncEngineClient, AsyncEventStream, AsyncRunsClient, EngineClient, RunsClient
from holdfast.client.engine import TextDelta
from holdfast.client.runtime import Token
from tests.support.lines import Line
from tests.support.twins import Awaited, AwaitedStream


class Kind(Protocol):
    """What tells the clients of the APIs apart."""

    twins: tuple[Any, Any]
    """The async client and the sync one."""

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        """The stream of a new run of an agent."""
        ...

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        """The stream of a run from its beginning."""
        ...

    def text(self, event: Any) -> str:
        """The piece of the answer that an event brings, if it brings one."""
        ...

    async def cancel(self, client: Any, event: Any) -> None:
        """Cancel the run of this event."""
        ...

    async def answer(self, client: Any, event: Any, text: str) -> None:
        """Answer the question that an event asks."""
        ...


class OfRuns:
    """The Runtime API."""

    twins = (AsyncRunsClient, RunsClient)

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        return client.stream({"message": message}, agent=agent, **more)

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        return client.events(run_id, **more)

    def text(self, event: Any) -> str:
        return event.content if isinstance(event, Token) else ""

    async def cancel(self, client: Any, event: Any) -> None:
        await client.cancel(event.run_id)

    async def answer(self, client: Any, event: Any, text: str) -> None:
        await client.answer(event.run_id, event.interrupt_id, text)


class OfEngine:
    """The Engine API. A run is a turn of a task of its own."""

    twins = (AsyncEngineClient, EngineClient)

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        return client.stream(message, f"task-{uuid.uuid4().hex[:8]}", agent=agent, **more)

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        return client.replay(turn_id=run_id, **more)

    def text(self, event: Any) -> str:
        return event.text if isinstance(event, TextDelta) else ""

    async def cancel(self, client: Any, event: Any) -> None:
        await client.cancel(event.task_id)

    async def answer(self, client: Any, event: Any, text: str) -> None:
        await client.hitl_respond(event.task_id, text, request_id=event.request_id)


KINDS: dict[str, Kind] = {"runs": OfRuns(), "engine": OfEngine()}


class Cell:
    """
    One of the combinations that a test is for.

    `slept` holds the seconds that its clients wanted to wait before they tried again. They do wait no longer than
    `wait_seconds_max`, whatever the server asks for.
    """

    def __init__(self, line: Line, form: str, kind: Kind, stack: AsyncExitStack) -> None:
        self.line = line
        self.kind = kind
        self.is_sync = form == "sync"
        self.slept: list[float] = []
        self.wait_seconds_max = 0.0
        self._stack = stack

    async def client(self, **options: Any) -> Any:
        """Another client, closed when the test is over."""
        make_async, make_sync = self.kind.twins
        options = {**self.line.transport(), **options}
        if self.is_sync:
            client = self._stack.enter_context(make_sync(self.line.url, self.line.key, **options))
            http = client._async._http
        else:
            client = await self._stack.enter_async_context(make_async(self.line.url, self.line.key, **options))
            http = client._http
        http.sleep = self._sleep
        return Awaited(client) if self.is_sync else client

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, self.wait_seconds_max))


async def all_of(stream: Any) -> list[Any]:
    """The events of a stream to its end."""
    async with stream:
        return [event async for event in stream]


def silence_of(stream: Any) -> float:
    """After how many seconds without a byte it takes its connection for dead."""
    seconds: float = _inner(stream)._silence_seconds
    return seconds


def is_reading(stream: Any) -> bool:
    """Whether somebody waits for its next event."""
    return _inner(stream)._waits is not None


def _inner(stream: Any) -> AsyncEventStream[Any]:
    found: AsyncEventStream[Any] = stream._stream._async if isinstance(stream, AwaitedStream) else stream
    return found
