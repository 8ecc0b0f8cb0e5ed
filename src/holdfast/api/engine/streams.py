"""
What a stream of this API reads from: one turn, the turns of a task, or all turns of a tenant.

Each source remembers the last frame that it gave, because a heartbeat repeats its cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from holdfast.api.engine.projection import FrameId, Projection
from holdfast.api.engine.timeline import Piece, Timeline
from holdfast.api.engine.timestamps import milliseconds
from holdfast.errors import StoreUnavailable
from holdfast.journal import END, GAP, ROLLED_BACK, WOKEN, Chunk, Reader, Signal
from holdfast.journal.journal import STAMP_STEP_MICROSECONDS
from holdfast.model import Run
from holdfast.model.encoding import encode_text, event_time
from holdfast.model.lifecycle import TERMINAL_EVENTS
from holdfast.runs import Runs

# A run can end without this process hearing of it in the order of time; whoever waits for that looks this often.
RECHECK_SECONDS = 1.0
# Beyond this many turns in one stream, what is known of the first ones is read again if it is needed.
PROJECTIONS_MAX = 10_000


class Place(msgspec.Struct):
    """Where a stream stands: at the last frame that it gave, or before that at the reader's cursor."""

    task_id: str | None
    turn_id: str | None
    timestamp: int  # microseconds
    sequence: int | None = None

    def note(self, projection: Projection, chunk: Chunk) -> None:
        """The frames of this chunk were given."""
        self.task_id, self.turn_id = projection.task_id, projection.turn_id
        self.timestamp, self.sequence = event_time(chunk.lines[-1]), chunk.last

    def heartbeat(self) -> bytes:
        """A comment, for those who only look whether something comes, and a frame that can be stored as a cursor."""
        return b": heartbeat\n\n" + self._frame("heartbeat")

    def gap(self, reason: str, lost_from: str) -> bytes:
        """The frame that says that events behind a cursor are gone; the stream goes on behind this place."""
        return self._frame("replay_gap", f',"reason":"{reason}","lost_from":{lost_from}')

    def _frame(self, name: str, rest: str = "") -> bytes:
        task_id = "null" if self.task_id is None else encode_text(self.task_id)
        turn_id = "null" if self.turn_id is None else f'"{self.turn_id}"'
        sequence = "null" if self.sequence is None else str(self.sequence)
        return (
            f'event: {name}\ndata: {{"type":"{name}","task_id":{task_id},"turn_id":{turn_id},"sequence":{sequence},'
            f'"timestamp":{milliseconds(self.timestamp)}{rest}}}\n\n'
        ).encode()


def newest_before(chunk: Chunk) -> int:
    """
    A time at or behind the newest event before a chunk, and before every frame of the chunk.

    Events are two microseconds apart at least, and the frame `error` stands one before its event.
    """
    return event_time(chunk.lines[0]) - STAMP_STEP_MICROSECONDS


def projection_of(run: Run, ids: FrameId = FrameId.SEQUENCE) -> Projection:
    """The projection of a run that has a thread."""
    return Projection(run.thread_id or "", run.run_id, epoch=run.epoch, ids=ids)


