"""
What the other processes of a shared store mean to this one: events to show, facts to write, runs to take.

Hints come as notices and may be lost; so everything is also looked at once a second, in one query of each kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from holdfast.errors import StoreError
from holdfast.execution.worker import Worker
from holdfast.journal import Journal, Watcher
from holdfast.store.base import Notice

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0


class Neighbours:
    """Listens and looks, from `start` to `stop`."""

    def __init__(self, journal: Journal, worker: Worker, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._journal = journal
        self._store = journal.store
        self._worker = worker
        self._poll_seconds = poll_seconds
        self._watcher = Watcher(
            journal, is_ours=lambda number: worker.execution(number) is not None, poll_seconds=poll_seconds
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._watcher.start()
        self._tasks = [
            asyncio.create_task(self._store.notices(self.hear), name="notices"),
            asyncio.create_task(self._look_forever(), name="inbox"),
        ]
        for task in self._tasks:
            self._journal.guard(task)

    async def stop(self) -> None:
        await self._watcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hear(self, notice: Notice) -> None:
        """Look where a notice points."""
        if notice.journals or notice.everything:
            self._watcher.hint()
        if notice.queued or notice.everything:
            self._worker.wake()
        mine = self._worker.held if notice.everything else [n for n in notice.inbox if self._worker.execution(n)]
        if mine:
            self._worker.spawn(self._look(self._worker.look_at_inbox(mine)))

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self._look(self._worker.look_at_inbox(self._worker.held))

    async def _look(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except StoreError as error:
            log.warning("inbox_not_read", reason=error.code, message=str(error))
