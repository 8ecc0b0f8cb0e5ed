"""The stream of a run's states, and waiting for the next one."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec

from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.sse import EventStream
from holdfast.api.http.subscribers import Subscribed
from holdfast.api.runtime.position import Cursor, read_cursor
from holdfast.api.workflow.finding import fold, shown_children, with_texts
from holdfast.api.workflow.rows import TEXT_BYTES_MAX, State, task_status
from holdfast.journal import Reader, Signal
from holdfast.model import Run
from holdfast.model.encoding import encode_value
from holdfast.runs import Caller, Runs

HEARTBEAT = b": hb\n\n"
RETRY_MS = 1000


class Task:
    """
    Follows a run from state to state. `next` returns when there is a newer state event than `since`; what came
    meanwhile is merged, so a slow caller sees the newest state and no round that is over.
    """

    def __init__(self, runs: Runs, caller: Caller, state: State, since: int) -> None:
        self.state = state
        self.since = since
        self._runs = runs
        self._caller = caller
        self._reader: Reader = runs.follow(state.run, after=state.run.tail_sequence)
        self.wake = self._reader.wake
        self.close = self._reader.close

    @property
    def is_newer(self) -> bool:
        return self.state.seq > self.since

    async def next(self) -> Signal | None:
        """None: there is a newer state. WOKEN, END and the others as from a reader."""
        while True:
            chunk = await self._reader.next()
            if chunk is Signal.GAP:
                continue
            if isinstance(chunk, Signal):
                return chunk
            self.state.feed_lines(chunk.lines)
            if self._reader.cursor >= self._reader.tail_sequence and self.is_newer:
                return None

    async def shown(self) -> dict[str, Any]:
        """The task status as of the newest event that was read."""
        run = self.state.run
        await with_texts(self._runs, self.state, bytes_max=TEXT_BYTES_MAX)
        interrupts = await self._runs.store.interrupts(run.number)
        children = await shown_children(self._runs, self._caller, run)
        return task_status(self.state, interrupts, children, self._runs.worker.clock.now())


class SyncFrames:
    """A task as the frames of a stream: first a snapshot, then one frame for each state, each round once."""

    def __init__(self, task: Task, gap: str | None) -> None:
        self._task = task
        self._gap = gap
        self._is_first = True
        self._round: int | None = None  # the open one, as it was shown
        self.seq = task.state.seq
        self.wake = task.wake
        self.close = task.close

    async def next(self) -> bytes | Signal:
        if not self._is_first:
            while True:
                signal = await self._task.next()
                if signal is not None:
                    return signal
                self._task.since = max(self._task.since, self._task.state.seq)
                if self._is_worth_a_frame():
                    break
        frame = await self._frame()
        self._is_first = False
        return frame

    def _is_worth_a_frame(self) -> bool:
        state = self._task.state
        return state.seq > self.seq and (state.open_round is None or state.round != self._round)

    async def _frame(self) -> bytes:
        state = self._task.state
        status = await self._task.shown()
        self.seq = state.seq
        self._task.since = max(self._task.since, state.seq)
        self._round = state.round if state.open_round is not None else None
        body: dict[str, Any] = {"type": "sync", "seq": state.seq, "task_status": status}
        if self._gap is not None:
            body |= {"gap": True, "gap_reason": self._gap}
            self._gap = None
        return self.encode("sync", body)

    def encode(self, event: str, body: dict[str, Any]) -> bytes:
        """One frame; its id is the newest state that was shown."""
        epoch = self._task.state.run.epoch
        event_id = f"{self.seq}@{epoch}" if epoch else str(self.seq)
        return f"id: {event_id}\nevent: {event}\ndata: {encode_value(body)}\n\n".encode()

    def farewell(self, reason: str) -> bytes:
        """The last frame of a stream that ends before the run does."""
        if reason == "key revoked":
            message = "the key of this stream was revoked"
            return self.encode("error", {"type": "error", "seq": self.seq, "code": "unauthorized", "message": message})
        retry = random.randint(500, 2000)
        return self.encode("reconnect", {"type": "reconnect", "seq": self.seq, "retry_ms": retry})


def since_of(request: Call, run: Run, given: str | None) -> tuple[int, str | None]:
    """
    The cursor of a call, -1 for none, and why it counts for nothing if it does not.

    Raises:
        InvalidQuery: `since_seq` is no cursor.
    """
    cursors = [read_cursor(given, "since_seq")]
    header = (request.header(b"last-event-id") or b"").decode("latin-1")
    with contextlib.suppress(InvalidQuery):  # a bad header is ignored
        cursors.append(read_cursor(header, "Last-Event-ID"))
    known = [cursor for cursor in cursors if cursor is not None]
    if not known:
        return -1, None
    cursor = max(known, key=lambda item: item.sequence)
    return (-1, "rolled_back") if _is_rolled_back(run, cursor) else (cursor.sequence, None)


def _is_rolled_back(run: Run, cursor: Cursor) -> bool:
    rewritten = min((first for later, first in run.epochs if later > cursor.epoch), default=None)
    is_rewritten = rewritten is not None and cursor.sequence >= rewritten
    return cursor.epoch > run.epoch or cursor.sequence > run.tail_sequence or is_rewritten


async def stream(request: Call, run: Run, since: int, gap: str | None) -> EventStream:
    """The answer that streams a run's states."""
    services = request.services
    state = await fold(request.runs, run)
    if gap is None and run.first_sequence > 0:
        gap = "expired"
    frames = SyncFrames(Task(request.runs, request.caller, state, since), gap)
    try:
        source = Subscribed(frames, services.subscribers, run.number, run.run_id)
    except BaseException:
        frames.close()
        raise
    return EventStream(
        source,
        shutdown=services.shutdown,
        grant=request.grant,
        is_post=False,
        times=msgspec.structs.replace(services.stream_times, idle=None),
        heartbeat=HEARTBEAT,
        retry_ms=RETRY_MS,
        farewell=frames.farewell,
    )