class TurnFrames:
    """
    The frames of one turn: what the reader gives, behind a time if one is given.

    With `until`, a sequence, it ends there; else with the turn.
    """

    def __init__(
        self, reader: Reader, projection: Projection, place: Place, *, after: int = 0, until: int | None = None
    ) -> None:
        self.place = place
        self._reader = reader
        self._projection = projection
        self._after = after
        self._until = until
        self.wake = reader.wake
        self.close = reader.close

    async def next(self) -> bytes | Signal:
        """The next frames; WOKEN after `wake`, END when nothing follows. Cancelling it loses nothing."""
        if self._until is not None and self._reader.cursor >= self._until:
            return END
        before = self._reader.cursor
        chunk = await self._reader.next()
        if chunk is GAP:
            return await self._behind_gap(before)
        return chunk if isinstance(chunk, Signal) else self._frames(chunk)

    def _frames(self, chunk: Chunk) -> bytes:
        if not self._after:
            frames = self._projection.frames(chunk)
        elif frames := self._projection.frames_after(chunk, self._after):
            self._after = 0
        if frames:
            self.place.note(self._projection, chunk)
        return frames

    async def _behind_gap(self, before: int) -> bytes | Signal:
        """Events were pruned between two reads of a very slow reader."""
        lost_from = self._projection.cursor(before, self.place.timestamp)
        chunk = await self._reader.next()
        if isinstance(chunk, Signal):
            return chunk
        place = Place(self.place.task_id, None, newest_before(chunk))
        return place.gap("pruned", lost_from) + self._frames(chunk)


class TaskFrames:
    """
    The frames of a task: what is committed of its turns by time, then its active turn live, if there is one.

    The turns of a task follow each other, so nothing can come between. `active` was read before this is made.
    """

    def __init__(self, runs: Runs, tenant: str, place: Place, *, active: Run | None) -> None:
        assert place.task_id is not None
        self.place = place
        self._runs = runs
        self._timeline = Timeline(runs.store, tenant, after=place.timestamp, thread_id=place.task_id)
        self._after = place.timestamp
        self._active = active
        self._turns = Turns(runs)
        self._live: TurnFrames | None = None
        self._pieces: Sequence[Piece] | None = None  # what the timeline gave, until it is shown
        self._pause = Pause()
        self._is_woken = False
        self._rollbacks = runs.journal.rollbacks

    async def next(self) -> bytes | Signal:
        """As in `TurnFrames`."""
        while self._live is None:
            if self._is_woken:
                self._is_woken = False
                return WOKEN
            try:
                if self._pieces is None:
                    self._pieces = await self._timeline.next()
                if self._runs.journal.rollbacks != self._rollbacks:
                    return ROLLED_BACK
                projections = [await self._turns.projection(number) for number, _ in self._pieces or ()]
            except StoreUnavailable:
                if not self._is_woken:  # the reader stays, and is shown what there is when the store is back
                    await self._pause.wait()
                continue
            pieces, self._pieces = self._pieces, None
            if pieces is None and self._active is None:
                return END
            frames = self._earlier(pieces or (), projections)
            if pieces is None and self._active is not None:
                # Everything up to this tail is older than the cursor, or the store would have given it.
                self._live = self._go_live(self._active, self._active.tail_sequence)
            if frames:
                return frames
        return await self._live.next()

    def _earlier(self, pieces: Iterable[Piece], projections: Iterable[Projection | None]) -> bytes:
        """The frames of turns before the active one; its first piece begins the live part."""
        frames = bytearray()
        for (number, chunk), projection in zip(pieces, projections, strict=True):
            if self._active is not None and number == self._active.number:
                self._live = self._go_live(self._active, chunk.first - 1)
                break
            if projection is not None:
                frames += projection.frames_after(chunk, self._after)
                self.place.note(projection, chunk)
        return bytes(frames)

    def _go_live(self, run: Run, sequence: int) -> TurnFrames:
        reader = self._runs.follow(run, after=sequence)
        projection = projection_of(run, FrameId.TIMESTAMP)
        if self._is_woken:
            self._is_woken = False
            reader.wake()
        return TurnFrames(reader, projection, self.place, after=self._after)

    def wake(self) -> None:
        if self._live is not None:
            self._live.wake()
        else:
            self._is_woken = True
            self._pause.end()

    def close(self) -> None:
        if self._live is not None:
            self._live.close()


