"""
`GET /execute/replay`: frames again, from a cursor on, and then live until the turns that were active are over.

A cursor is a time; with `turn_id`, `Last-Event-ID` is a sequence of that turn. A stream whose cursor lies in history
that is gone says so in its first frame.
"""

from __future__ import annotations

import msgspec
from litestar import get

from holdfast.api.engine import fields
from holdfast.api.engine.cursors import EventId, parse_event_id
from holdfast.api.engine.finding import find_task, find_turn
from holdfast.api.engine.streams import Place, TaskFrames, TenantFrames, Turns
from holdfast.api.engine.timeline import PAGE_BYTES_MAX
from holdfast.api.engine.timestamps import milliseconds, parse_after
from holdfast.api.engine.turns import stream, turn_frames
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.reply import Reply
from holdfast.errors import InvalidRequest
from holdfast.model import Run
from holdfast.model.lifecycle import ACTIVE
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

CURSOR_HEADER = "Last-Event-ID"
# Active turns are listed before a stream over all tasks begins; more at once than this do not fit one query.
ACTIVE_PAGE = 1000


class Wanted(msgspec.Struct, frozen=True):
    """What a replay was asked for."""

    task_id: str | None
    turn_id: str | None
    after: str | None
    last_event_id: str | None
    follow: bool

    @property
    def time(self) -> int:
        """The cursor as a time in microseconds; 0: from the start."""
        if self.last_event_id is not None and self.turn_id is None:
            return parse_after(self.last_event_id, field=CURSOR_HEADER)
        return 0 if self.after is None else parse_after(self.after, field="after")


@get("/execute/replay", opt={"role": "reader"})
async def replay(request: Call) -> Answer:
    """Frames again from a cursor on, then live ones."""
    wanted = _wanted(request)
    time = wanted.time
    runs, caller = request.runs, request.caller
    if wanted.task_id is not None and wanted.turn_id is None:
        await find_task(runs, caller, wanted.task_id)
    if wanted.turn_id is not None:
        run = await find_turn(runs, caller, wanted.turn_id, wanted.task_id)
        event_id = None
        if wanted.last_event_id is not None:
            event_id = parse_event_id(wanted.last_event_id, field=CURSOR_HEADER)
            if run.status.is_final and event_id == EventId(run.tail_sequence, run.epoch):
                return Reply(204)
        gap, frames = await turn_frames(runs, run, event_id=event_id, after=time, follow=wanted.follow)
        return stream(request, frames, gap=gap)
    place = Place(wanted.task_id, None, time)
    gap = await _time_gap(runs, caller, place)
    active = await _active(runs, caller, wanted.task_id) if wanted.follow else []
    if wanted.last_event_id is not None and not active and not gap and not await _has_more(runs, caller, place):
        return Reply(204)
    if wanted.task_id is not None:
        return stream(request, TaskFrames(runs, caller.tenant, place, active=active[0] if active else None), gap=gap)
    return stream(request, TenantFrames(runs, caller.tenant, place, active=[run.number for run in active]), gap=gap)


def _wanted(request: Call) -> Wanted:
    query = request.query("after", "task_id", "turn_id", "follow")
    follow = query.get("follow", "1")
    if follow not in ("0", "1"):
        raise InvalidRequest(f"follow: 0 or 1, not {follow[:60]!r}", field="follow")
    task_id = query.get("task_id")
    last_event_id = (request.header(b"last-event-id") or b"").decode("latin-1")
    return Wanted(
        task_id=None if task_id is None else fields.task_id(task_id, "task_id"),
        turn_id=query.get("turn_id"),
        after=query.get("after"),
        last_event_id=last_event_id or None,
        follow=follow == "1",
    )


async def _active(runs: Runs, caller: Caller, task_id: str | None) -> list[Run]:
    """The turns in scope that are not over."""
    found: list[Run] = []
    before = None
    while True:
        query = RunQuery(
            tenant=caller.tenant, thread_id=task_id, statuses=tuple(ACTIVE), before=before, limit=ACTIVE_PAGE
        )
        page = await runs.list(query)
        found += [run for run in page if run.thread_id is not None]
        if len(page) < ACTIVE_PAGE:
            return found
        before = page[-1].number


async def _has_more(runs: Runs, caller: Caller, place: Place) -> bool:
    """Whether turns in scope have written behind the cursor; what runs without a task wrote is nothing to come back for."""
    store, begun_after = runs.store, None
    if place.task_id is not None:
        return bool(
            await store.segments_by_time(caller.tenant, after=place.timestamp, thread_id=place.task_id, bytes_max=1)
        )
    turns = Turns(runs)
    while page := await store.segments_by_time(
        caller.tenant, after=place.timestamp, begun_after=begun_after, bytes_max=PAGE_BYTES_MAX
    ):
        for number in dict.fromkeys(segment.number for segment in page):
            if await turns.projection(number) is not None:
                return True
        begun_after = page[-1].first_timestamp
    return False


async def _time_gap(runs: Runs, caller: Caller, place: Place) -> bytes:
    """The gap of a stream that begins behind a time; the place moves behind it. No cursor, no gap."""
    cursor = place.timestamp
    if not cursor:
        return b""
    lost = await runs.store.lost(caller.tenant, thread_id=place.task_id)
    if cursor < lost.pruned_until:
        reason, place.timestamp = "pruned", lost.pruned_until
    else:
        # The events that a cursor in between stands for were written again since, or never will be.
        restored = [newest for newest, moment in lost.rolled_back if newest < cursor < moment]
        if not restored:
            return b""
        reason, place.timestamp = "rolled_back", min(restored)
    return place.gap(reason, milliseconds(cursor))
