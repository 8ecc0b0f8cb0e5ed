"""The backends that the suite runs on, and what it needs of one beyond the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from holdfast.clock import HeldClock
from holdfast.store.base import Store
from holdfast.store.sqlite import SQLiteStore


class Backend(Protocol):
    """A store that a test may close and open again, and whose lease clock it holds."""

    store: Store

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def let_pass(self, seconds: float) -> None:
        """Let time pass on the clock by which leases are measured."""
        ...


class SQLiteBackend:
    """The embedded store in a directory."""

    def __init__(self, directory: Path, clock: HeldClock) -> None:
        self.directory, self.clock = directory, clock
        self.store: Store = SQLiteStore(directory, clock=clock)

    async def open(self) -> None:
        self.store = SQLiteStore(self.directory, clock=self.clock)
        await self.store.open()

    async def close(self) -> None:
        await self.store.close()

    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)


BACKENDS = {"sqlite": SQLiteBackend}
