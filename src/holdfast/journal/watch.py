"""
Seeing what other processes write to a shared store.

A notification is only a hint to look now; without any, the look comes once a second. So a lost one costs a second and
never an event. One query brings what came to all runs that are followed here.

Where something came, more is likely: the next look is soon, hint or not, and then ever later while nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from holdfast.errors import JournalCorrupt, StoreError
from holdfast.journal.chunk import chunk_of
from holdfast.journal.journal import Journal
from holdfast.journal.tail import Tail
from holdfast.store.base import Growth

# Between two looks. What is followed shows up so much later at most, while something comes; and however many hints
# come, there are no more than a hundred looks a second.
PAUSE_SECONDS: Final = 0.01

# What one look brings at most. Readers of what is left out ask the store themselves.
GROWTH_BYTES_MAX: Final = 1 << 20

log = structlog.get_logger(__name__)


class Watcher:
    """Wakes the readers of this process for events that another one committed."""

    def __init__(self, journal: Journal, *, is_ours: Callable[[int], bool], poll_seconds: float = 1.0) -> None:
        self._journal = journal
        self._is_ours = is_ours  # runs that are executed here need no look: their events pass through this process
        self._poll_seconds = poll_seconds
        self._hint = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch_forever(), name="watcher")
        self._journal.guard(self._task)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hint(self) -> None:
        """Something was committed somewhere."""
        self._hint.set()

    async def look(self) -> bool:
        """
        Show what the store holds behind all tails that are followed here; whether there was anything.

        Raises:
            StoreUnavailable: nothing was seen; readers go on waiting.
        """
        tails = self._journal.tails
        followed = {
            tail.number: tail for tail in tails.followed() if tail.has_readers and not self._is_ours(tail.number)
        }
        found: Mapping[int, Growth] = {}
        if followed:
            after = {number: tail.last for number, tail in followed.items()}
            found = await self._journal.store.growth(after, bytes_max=GROWTH_BYTES_MAX)
            for number, growth in found.items():
                _show(followed[number], after[number], growth)
        tails.wake_listeners()
        return bool(found)

    async def _watch_forever(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._poll_seconds
        while True:
            began = loop.time()
            # Cleared before looking: a hint that comes during the look is good for another one.
            self._hint.clear()
            try:
                pause = PAUSE_SECONDS if await self.look() else min(pause * 2, self._poll_seconds)
            except StoreError as error:
                log.warning("watch_failed", reason=error.code, message=str(error))
                pause = self._poll_seconds
            await asyncio.sleep(began + PAUSE_SECONDS - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + pause):
                    await self._hint.wait()


def _show(tail: Tail, after: int, growth: Growth) -> None:
    if growth.segments:
        with contextlib.suppress(JournalCorrupt):  # who reads finds that too, and says so; the others go on
            chunk = chunk_of(growth.segments, after)
            tail.publish(chunk, finished=growth.is_over and chunk.last == growth.last)
            return
    tail.observe(growth.last, finished=growth.is_over)
