"""The backends that the suite runs on, and what it needs of one beyond the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from holdfast.clock import HeldClock
from holdfast.store.base import Store
from holdfast.store.postgres import PostgresStore
from holdfast.store.sqlite import SQLiteStore
from tests.support.postgres import PostgresServer


class Backend(Protocol):
    """A store that a test may close and open again, and whose lease clock it holds."""

    store: Store
    is_embedded: bool  # belongs to one process, so that all others are dead when it opens

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def another(self) -> Store:
        """The store as one more process has it; closed with the backend. An embedded one has no other process."""
        ...

    async def let_pass(self, seconds: float) -> None:
        """Let time pass on the clock by which leases are measured."""
        ...

    async def remove(self) -> None:
        """Leave nothing behind."""
        ...


class SQLiteBackend:
    """The embedded store in a directory."""

    is_embedded = True

    def __init__(self, directory: Path, clock: HeldClock) -> None:
        self.directory, self.clock = directory, clock
        self.store: Store = SQLiteStore(directory, clock=clock)

    async def open(self) -> None:
        self.store = SQLiteStore(self.directory, clock=self.clock)
        await self.store.open()

    async def close(self) -> None:
        await self.store.close()

    async def another(self) -> Store:
        return self.store

    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def remove(self) -> None:
        pass


class PostgresBackend:
    """The scale-out store in a database of its own. Its lease clock is a function, and here one that stands still."""

    is_embedded = False

    def __init__(self, server: PostgresServer, clock: HeldClock) -> None:
        self.server, self.clock = server, clock
        self.database = ""
        self.store: Store = PostgresStore(server.url(), clock=clock)
        self._passed = 1_795_219_159.0
        self._others: list[Store] = []

    async def open(self) -> None:
        if not self.database:
            self.database = await self.server.make_database()
            await self.let_pass(0)
        self.store = PostgresStore(self.server.url(self.database), clock=self.clock)
        await self.store.open()

    async def close(self) -> None:
        others, self._others = self._others, []
        for store in (self.store, *others):
            await store.close()

    async def another(self) -> Store:
        store = PostgresStore(self.server.url(self.database), clock=self.clock)
        await store.open()
        self._others.append(store)
        return store

    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._passed += seconds
        await self.server.hold_lease_clock(self.database, self._passed)

    async def remove(self) -> None:
        await self.server.give_back(self.database)


BACKENDS = ("sqlite", "postgres")
"""Each test of this directory runs once on every backend."""
