"""
One stream of server-sent events: frames of a source, heartbeats, and every way in which a stream can end.

This is the hot path. A stream is one task, which sleeps in its source; frames go straight to the connection, shared
by all readers of a run where the API allows it. Whatever depends on time (heartbeats, readers that take nothing,
revoked keys, idle limits) is looked after by one timer per stream, which is set again when it fires and not at each
event.

    the source ends            the body ends properly
    shutdown, revoked, idle,
    history rolled back        GET: a comment, then a proper end; POST: the connection closes without the last chunk,
                               so that a client that only looks for the end sees an error and not half an answer
    reader takes nothing       the connection is cut, what waits is thrown away
    reader leaves              nothing is written any more; the run goes on
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Final, Protocol

import msgspec
import structlog

from holdfast.api.http.asgi import Header, Receive, Scope, Send, connection_of, exchange_of
from holdfast.api.http.auth import Grant
from holdfast.api.http.connection import Taking
from holdfast.api.http.reply import begin, shared_headers
from holdfast.errors import HoldfastError
from holdfast.journal import Chunk, Reader, Signal
from holdfast.shutdown import Shutdown

log = structlog.get_logger(__name__)

# One write. A slow reader holds at most about two of these in our memory.
SLICE_BYTES_MAX = 64 * 1024
# What a reader of a long journal gets before others have their turn: pieces that are in memory, and a system that takes
# megabytes, would else let nobody else in meanwhile.
TURN_BYTES_MAX = 128 * 1024
# A revoked key ends its streams within 30 s; 4 s of those go to noticing it.
TICK_SECONDS_MAX = 10.0

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
)


class Source(Protocol):
    """Where a stream's frames come from."""

    async def next(self) -> bytes | Signal:
        """The next frames; WOKEN after `wake`, END when nothing follows. Cancelling it loses nothing."""
        ...

    def wake(self) -> None:
        """Let the pending, or else the next, call of `next` return WOKEN."""
        ...

    def close(self) -> None:
        """Let go of whatever it reads from."""
        ...


class RunFrames:
    """
    The frames of one run, as a projection makes them of its chunks.

    With a `key` (one for each projection), what was made of a chunk is shared by all readers with that key; the
    projection must then be a pure function. `gap` makes the frame for events that were pruned while they were read;
    it is given the first missing sequence and the first one that follows.
    """

    def __init__(
        self,
        reader: Reader,
        make: Callable[[Chunk], bytes],
        *,
        key: Hashable = None,
        gap: Callable[[int, int], bytes] | None = None,
    ) -> None:
        self._reader = reader
        self._make = make
        self._key = key
        self._gap = gap
        self.wake = reader.wake
        self.close = reader.close
        self.prime = reader.prime

    async def next(self) -> bytes | Signal:
        before = self._reader.cursor
        chunk = await self._reader.next()
        if isinstance(chunk, Signal):
            if chunk is Signal.GAP and self._gap is not None:
                return self._gap(before + 1, self._reader.cursor + 1)
            return chunk
        return self._make(chunk) if self._key is None else chunk.made_once(self._key, self._make)


class StreamTimes(msgspec.Struct, frozen=True):
    """Seconds. `idle`: end the stream after so long without a frame; None: never."""

    heartbeat: float = 15.0
    stall: float = 30.0
    idle: float | None = None


