"""
The writing thread: the only one that changes the database, over its only writing connection.

    commit() ──► queue ──► take all ──► one transaction ──► one sync ──► results to the event loops
    commit() ──►   │ fills while the one before is written

Whoever waits may be cancelled at any time: the write goes on, and nobody is told. Between transactions, when nothing
is queued, the thread copies the write-ahead log into the file, so that a commit seldom waits for that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

import structlog

from holdfast.errors import HoldfastError, StorageFull, StoreError, StoreUnavailable
from holdfast.store.base import Outcome, Write
from holdfast.store.sqlite import connection as driver
from holdfast.store.sqlite.connection import Connection, DriverError
from holdfast.store.sqlite.writes import Writes

log = structlog.get_logger(__name__)

# One transaction takes at most so many writes, so that the first of them does not wait for ever longer ones.
BATCH_MAX: Final = 1000

# In pages of 4 KiB. The log is copied from this size on when there is a pause, and at the latest at the second one.
CHECKPOINT_PAGES: Final = 1000
CHECKPOINT_PAGES_MAX: Final = 8000

Call: TypeAlias = Callable[[Connection], Any]


class Job:
    """Something to be written, and where its result is waited for."""

    __slots__ = ("call", "future", "loop", "result", "writes")

    def __init__(self, writes: Sequence[Write], call: Call | None) -> None:
        self.writes = writes
        self.call = call
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None


class Writer:
    """The thread and its queue."""

    def __init__(
        self, connection: Connection, writes: Writes, path: Path, *, newest: int, on_newest: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._writes = writes
        self._path = path
        self._on_newest = on_newest
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._is_closed = False
        self._checkpointed = driver.pages_written(connection)
        self._thread = threading.Thread(target=self._work, name="holdfast-writer", daemon=True)
        self.newest = newest  # the newest timestamp that is committed
        self.is_full = False  # the last commit found no space

    def start(self) -> None:
        self._thread.start()

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = await self._submit(Job(writes, None))
        return outcomes

    async def call(self, call: Call) -> Any:
        """Run `call` within a transaction. If it raises, nothing of it happened."""
        return await self._submit(Job((), call))

    async def close(self) -> None:
        """Carry out what is queued, and stop."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _submit(self, job: Job) -> Any:
        if self._is_closed:
            raise StoreUnavailable(f"{self._path} is closed")
        self._queue.put(job)
        return await job.future

    # In the thread.

    def _work(self) -> None:
        while (jobs := self._take()) is not None:
            if jobs:
                known = self.newest
                self._carry_out(jobs)
                _deliver(jobs)
                # Only now: nobody should wait for what nothing depends on.
                if self.newest > known:
                    self._on_newest(self.newest)
            self._checkpoint()

    def _take(self) -> list[Job] | None:
        """Wait for work, and take all there is; None at the end."""
        job = self._queue.get()
        if job is None:
            return None
        jobs = [job]
        size = len(job.writes)
        while size < BATCH_MAX:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                self._queue.put(None)  # the end comes after what is already here
                break
            jobs.append(job)
            size += len(job.writes)
        return jobs

    def _carry_out(self, jobs: Sequence[Job]) -> None:
        try:
            try:
                self._in_one(jobs)
            except Exception as error:
                # Whatever one write causes must not take the others along.
                self._undo()
                if driver.is_broken(error):
                    raise
                log.error("write_failed", error=repr(error), writes=sum(len(job.writes) for job in jobs))
                self._one_by_one(jobs)
            self.is_full = False
            self.newest = max(self.newest, self._writes.last_timestamp)
        except Exception as error:  # noqa: BLE001  the thread lives as long as the store, and everybody is told
            self._undo()
            for job in jobs:
                job.result = _as_ours(error, self._path)
                self.is_full = isinstance(job.result, StorageFull)

    def _in_one(self, jobs: Sequence[Job]) -> None:
        """All in one transaction, nothing in it prepared for an error of the driver."""
        writes = [write for job in jobs for write in job.writes]
        self._writes.begin()
        if self._writes.is_one_statement(writes) and all(job.call is None for job in jobs):
            _share_out(jobs, self._writes.carry_out(writes))
            return
        self._connection.execute("BEGIN IMMEDIATE")
        if writes:
            _share_out(jobs, self._writes.carry_out(writes))
        for job in jobs:
            if job.call is not None:
                try:
                    job.result = job.call(self._connection)
                except HoldfastError as refusal:  # raised before anything was written
                    job.result = refusal
        self._connection.execute("COMMIT")

    def _one_by_one(self, jobs: Sequence[Job]) -> None:
        """Still one transaction, but each write can be undone by itself."""
        self._writes.begin()
        self._connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            if job.call is None:
                job.result = [self._guarded(partial(self._carry_out_one, write)) for write in job.writes]
            else:
                job.result = self._guarded(partial(job.call, self._connection))
        self._connection.execute("COMMIT")

    def _carry_out_one(self, write: Write) -> Outcome:
        return self._writes.carry_out([write])[0]

    def _guarded(self, act: Callable[[], Any]) -> Any:
        self._connection.execute("SAVEPOINT one")
        newest = self._writes.last_timestamp
        try:
            result = act()
        except Exception as error:
            if driver.is_broken(error):
                raise
            self._connection.execute("ROLLBACK TO one")
            self._writes.last_timestamp = newest
            result = error if isinstance(error, HoldfastError) else StoreError(f"the write cannot be kept: {error}")
        self._connection.execute("RELEASE one")
        return result

    def _undo(self) -> None:
        self._writes.undo()
        if self._connection.in_transaction:
            with suppress(DriverError):  # some errors have rolled back already
                self._connection.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        written = driver.pages_written(self._connection) - self._checkpointed
        if written < CHECKPOINT_PAGES or (written < CHECKPOINT_PAGES_MAX and not self._queue.empty()):
            return
        self._checkpointed += written
        try:
            driver.checkpoint(self._connection)
        except DriverError as error:
            # The log keeps everything and grows; the next pause tries again.
            log.warning("checkpoint_failed", error=str(error))


def _share_out(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for job in jobs:
        if job.call is None:
            job.result = list(outcomes[start : start + len(job.writes)])
            start += len(job.writes)


def _as_ours(error: Exception, path: Path) -> Exception:
    if isinstance(error, DriverError):
        ours = driver.translate(error, path)
        ours.__cause__ = error
        return ours
    return error if isinstance(error, HoldfastError) else StoreUnavailable(f"{path}: {error!r}")


def _deliver(jobs: Sequence[Job]) -> None:
    """Hand the results to the event loops that wait for them, each woken once."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, some in loops.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, some)


def _settle(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if isinstance(job.result, Exception):
            job.future.set_exception(job.result)
        else:
            job.future.set_result(job.result)
