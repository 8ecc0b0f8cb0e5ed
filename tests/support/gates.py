"""A store whose calls pass when the test lets them: the order of two tasks is given by gates, never by sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from holdfast.store.base import Outcome, Store, Write


class GatedStore:
    """
    Passes every call on to a store. While `commits` is clear, commits wait; `held` tells that one does.

    After `die`, no commit reaches the store any more: what it did not have by then was lost with the process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.commits = asyncio.Event()
        self.commits.set()
        self.held = asyncio.Event()
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def hold(self) -> None:
        """Let no further commit through."""
        self.held.clear()
        self.commits.clear()

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if not self.commits.is_set():
            self.held.set()
            await self.commits.wait()
        if self.is_dead:
            await asyncio.Event().wait()
        return await self._store.commit(writes)

    def die(self) -> None:
        """The process is gone, as far as the store can tell."""
        self.is_dead = True
        self.commits.set()
