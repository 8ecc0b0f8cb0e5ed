"""
The committer: everything that is pending, of all runs, becomes durable in one commit, then visible.

    writer.write ──► pending ──┐
    journal.submit ────────────┴─► take all ──► store.commit ──► tails ──► readers
                                   one batch      one fsync       after it, never before

While one batch is written, the next one fills, so the batch size adapts to the load by itself; there is no timer to
tune. Stamps are given under the same lock under which a batch is taken. So every event of a batch is younger than
every event of the batches before it, over all runs of this process: readers may use time as a cursor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, StorageFull, StoreError, StoreUnavailable
from holdfast.journal.chunk import Chunk
from holdfast.journal.pages import Pages
from holdfast.journal.tail import Tails
from holdfast.journal.writer import Taken, Writer, is_end
from holdfast.model import Run
from holdfast.store.base import Append, Outcome, PutInbox, Started, StartRun, Store, Write

# The API that uses time as its cursor puts a frame between two events: hence two, not one.
STAMP_STEP_MICROSECONDS = 2

log = structlog.get_logger(__name__)


class Journal:
    """The journals of all runs that this process writes, and the tails of those that it shows."""

    def __init__(self, store: Store, clock: Clock, *, last_timestamp: int = 0, retry_seconds: float = 1.0) -> None:
        self.store = store
        self.tails = Tails()
        self.pages = Pages()
        self.rollbacks = 0  # how often history was rolled back under this process
        self.lock = threading.Lock()  # around stamps, pending events, and the taking of a batch
        self._clock = clock
        self._last = last_timestamp
        self.events_committed = 0  # by this process, since its start
        self._floor = last_timestamp  # everything stamped up to here is committed
        self._is_committing = False
        self._retry_seconds = retry_seconds
        self._dirty: list[Writer] = []
        self._submitted: list[tuple[Write, asyncio.Future[Outcome]]] = []
        self._wake = asyncio.Event()
        self._is_awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.on_failure: Callable[[], None] | None = None
        self.on_notable: Callable[[], None] | None = None  # called when events were committed that outbox rows go with
        self.is_full = False  # the disk is full: running runs wait, and no new ones are taken

    async def start(self) -> None:
        """Begin to commit, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.store.on_rolled_back(self._roll_back)
        self._task = asyncio.create_task(self._commit_forever(), name="committer")
        self.guard(self._task)

    async def stop(self) -> None:
        """Commit what is pending, then end. Nothing may be written any more."""
        self._is_stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def _roll_back(self) -> None:
        """Another database stands in the place of the one that was read: what is in memory may never have happened."""
        self.rollbacks += 1
        self.pages.clear()
        self.tails.void()

    def guard(self, task: asyncio.Task[None]) -> None:
        """
        Tell `on_failure` when a task breaks that this process cannot do without: one that commits, renews leases, or
        sees what others write. Without it, runs and readers would wait for ever, and nobody would know why.
        """
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.critical("task_broke", task=task.get_name(), exc_info=task.exception())
        if self.on_failure is not None:
            self.on_failure()

    # Writing

    def open_writer(self, run: Run, make: Callable[[Journal, Run], Writer] = Writer) -> Writer:
        """The writer of a run whose lease this process holds; it stamps behind what others wrote of the run."""
        self.raise_floor(run.last_timestamp)
        return make(self, run)

    async def submit(self, build: Callable[[Callable[[], int]], Write]) -> Outcome:
        """
        Commit one write that no writer owns: a new run, or a fact from outside.

        `build` is called with the function that gives stamps, and returns the write; the order of stamps is that
        of commits. What the store made of it is returned; a refusal is raised.

        Raises:
            StorageFull: nothing was written.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        with self.lock:
            if self.is_full:
                raise StorageFull("the disk is full; nothing was written")
            self._submitted.append((build(self.stamp), future))
        self._notify()
        outcome = await future
        if isinstance(outcome, HoldfastError):
            raise outcome
        return outcome

    def stamp(self) -> int:
        """The next timestamp, in microseconds; strictly grows. Called with the lock held."""
        now = self._clock.now()
        last = self._last + STAMP_STEP_MICROSECONDS
        self._last = now = max(last, now)
        return now

    def floor(self) -> int:
        """No event will be committed any more that is stamped at or before this. Grows while nothing is pending."""
        with self.lock:
            if not (self._dirty or self._submitted or self._is_committing):
                self._last = self._floor = max(self._last, self._clock.now())
            return self._floor

    def raise_floor(self, floor: int) -> None:
        """Stamp only behind this from now on: readers by time may have been shown everything up to there."""
        with self.lock:
            self._last = max(self._last, floor)

    def note(self, writer: Writer) -> None:
        """A writer has something pending. Called with the lock held, from any thread."""
        self._dirty.append(writer)
        self._notify()

    def _notify(self) -> None:
        if self._is_awake:
            return
        self._is_awake = True
        if threading.get_ident() == self._thread:
            self._wake.set()
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    # Committing

    async def _commit_forever(self) -> None:
        while True:
            await self._wake.wait()
            with self.lock:
                self._wake.clear()
                self._is_awake = False
                writers, self._dirty = self._dirty, []
                submitted, self._submitted = self._submitted, []
                taken = [writer.take() for writer in writers]
                newest = self._last
                self._is_committing = bool(taken or submitted)
            if taken or submitted:
                await self._commit(writers, taken, submitted)
                with self.lock:
                    self._floor = newest
                    self._is_committing = False
            elif self._is_stopping:
                return
            if self._is_stopping:
                self._wake.set()

    async def _commit(
        self,
        writers: Sequence[Writer],
        taken: Sequence[Taken],
        submitted: Sequence[tuple[Write, asyncio.Future[Outcome]]],
    ) -> None:
        writes: list[Write] = [item.write for item in taken]
        writes += [write for write, _ in submitted]
        try:
            outcomes = await self.store.commit(writes)
        except StoreError as error:
            self._refuse(submitted, error)
            if not writers:
                return
            outcomes = await self._commit_until_done(writes[: len(taken)], error)
            submitted = ()
        except BaseException as error:
            self._fail(writers, submitted, error)
            raise
        self._publish(writers, taken, submitted, outcomes)

    async def _commit_until_done(self, writes: Sequence[Write], error: StoreError) -> list[Outcome]:
        """Keep trying: nothing of running runs may be lost, and meanwhile they wait in `append`."""
        while True:
            self.is_full = isinstance(error, StorageFull)
            if not isinstance(error, StorageFull | StoreUnavailable):
                return [error] * len(writes)
            log.warning("journal_waits", reason=error.code, message=str(error), runs=len(writes))
            await asyncio.sleep(self._retry_seconds)
            try:
                outcomes = await self.store.commit(writes)
            except StoreError as again:
                error = again
                continue
            self.is_full = False
            return outcomes

    def _publish(
        self,
        writers: Sequence[Writer],
        taken: Sequence[Taken],
        submitted: Sequence[tuple[Write, asyncio.Future[Outcome]]],
        outcomes: Sequence[Outcome],
    ) -> None:
        """Everything below is on disk: show it, then tell those who wait."""
        for writer, item, outcome in zip(writers, taken, outcomes, strict=False):
            if isinstance(outcome, HoldfastError):
                writer.lose(outcome)
                continue
            if item.chunk is not None:
                self.events_committed += len(item.chunk.lines)
                self.tails.publish(writer.number, writer.tenant, item.chunk, finished=is_end(item.chunk))
            writer.done()
        for (write, future), outcome in zip(submitted, outcomes[len(taken) :], strict=True):
            if not isinstance(outcome, HoldfastError):
                self._publish_submitted(write, outcome)
            if not future.done():
                future.set_result(outcome)
        if self.on_notable is not None and (
            any(item.write.outbox for item in taken)
            or any(not isinstance(write, PutInbox) and write.outbox for write, _ in submitted)
        ):
            self.on_notable()

    def _publish_submitted(self, write: Write, outcome: Outcome) -> None:
        if isinstance(write, StartRun) and isinstance(outcome, Started) and not outcome.replayed:
            run, chunk = outcome.run, _chunk(write.segment)
            self.events_committed += len(chunk.lines)
            if run.is_leased:  # it executes here, and its end releases the tail
                self.tails.open(run.number, -1, finished=False, is_current=True).hold(chunk)
            self.tails.publish(run.number, run.tenant, chunk, finished=False)
        elif isinstance(write, Append) and write.segment is not None:
            chunk = _chunk(write.segment)
            self.events_committed += len(chunk.lines)
            # Whose tenant it is, the write does not say; listeners ask the store anyway.
            self.tails.publish(write.number, "", chunk, finished=is_end(chunk))
        elif isinstance(write, PutInbox):
            pass  # the owner shows it, when it has written it into the journal

    def _refuse(self, submitted: Sequence[tuple[Write, asyncio.Future[Outcome]]], error: StoreError) -> None:
        for _, future in submitted:
            if not future.done():
                future.set_exception(error)

    def _fail(self, writers: Sequence[Writer], submitted: Sequence[Any], error: BaseException) -> None:
        """The committer itself broke: nobody may wait for it for ever."""
        lost = StoreUnavailable(f"the committer ended: {type(error).__name__}: {error}")
        for writer in writers:
            writer.lose(lost)
        self._refuse(submitted, lost)


def _chunk(segment: Any) -> Chunk:
    lines = segment.body.decode().split("\n")
    lines.pop()
    return Chunk(segment.first, lines, len(segment.body))
