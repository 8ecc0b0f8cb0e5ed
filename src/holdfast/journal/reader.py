"""
One reader's cursor into one run's journal: replay, then live, without a hole or a repeat in between.

The reader subscribes to the tail before it looks at the store, so an event that is committed between the two is seen
either way. It holds no queue: what it has not taken waits in the shared tail or in the store.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final

from holdfast.errors import JournalCorrupt, StoreUnavailable
from holdfast.journal.chunk import Chunk, check_chain, chunk_of
from holdfast.journal.journal import Journal
from holdfast.model import Run

# One read fills a few network writes: readers get it in pieces, and what is left of it waits in `pages`, for all.
PAGE_BYTES_MAX = 128 * 1024

# Between two tries to read a store that does not answer; each of them goes on trying for some seconds itself.
RETRY_SECONDS = 1.0


class Signal(Enum):
    """What a reader gets instead of events."""

    WOKEN = "woken"  # somebody called `wake`: look at what changed, then ask again
    END = "end"  # the journal is finished and read to its end
    ROLLED_BACK = "rolled_back"  # what was read may not have happened: nothing more comes, the run has to be read again
    GAP = "gap"  # the events behind the old cursor were pruned; the next call goes on behind the new one


WOKEN: Final = Signal.WOKEN
END: Final = Signal.END
GAP: Final = Signal.GAP
ROLLED_BACK: Final = Signal.ROLLED_BACK


class Reader:
    """
    Follows the run from behind `after` (-1: from the start).

    `next` gives chunks in order until the end of a finished journal. Close it when it is not needed any more.
    """

    __slots__ = ("_is_woken", "_journal", "_primed", "_proved", "_run", "_tail", "_waiter", "cursor")

    def __init__(self, journal: Journal, run: Run, *, after: int) -> None:
        self.cursor = after
        self._journal = journal
        self._run = run
        self._tail = journal.tails.open(run.number, run.tail_sequence, finished=run.status.is_final)
        self._waiter: asyncio.Future[None] | None = None
        self._is_woken = False
        self._primed: tuple[Chunk | Signal, int] | None = None  # what was read ahead, and the cursor behind it
        self._proved: tuple[int, bytes] | None = None  # the last event that was read from the store, and the hash there
        self._tail.add(self._on_change)

    @property
    def tail_sequence(self) -> int:
        """The newest committed sequence, as far as this process knows."""
        return self._tail.last

    @property
    def is_finished(self) -> bool:
        """Nothing follows `tail_sequence`."""
        return self._tail.finished

    @property
    def is_void(self) -> bool:
        """History was rolled back since the run was read."""
        return self._tail.is_void

    def take(self) -> Chunk | None:
        """The next events, if they are in memory."""
        chunk = self._tail.after(self.cursor)
        if chunk is not None:
            self.cursor = chunk.last
        return chunk

    async def prime(self) -> None:
        """
        Read what `next` gives first, if it is stored: so that whoever asks for a damaged journal is told at once.

        Raises:
            JournalCorrupt, StoreUnavailable
        """
        before = self.cursor
        if before < self._tail.last and self._tail.after(before) is None:
            found = await self._load()
            self._primed = (found, self.cursor)
            self.cursor = before

    async def next(self) -> Chunk | Signal:
        """
        The next events; waits for them if need be, also where the store cannot be read now. Cancelling it loses
        nothing.

        Raises:
            JournalCorrupt: the store does not hold what it should.
        """
        while True:
            if self._tail.is_void:
                return ROLLED_BACK
            if self._is_woken:
                self._is_woken = False
                return WOKEN
            if self._primed is not None:
                found, self.cursor = self._primed
                self._primed = None
                return found
            try:
                if self.cursor < self._tail.last:
                    chunk = self.take()
                    return chunk if chunk is not None else await self._load()
                if self._tail.finished:
                    return END
                if not self._tail.is_current:
                    await self._look()
                    continue
            except StoreUnavailable:
                # Whoever is here stays, and is shown what there is when the store is back.
                await self._wait(RETRY_SECONDS)
                continue
            await self._wait()

    async def _wait(self, seconds: float | None = None) -> None:
        """Until something changes, or for so long."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._on_change)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Let the pending, or else the next, call of `next` return WOKEN."""
        self._is_woken = True
        self._on_change()

    def close(self) -> None:
        """Leave the tail."""
        self._tail.remove(self._on_change)
        self._journal.tails.release(self._tail)

    async def _look(self) -> None:
        """
        Ask the store how far the journal goes, now that this reader has subscribed.

        The run's row was read before that. What was committed in between (perhaps the end, after which nothing comes
        that would wake anybody) was shown to a tail that did not exist yet.
        """
        found = await self._journal.store.tails([self._run.number])
        self._tail.is_current = True
        last, status = found.get(self._run.number, (self._tail.last, self._run.status))
        if last < self._run.tail_sequence:
            self._tail.void()  # the row was read before a rollback, this after it
            return
        self._tail.observe(last, finished=status.is_final)

    async def _load(self) -> Chunk | Signal:
        try:
            chunk = await self._journal.pages.get(self._run.number, self.cursor + 1, self._load_page)
        except JournalCorrupt:
            if self._tail.is_void:
                return ROLLED_BACK
            raise
        if self._tail.is_void:
            return ROLLED_BACK
        if chunk.first > self.cursor + 1:
            self.cursor = chunk.first - 1
            return GAP
        self.cursor = chunk.last
        return chunk

    async def _load_page(self) -> Chunk:
        after, run = self.cursor, self._run
        segments = await self._journal.store.segments(run.number, after=after, bytes_max=PAGE_BYTES_MAX)
        if segments:
            check_chain(run.run_id, segments, await self._hash_before(segments[0].first))
            self._proved = (segments[-1].last, segments[-1].hash)
            return chunk_of(segments, after)
        raise JournalCorrupt(
            f"run {self._run.run_id}: the store has no event behind {self.cursor}, "
            f"but the journal goes to {self._tail.last}",
            first_bad_sequence=self.cursor + 1,
        )

    async def _hash_before(self, first: int) -> bytes | None:
        """The hash of the segment before the one that begins with `first`; None if it is gone."""
        if self._proved is not None and self._proved[0] == first - 1:
            return self._proved[1]
        if first == self._run.first_sequence:
            return self._run.prior_hash
        before = await self._journal.store.segments(self._run.number, after=first - 2, bytes_max=1)
        return before[0].hash if before and before[0].last == first - 1 else None

    def _on_change(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