class EventStream:
    """An answer that streams a source. As an ASGI application it is called once; the source is closed at the end."""

    __slots__ = (
        "_connection",
        "_farewell",
        "_grant",
        "_headers",
        "_heartbeat",
        "_is_idle",
        "_is_over",
        "_is_post",
        "_last_frame",
        "_last_write",
        "_loop",
        "_opening",
        "_shutdown",
        "_source",
        "_taking",
        "_timer",
        "_times",
    )

    def __init__(
        self,
        source: Source,
        *,
        shutdown: Shutdown,
        grant: Grant,
        is_post: bool,
        times: StreamTimes,
        opening: bytes = b"",
        heartbeat: bytes | Callable[[], bytes] = b": heartbeat\n\n",
        headers: tuple[Header, ...] = (),
        retry_ms: int | None = None,
        farewell: Callable[[str], bytes] | None = None,
    ) -> None:
        """
        Args:
            retry_ms: what the `retry:` line says; None: between one and three seconds.
            farewell: what is written last where the stream ends early; it is given why, as the table's comments say it.
            is_post: the stream answers a call that started or continues work, see the table above.
            opening: written behind the `retry:` line, before the first frame.
            heartbeat: what is written after a silence; a comment or a whole frame, or what makes one then.
        """
        self._source = source
        self._shutdown = shutdown
        self._grant = grant
        self._is_post = is_post
        self._times = times
        self._opening = b"retry: %d\n" % (retry_ms or random.randint(1000, 3000)) + (opening or b"\n")
        self._farewell = farewell
        self._heartbeat = heartbeat
        self._headers = headers
        self._is_idle = False  # nothing of a frame is half written
        self._is_over: bytes | None = None  # the timer wants the stream to end, with this comment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = [*_HEADERS, *self._headers, *shared_headers(scope)]
            begin(scope, 200)
            if scope["http_version"] == "1.0":
                connection_of(scope).be_plain()
                headers = [item for item in headers if item[0] != b"connection"]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if exchange_of(scope).is_head:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            self._connection = connection_of(scope)
            metrics = exchange_of(scope).services.metrics
            metrics.subscribers += 1
            try:
                ends_properly = await self._follow()
            finally:
                metrics.subscribers -= 1
            if ends_properly:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._source.close()

    async def _follow(self) -> bool:
        """Write frames until something ends the stream; True if its body shall end properly."""
        connection, source = self._connection, self._source
        self._loop = asyncio.get_running_loop()
        self._last_write = self._last_frame = self._loop.time()
        self._taking = Taking(connection, self._last_write)
        connection.on_lost = source.wake
        self._shutdown.add(source.wake)
        self._timer: asyncio.TimerHandle = self._loop.call_later(self._until_tick(), self._tick)
        try:
            connection.write(self._opening)
            return await self._pump()
        except HoldfastError as error:
            log.warning("stream_cut", reason=error.code, message=str(error))
            connection.abort()
            return False
        finally:
            self._timer.cancel()
            self._shutdown.remove(source.wake)
            connection.on_lost = None

    async def _pump(self) -> bool:
        connection, source, loop = self._connection, self._source, self._loop
        turn = 0  # bytes of this turn
        while True:
            self._is_idle = True
            frames = await source.next()
            self._is_idle = False
            if isinstance(frames, Signal):
                if frames is Signal.END:
                    return True
                if connection.is_lost:
                    return False
                if frames is Signal.ROLLED_BACK:
                    return self._end(b": rolled back\n\n")
                if self._shutdown.is_set:
                    return self._end(b": shutdown\n\n")
                if self._is_over is not None:
                    return self._end(self._is_over)
                continue
            if not frames:
                # All of it was hidden from this reader, for whom the stream is silent. Others get their turn: with
                # nothing written, nothing ever pauses a reader of a long journal.
                await asyncio.sleep(0)
                continue
            if len(frames) <= SLICE_BYTES_MAX:
                connection.write(frames)
            else:
                await self._write_slices(frames)
            self._last_write = self._last_frame = loop.time()
            turn += len(frames)
            if connection.is_paused:
                del frames
                await connection.drained()
            elif turn >= TURN_BYTES_MAX:
                del frames
                await asyncio.sleep(0)
            else:
                continue
            turn = 0

    async def _write_slices(self, frames: bytes) -> None:
        view = memoryview(frames)
        for start in range(0, len(view), SLICE_BYTES_MAX):
            if self._connection.is_paused:
                await self._connection.drained()
            if self._connection.is_lost:
                return
            self._connection.write(view[start : start + SLICE_BYTES_MAX])

    def _end(self, comment: bytes) -> bool:
        reason = comment.decode().strip(": \n")
        self._connection.write(comment if self._farewell is None else self._farewell(reason))
        if self._is_post:
            self._connection.close()
        return not self._is_post

    # The timer

    def _until_tick(self) -> float:
        """Seconds until there may be something to do."""
        times, now = self._times, self._loop.time()
        due = self._last_write + times.heartbeat
        if times.idle is not None:
            due = min(due, self._last_frame + times.idle)
        return min(max(due - now, 0.01), TICK_SECONDS_MAX, times.stall / 3)

    def _tick(self) -> None:
        connection, now = self._connection, self._loop.time()
        if connection.is_lost:
            return
        if self._taking.is_stalled(now, self._times.stall):
            log.info("reader_cut", waiting=connection.waiting, key=self._grant.caller.name)
            connection.abort()
            return
        if self._grant.is_revoked:
            self._is_over = b": key revoked\n\n"
            self._source.wake()
        elif self._times.idle is not None and now - self._last_frame >= self._times.idle:
            self._is_over = b": timeout\n\n"
            self._source.wake()
        elif self._is_idle and now - self._last_write >= self._times.heartbeat and not connection.is_paused:
            connection.write(self._heartbeat() if callable(self._heartbeat) else self._heartbeat)
            self._last_write = now
        self._timer = self._loop.call_later(self._until_tick(), self._tick)
