"""Opening the stream of one turn: where it begins, and whether it has to tell first that something is gone."""

from __future__ import annotations

from holdfast.api.engine.cursors import EventId, start_behind
from holdfast.api.engine.streams import (
    Place,
    TaskFrames,
    TenantFrames,
    TurnFrames,
    newest_before,
    projection_of,
)
from holdfast.api.engine.timestamps import milliseconds
from holdfast.api.http.call import Call
from holdfast.api.http.sse import EventStream
from holdfast.journal import chunk_of
from holdfast.model import Run
from holdfast.model.encoding import event_time
from holdfast.runs import Runs


def stream(
    request: Call,
    frames: TurnFrames | TaskFrames | TenantFrames,
    *,
    gap: bytes = b"",
    is_post: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> EventStream:
    """Frames as an answer."""
    # What the door says about caching is for plain answers; proxies must not touch a stream either.
    ours = (b"cache-control", b"no-cache, no-transform")
    kept = [item for item in request.exchange.headers if item[0] != b"cache-control"]
    request.exchange.headers[:] = [ours, *kept]
    return EventStream(
        frames,
        shutdown=request.services.shutdown,
        grant=request.grant,
        is_post=is_post,
        times=request.services.stream_times,
        opening=b"\n" + gap,
        heartbeat=frames.place.heartbeat,
        headers=headers,
    )


async def turn_frames(
    runs: Runs, run: Run, *, event_id: EventId | None = None, after: int = 0, follow: bool = True
) -> tuple[bytes, TurnFrames]:
    """
    The frames of a turn behind an event, or behind a time; the gap that comes first, if there is one, is apart.
    """
    projection = projection_of(run)
    place = Place(run.thread_id, run.run_id, after)
    gap = b""
    if event_id is not None:
        start = start_behind(run, event_id)
        sequence = start.after
        place.timestamp = 0 if start.is_restart else await _time_behind(runs, run, sequence)
        if start.gap is not None:
            lost_from = f'"{event_id.text}"' if event_id.epoch else event_id.text
            gap = Place(run.thread_id, None, place.timestamp).gap(start.gap, lost_from)
    else:
        gap, after = await _time_gap(runs, run, after)
        place.timestamp = after
        sequence = await _sequence_before(runs, run, after)
    reader = runs.follow(run, after=sequence)
    until = None if follow else run.tail_sequence
    return gap, TurnFrames(reader, projection, place, after=after if event_id is None else 0, until=until)


async def _time_gap(runs: Runs, run: Run, after: int) -> tuple[bytes, int]:
    """The gap of a stream that begins behind a time, and the time behind which it goes on. No cursor, no gap."""
    if not after:
        return b"", 0
    if run.first_sequence:
        pruned = await _time_behind(runs, run, run.first_sequence - 1)
        if after < pruned:
            return Place(run.thread_id, None, pruned).gap("pruned", milliseconds(after)), pruned
    for newest, moment in (await runs.store.lost(run.tenant, thread_id=run.thread_id)).rolled_back:
        if newest < after < moment:
            return Place(run.thread_id, None, newest).gap("rolled_back", milliseconds(after)), newest
    return b"", after


async def _time_behind(runs: Runs, run: Run, sequence: int) -> int:
    """The time of an event; of one that is not kept, a time between it and the first that is."""
    if sequence < 0:
        return 0
    first = max(sequence, run.first_sequence)
    segments = await runs.store.segments(run.number, after=first - 1, bytes_max=1)
    if not segments:
        return 0
    chunk = chunk_of(segments, first - 1)
    return event_time(chunk.lines[0]) if chunk.first == sequence else newest_before(chunk)


async def _sequence_before(runs: Runs, run: Run, after: int) -> int:
    """A sequence so that every event of the turn that is younger than this time comes behind it."""
    if not after:
        return run.first_sequence - 1
    if after >= run.last_timestamp:
        return run.tail_sequence
    segments = await runs.store.segments_by_time(run.tenant, after=after, thread_id=run.thread_id, bytes_max=1)
    if segments and segments[0].number == run.number:
        return segments[0].first - 1
    return run.first_sequence - 1
