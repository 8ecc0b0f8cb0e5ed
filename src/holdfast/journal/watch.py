"""
Seeing what other processes write to a shared store.

A notification is only a hint to look now; without any, the look comes once a second. So a lost one costs a second and
never an event. One query serves all runs that are followed here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from holdfast.errors import StoreError
from holdfast.journal.journal import Journal

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

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hint(self) -> None:
        """Something was committed somewhere."""
        self._hint.set()

    async def look(self) -> None:
        """
        Compare all tails that are followed here with the store.

        Raises:
            StoreUnavailable: nothing was seen; readers go on waiting.
        """
        tails = self._journal.tails
        followed = {
            tail.number: tail for tail in tails.followed() if tail.has_readers and not self._is_ours(tail.number)
        }
        if followed:
            for number, (last, status) in (await self._journal.store.tails(list(followed))).items():
                followed[number].observe(last, finished=status.is_final)
        tails.wake_listeners()

    async def _watch_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._hint.wait()
            # Cleared before looking: a hint that comes during the look is good for another one.
            self._hint.clear()
            try:
                await self.look()
            except StoreError as error:
                log.warning("watch_failed", reason=error.code, message=str(error))
