"""A run's frames as a stream, from its first event on or from a reader's place."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from holdfast.api.http.call import Call
from holdfast.api.http.sse import EventStream, RunFrames
from holdfast.api.http.subscribers import Subscribed
from holdfast.api.runtime.position import Position
from holdfast.api.skills.bodies import set_header
from holdfast.api.skills.projection import RETRY_MS, Frames, gap_frame
from holdfast.journal.chunk import chunk_of
from holdfast.model import Run
from holdfast.model.encoding import format_time
from holdfast.model.lifecycle import TERMINAL_EVENTS

CACHE: Final = b"cache-control"
PAGE_BYTES: Final = 4 * 1024 * 1024


async def run_stream(request: Call, run: Run, position: Position, *, is_post: bool) -> EventStream:
    """
    The answer that streams a run's frames; `is_post`: it answers the call that started the run.

    Raises:
        TooManySubscribers
        JournalCorrupt, StoreUnavailable: its beginning cannot be read.
    """
    services, frames = request.services, Frames(run)

    def gap(requested: int, first: int, reason: str = "pruned") -> bytes:
        now = format_time(services.clock.now())
        return gap_frame(run, requested=requested, first=first, reason=reason, timestamp=now)

    reader = request.runs.follow(run, after=position.first - 1)
    source = RunFrames(reader, frames.of_chunk, key=frames.key, gap=gap)
    try:
        counted = Subscribed(source, services.subscribers, run.number, run.run_id)
    except BaseException:
        source.close()
        raise
    try:
        await source.prime()
    except BaseException:
        counted.close()
        raise
    set_header(request, CACHE, "no-cache")
    set_header(request, b"connection", "keep-alive")
    opening = b"\n"
    if position.gap is not None:
        opening += gap(position.requested, position.first, position.gap)
    return EventStream(
        counted,
        shutdown=services.shutdown,
        grant=request.grant,
        is_post=is_post,
        times=msgspec.structs.replace(services.stream_times, idle=None),
        opening=opening,
        retry_ms=RETRY_MS,
    )


async def all_frames(request: Call, run: Run) -> list[Any]:
    """The data of all frames of a run up to now, but for its end."""
    frames, shown = Frames(run), list[Any]()
    after = run.first_sequence - 1
    while after < run.tail_sequence:
        page = await request.runs.store.segments(run.number, after=after, bytes_max=PAGE_BYTES)
        if not page:
            break
        chunk = chunk_of(page, after)
        shown += [
            msgspec.Raw(frames.data(line).encode())
            for name, line in zip(chunk.types, chunk.lines, strict=True)
            if name not in TERMINAL_EVENTS
        ]
        after = chunk.last
        await asyncio.sleep(0)
    return shown
