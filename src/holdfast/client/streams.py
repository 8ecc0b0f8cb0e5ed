"""Streams of events, as the caller iterates over them. What to do is decided by `resuming`; here it is done."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from holdfast.client.errors import ClientClosed, ClientError, DeadlineExceeded
from holdfast.client.http import Http, deadline_of, within
from holdfast.client.portal import Portal
from holdfast.client.resuming import RECONNECT_SECONDS, SILENT_HEARTBEATS, Batch, Patience, Resumption, Source

log = logging.getLogger("holdfast.client")

E = TypeVar("E")


class AsyncEventStream(Generic[E]):
    """
    The events of one run (or task), in order, each exactly once, through broken connections and restarts of the server.

    It is read as fast as it is iterated over, and opens its first connection then. Leaving an `async with` block,
    cancelling the iteration, `aclose`, and the last event close the connection. None of them cancels the run, and after
    a cancelled iteration the next one goes on where it was. One task at a time iterates; any may close.
    """

    def __init__(
        self,
        http: Http,
        source: Source[E],
        *,
        heartbeat_seconds: float,
        timeout: float | None = None,
        reconnect_seconds: float = RECONNECT_SECONDS,
        is_once: bool = False,
    ) -> None:
        self._http = http
        patience = Patience(http.backoff(), reconnect_seconds, http.clock)
        self._resumption = Resumption(source, patience=patience, is_once=is_once, clock=http.clock)
        self._silence_seconds = heartbeat_seconds * SILENT_HEARTBEATS
        self._deadline = deadline_of(timeout)
        self._is_cut = False
        self._waiting: deque[Batch[E]] = deque()
        self._ready: Iterator[E] = iter(())
        self._closings = http.closings
        self._waits: asyncio.Task[Any] | None = None  # who waits for events
        self._is_idle = asyncio.Event()
        self._is_left = False
        self._is_closed = False
        self._last: list[E] = []
        self._number = 0  # of batches that were given by their number
        self._reading = self._read()
        http.readers.add(self)

    @property
    def run_id(self) -> str | None:
        """The run that is read (of the Engine API: the turn); None as long as it is not known."""
        return self._resumption.source.run_id

    @property
    def cursor(self) -> str | None:
        """The place behind the last event, to go on from later. None before the first."""
        return self._resumption.source.cursor

    async def __aenter__(self) -> AsyncEventStream[E]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncEventStream[E]:
        return self

    async def __anext__(self) -> E:
        """
        The next event.

        Raises:
            DeadlineExceeded: the time that was given is over.
            ConnectionFailed, Unavailable: the server was away for longer than `reconnect_seconds`.
            ApiError: the server refuses.
            ClientClosed: it was closed meanwhile, or its client.
        """
        if (event := next(self._ready, None)) is None:
            self._ready = iter(await self.batch())
            event = next(self._ready, None)
        if event is None:
            raise StopAsyncIteration
        return event

    async def batch(self) -> list[E]:
        """The events that have come, at least one; none behind the last one. Raises as the iteration does."""
        if ready := list(self._ready):
            return ready
        if not self._waiting:
            await self._wait()
        return self._next()

    async def result(self) -> Any:
        """
        Read to the end, and return what the run came to.

        Raises:
            RunFailed: the run failed, or was cancelled. A skill's run has the error of its code, of whatever branch.
        """
        while await self.batch():
            pass
        return self._resumption.source.result()

    async def aclose(self) -> None:
        """Close the connection. The run goes on. Another task that waits for an event is told ClientClosed."""
        self._is_closed = True
        self._ready = iter(())
        self._waiting.clear()
        await self.leave()

    async def _batch_behind(self, number: int) -> list[E]:
        """
        The batch behind so many. For a caller in another thread: one that was interrupted, and does not have the last one,
        is given it again.
        """
        if number == self._number:
            self._last = await self.batch()
            self._number += 1
        return self._last

    def _next(self) -> list[E]:
        """The next events that wait for the caller, who is told first what they make void."""
        if not self._waiting:
            return []
        batch = self._waiting[0]
        self._resumption.source.discards.tell(batch.void)
        self._waiting.popleft()
        return batch.events

    async def _wait(self) -> None:
        """Until there are events, or the stream is over."""
        if self._is_closed:
            return
        if self._waits is not None:
            raise RuntimeError("another task waits for the next event of this stream: one at a time may iterate")
        if not self._resumption.is_over():
            self._http.check_open(self._closings)
            await self._check_deadline()
        if self._is_cut:
            self._reading, self._is_cut = self._read(), False
        waits = self._waits = asyncio.current_task()
        assert waits is not None
        cancelling = waits.cancelling()
        try:
            await within(self._deadline, anext(self._reading, None))
        except BaseException as exc:
            # Cancelled, say by `wait_for`: the connection is closed, and the next call opens another.
            self._is_cut = True
            if isinstance(exc, asyncio.CancelledError) and self._is_left and waits.uncancel() <= cancelling:
                raise ClientClosed("the stream was closed, or its client") from None
            raise
        finally:
            self._waits = None
            self._is_idle.set()

    async def _check_deadline(self) -> None:
        """It holds for a stream too whose next bytes are always there already, and that never waits."""
        if self._deadline is not None and asyncio.get_running_loop().time() >= self._deadline:
            await self._reading.aclose()
            self._is_cut = True
            raise DeadlineExceeded("the time that was given is over")

    async def leave(self) -> None:
        """Close the connection, and tell who waits for an event."""
        if self._waits is None:
            await self._reading.aclose()
            return
        self._is_left = True
        self._is_idle.clear()
        self._waits.cancel()
        await self._is_idle.wait()

    def _read(self) -> AsyncGenerator[None]:
        waiting = self._waiting
        return _reading(self._http, self._resumption, waiting, self._silence_seconds, self._closings)


# Not a method: with the stream in its frame, a stream that nobody has any more would stay open until the next look for cycles.
async def _reading(
    http: Http, resumption: Resumption[E], waiting: deque[Batch[E]], silence_seconds: float, closings: int
) -> AsyncGenerator[None]:
    """Put events into `waiting`; each step ends when there are some."""
    while not resumption.is_over():
        http.check_open(closings)
        try:
            async with http.stream(resumption.begin(), silence_seconds=silence_seconds) as opened:
                resumption.opened(opened.status_code, opened.headers)
                async for piece in opened.pieces:
                    waiting += resumption.feed(piece)
                    if resumption.is_over():
                        break  # the last events are given when the connection is closed
                    if waiting:
                        yield
            if not resumption.is_over():
                resumption.ended()
        except ClientError as exc:
            if not resumption.is_over():
                resumption.failed(exc)
                log.info("a stream is opened again in %.1f s: %s", resumption.delay_seconds, exc)
        if waiting:
            yield
        if not resumption.is_over() and resumption.delay_seconds:
            await http.sleep(resumption.delay_seconds)


class EventStream(Generic[E]):
    """An `AsyncEventStream` for threads without an event loop."""

    def __init__(self, portal: Portal, wrapped: AsyncEventStream[E]) -> None:
        self._portal = portal
        self._async = wrapped
        self._place: tuple[Iterator[E], int] = iter(()), 0  # a batch, and how many there were up to it

    @property
    def run_id(self) -> str | None:
        """The run that is read (of the Engine API: the turn); None as long as it is not known."""
        return self._async.run_id

    @property
    def cursor(self) -> str | None:
        """The place behind the last event, to go on from later. None before the first."""
        return self._async.cursor

    def __enter__(self) -> EventStream[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> EventStream[E]:
        return self

    def __next__(self) -> E:
        """The next event. Raises as `AsyncEventStream` does; Ctrl-C closes the connection."""
        events, number = self._place
        if (event := next(events, None)) is None:
            events = iter(self._portal.call(lambda: self._async._batch_behind(number)))
            self._place = events, number + 1
            event = next(events, None)
        if event is None:
            raise StopIteration
        return event

    def result(self) -> Any:
        """Read to the end, and return what the run came to. Raises RunFailed if it failed."""
        return self._portal.call(self._async.result)

    def close(self) -> None:
        """Close the connection. The run goes on. Another thread that waits for an event is told ClientClosed."""
        self._place = iter(()), self._place[1]
        self._portal.call(self._async.aclose)
