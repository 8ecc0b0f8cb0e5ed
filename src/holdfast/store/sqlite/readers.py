"""
The reading threads: a few, each with a connection that cannot write, made when they are first needed.

A big read takes one of them and nothing else. A statement sees all finished commits; a query of
several statements holds its state with `one_state`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from holdfast.errors import StoreUnavailable
from holdfast.store.sqlite.connection import Connection, connect_reader, translated

READERS_MAX: Final = 4

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def one_state(connection: Connection) -> Iterator[None]:
    """Let all statements inside see the same state of the store."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


class Readers:
    """A pool of reading threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="holdfast-reader")
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._is_closed = False

    async def read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query."""

        def work() -> T:
            with translated(self._path):
                return query(self._connection(), *args, **kwargs)

        return await self.run(work)

    async def run(self, work: Callable[[], T]) -> T:
        """Run something that blocks."""
        if self._is_closed:
            raise StoreUnavailable(f"{self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        """Let running reads end, and close."""
        self._is_closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect_reader(self._path)
            self._connections.append(connection)
        return connection