class Pause:
    """Between two looks at the store."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until `end` is called, or the next look is due."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(RECHECK_SECONDS, self.end)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TenantFrames:
    """
    The frames of all turns of a tenant by time, until those that are in `active` (run numbers) are over.

    `active` was read before this is made.
    """

    def __init__(self, runs: Runs, tenant: str, place: Place, *, active: Iterable[int]) -> None:
        self.place = place
        self._runs = runs
        self._tenant = tenant
        self._timeline = Timeline(runs.store, tenant, after=place.timestamp)
        self._pieces: Sequence[Piece] | None = None  # what it gave, until it is shown
        self._after = place.timestamp
        self._active = set(active)
        self._over: set[int] = set()
        self._turns = Turns(runs)
        self._is_woken = False
        self._is_stale = False
        self._pause = Pause()
        self._checked = 0.0
        self._rollbacks = runs.journal.rollbacks
        runs.journal.tails.listen(self._on_commit)

    async def next(self) -> bytes | Signal:
        """As in `TurnFrames`."""
        while not self._is_woken:
            # Cleared before reading: a commit that comes between the two reads sets it again.
            self._is_stale = False
            try:
                if self._pieces is None:
                    self._pieces = await self._timeline.next()
                if self._runs.journal.rollbacks != self._rollbacks:
                    return ROLLED_BACK
                if self._pieces is not None:
                    projections = [await self._turns.projection(number) for number, _ in self._pieces]
                    pieces, self._pieces = self._pieces, None
                    frames = self._frames(pieces, projections)
                    if frames:
                        return frames
                    continue
                self._active -= self._over
                if not self._active:
                    return END
                if self._is_stale or await self._look_who_is_over():
                    continue
            except StoreUnavailable:
                self._is_stale = False  # the reader stays, and is shown what there is when the store is back
            await self._wait()
        self._is_woken = False
        return WOKEN

    def _frames(self, pieces: Sequence[Piece], projections: Sequence[Projection | None]) -> bytes:
        frames = bytearray()
        for (number, chunk), projection in zip(pieces, projections, strict=True):
            if projection is not None:
                frames += projection.frames_after(chunk, self._after)
                self.place.note(projection, chunk)
            if chunk.types[-1] in TERMINAL_EVENTS:
                self._over.add(number)
        return bytes(frames)

    async def _look_who_is_over(self) -> bool:
        """
        Whether some turn is over whose end is not in the timeline: its journal lies before the reader's cursor.

        What was committed up to its end is read once more before the turn counts as over.
        """
        now = asyncio.get_running_loop().time()
        if now - self._checked < RECHECK_SECONDS:
            return False
        self._checked = now
        found = await self._runs.store.tails(sorted(self._active))
        final = {number for number in self._active if number not in found or found[number][1].is_final}
        over = {number for number in final if await self._is_given(number)}
        self._over |= over
        return bool(over)

    async def _is_given(self, number: int) -> bool:
        """Whether the timeline may have given the end of a run that is over: it does not lie above the floor."""
        if self._timeline.floor is None:
            return True
        run = await self._runs.store.run_by_number(number)
        return run is None or run.last_timestamp <= self._timeline.floor

    async def _wait(self) -> None:
        if not self._is_stale and not self._is_woken:
            await self._pause.wait()

    def _on_commit(self, tenant: str) -> None:
        if tenant in (self._tenant, ""):
            self._is_stale = True
            self._pause.end()

    def wake(self) -> None:
        self._is_woken = True
        self._pause.end()

    def close(self) -> None:
        self._runs.journal.tails.unlisten(self._on_commit)


class Turns:
    """The projections of runs by their numbers, read once; None for a run that is no turn, or not there any more."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._known: dict[int, Projection | None] = {}

    async def projection(self, number: int) -> Projection | None:
        if number not in self._known:
            if len(self._known) >= PROJECTIONS_MAX:
                self._known.clear()
            run = await self._runs.store.run_by_number(number)
            is_turn = run is not None and run.thread_id is not None
            self._known[number] = projection_of(run, FrameId.TIMESTAMP) if run is not None and is_turn else None
        return self._known[number]
