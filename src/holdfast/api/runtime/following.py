"""
A run's events as one stream: what the reader asked for, put together from position, filter and view.

`GET /runs/{id}/events` and `POST /invoke/stream` differ in little: the latter starts where its run does, and shows
the id of its request in every event.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from holdfast.api.http.asgi import Header
from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.frames import messages_of
from holdfast.api.http.query import Query
from holdfast.api.http.sse import EventStream, RunFrames, Source
from holdfast.api.http.subscribers import Subscribed
from holdfast.api.runtime.compact import CompactFrames, Fold
from holdfast.api.runtime.filters import EventFilter
from holdfast.api.runtime.position import Position
from holdfast.api.runtime.projection import (
    frame,
    frames_for_request,
    gap_of,
    request_member,
    shared_frames,
    shared_messages,
)
from holdfast.journal import Signal
from holdfast.model import Run
from holdfast.settings import Settings

READING: Final = ("types", "preset", "view")
"""The query parameters that say what a stream shows."""


class Reading(msgspec.Struct, frozen=True):
    """What a reader wants of a run's events."""

    wanted: EventFilter
    is_compact: bool

    @classmethod
    def parse(cls, query: Query, settings: Settings) -> Reading:
        """
        What the query asks for, within what the server lets its readers see.

        Raises:
            InvalidQuery
        """
        view = query.get("view")
        if view not in (None, "compact"):
            raise InvalidQuery(f"view is compact, or absent, not {view[:40]!r}", field="view")
        return cls(EventFilter.parse(query, settings.events_allowed), view is not None)

    @property
    def opening(self) -> bytes:
        """The comments behind the `retry:` line, and the empty line that ends the opening block."""
        return self.wanted.comment + (b": view compact\n" if self.is_compact else b"") + b"\n"


async def event_stream(
    request: Call,
    run: Run,
    position: Position,
    reading: Reading,
    *,
    is_post: bool,
    idle: float | None,
    headers: tuple[Header, ...],
) -> EventStream:
    """
    The answer that streams a run's events from a position on; `is_post` shows the request's id in each.

    Raises:
        TooManySubscribers
        JournalCorrupt, StoreUnavailable: its beginning cannot be read.
    """
    services = request.services
    source = _source(request, run, position.first - 1, reading, request.request_id if is_post else None)
    opening = reading.opening
    if position.gap is not None:
        opening += gap_of(run, position.requested, position.first, position.gap)
    counted = _counted(request, source, run)
    try:
        await source.prime()
    except BaseException:
        counted.close()
        raise
    return EventStream(
        counted,
        shutdown=services.shutdown,
        grant=request.grant,
        is_post=is_post,
        times=msgspec.structs.replace(services.stream_times, idle=idle),
        opening=opening,
        headers=headers,
    )


def _source(request: Call, run: Run, after: int, reading: Reading, request_id: str | None) -> RunFrames | CompactFrames:
    wanted = reading.wanted
    if request_id is None:
        make, key = shared_frames(run.epoch, wanted)
        last = "}"
    else:
        make, key = frames_for_request(run.epoch, request_id, wanted), None
        last = request_member(request_id)

    def pruned(missing: int, first: int) -> bytes:
        return gap_of(run, missing, first, "pruned")

    def live(after: int) -> RunFrames:
        return RunFrames(request.runs.follow(run, after=after), make, key=key, gap=pruned)

    if not reading.is_compact or after >= run.tail_sequence:
        return live(after)
    return CompactFrames(
        Fold(wanted, partial(frame, epoch=run.epoch, last=last), key),
        follow=lambda after: request.runs.follow(run, after=after),
        live=live,
        after=after,
        tail=run.tail_sequence,
        is_finished=run.status.is_final,
        gap=pruned,
    )


def socket_source(request: Call, run: Run, after: int, reading: Reading) -> Source:
    """
    The same events as text messages for WebSockets: each is the `data:` of its frame, to the byte.

    Raises:
        TooManySubscribers
    """
    source: Source
    if reading.is_compact and after < run.tail_sequence:
        source = Messages(_source(request, run, after, reading, None))
    else:
        make, key = shared_messages(reading.wanted)
        source = RunFrames(
            request.runs.follow(run, after=after),
            make,
            key=key,
            gap=lambda missing, first: messages_of(gap_of(run, missing, first, "pruned")),
        )
    return _counted(request, source, run)


def _counted(request: Call, source: Source, run: Run) -> Subscribed:
    try:
        return Subscribed(source, request.services.subscribers, run.number, run.run_id)
    except BaseException:
        source.close()
        raise


class Messages:
    """A source of server-sent events as one of text messages."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.wake = source.wake
        self.close = source.close

    async def next(self) -> bytes | Signal:
        frames = await self._source.next()
        return frames if isinstance(frames, Signal) else messages_of(frames)
