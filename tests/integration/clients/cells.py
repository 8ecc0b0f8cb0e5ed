"""A client of one API in one form on a line to one server, behind one interface for all of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from holdfast.client import (
    AsyncEngineClient,
    AsyncEventStream,
    AsyncRunsClient,
    AsyncSkillsClient,
    EngineClient,
    RunsClient,
    SkillsClient,
    engine,
    runtime,
    skills,
)
from tests.support.lines import Line
from tests.support.twins import Awaited, AwaitedStream


class Kind(Protocol):
    """What tells the clients of the APIs apart. `agent` is one of `fault_agents`, or what does the same in this API."""

    twins: tuple[Any, Any]
    """The async client and the sync one."""

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        """The stream of a new run of an agent."""
        ...

    async def call(self, client: Any, agent: str, message: str) -> Any:
        """What a new run comes to, by the call that waits for it."""
        ...

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        """The stream of a run from its beginning."""
        ...

    def text(self, event: Any) -> str:
        """The piece of the answer that an event brings, if it brings one."""
        ...

    def output(self, agent: str, message: str) -> Any:
        """What a run of this agent comes to."""
        ...

    def asks(self, event: Any) -> bool:
        """Whether the run waits for an answer from this event on."""
        ...

    async def cancel(self, client: Any, event: Any) -> None:
        """Cancel the run of this event."""
        ...

    async def answer(self, client: Any, event: Any) -> None:
        """Answer what an event asks: yes."""
        ...


class OfRuns:
    """The Runtime API."""

    twins: tuple[Any, Any] = (AsyncRunsClient, RunsClient)

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        return client.stream({"message": message}, agent=agent, **more)

    async def call(self, client: Any, agent: str, message: str) -> Any:
        return (await client.invoke({"message": message}, agent=agent)).output

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        return client.events(run_id, **more)

    def text(self, event: Any) -> str:
        return event.content if isinstance(event, runtime.Token) else ""

    def output(self, agent: str, message: str) -> Any:
        return {"word": "é", "gated": "beforeafter", "ask": "yes", "pour": message}[agent]

    def asks(self, event: Any) -> bool:
        return isinstance(event, runtime.Interrupt)

    async def cancel(self, client: Any, event: Any) -> None:
        await client.cancel(event.run_id)

    async def answer(self, client: Any, event: Any) -> None:
        await client.answer(event.run_id, event.interrupt_id, "yes")


class OfEngine(OfRuns):
    """The Engine API. A run is a turn of a task of its own."""

    twins = (AsyncEngineClient, EngineClient)

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        return client.stream(message, f"task-{uuid.uuid4().hex[:8]}", agent=agent, **more)

    async def call(self, client: Any, agent: str, message: str) -> Any:
        return await self.start(client, agent, message).result()

    def follow(self, client: Any, run_id: str, **more: Any) -> Any:
        return client.replay(turn_id=run_id, **more)

    def text(self, event: Any) -> str:
        return event.text if isinstance(event, engine.TextDelta) else ""

    def asks(self, event: Any) -> bool:
        return isinstance(event, engine.HitlRequest)

    async def cancel(self, client: Any, event: Any) -> None:
        await client.cancel(event.task_id)

    async def answer(self, client: Any, event: Any) -> None:
        await client.hitl_respond(event.task_id, "yes", request_id=event.request_id)


class OfSkills(OfRuns):
    """The Skills API, with skills that do what the agents do."""

    twins = (AsyncSkillsClient, SkillsClient)

    def start(self, client: Any, agent: str, message: str, **more: Any) -> Any:
        return client.stream(*self._skill(agent, message), **more)

    async def call(self, client: Any, agent: str, message: str) -> Any:
        return (await client.execute(*self._skill(agent, message))).outputs

    def _skill(self, agent: str, message: str) -> tuple[str, dict[str, Any]]:
        if agent == "pour":
            return "client.pours", {"n": int(message)}
        inputs: dict[str, tuple[str, dict[str, Any]]] = {
            "word": ("client.counts", {"n": 1}),
            "gated": ("client.waits", {"gate": message}),
            "ask": ("client.asks", {"text": message}),
        }
        return inputs[agent]

    def text(self, event: Any) -> str:
        return event.content if isinstance(event, skills.Token) else ""

    def output(self, agent: str, message: str) -> Any:
        return {"result": message} if agent == "ask" else {"text": "1" if agent == "word" else message}

    def asks(self, event: Any) -> bool:
        return isinstance(event, skills.Interrupt)

    async def answer(self, client: Any, event: Any) -> None:
        await client.approve(event.run_id)


KINDS: dict[str, Kind] = {"runs": OfRuns(), "engine": OfEngine(), "skills": OfSkills()}


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

    async def runs_made(self) -> int:
        """How many runs there are in the server's store."""
        async with AsyncRunsClient(self.line.url, self.line.key, **self.line.transport()) as client:
            (newest,) = (await client.list(limit=1)).runs
        return newest.number

    async def until_text(self, stream: Any) -> list[Any]:
        """The events up to the first that brings a piece of the answer."""
        return await self._until(stream, self.kind.text)

    async def until_question(self, stream: Any) -> list[Any]:
        """The events up to one that asks."""
        return await self._until(stream, self.kind.asks)

    async def _until(self, stream: Any, is_it: Callable[[Any], Any]) -> list[Any]:
        events = [await anext(stream)]
        while not is_it(events[-1]):
            events.append(await anext(stream))
        return events

    def assert_whole(self, events: list[Any], text: str) -> None:
        """Each event is there once, in order, and they say this text."""
        assert [event.sequence for event in events] == list(range(len(events)))
        assert "".join(self.kind.text(event) for event in events) == text

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
