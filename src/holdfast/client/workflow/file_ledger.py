"""
A ledger in a file, shared by the processes of a machine.

    <path>            an SQLite database: one row for each call, one for each webhook event
    <path>-owners/    one empty file for each process that has the ledger open, locked by it

A row names its owner. An owner is alive as long as its file is locked: the system lets go of the lock with the process,
however that ends, and unlike a process id it is never given to another one. The database is in rollback-journal mode
with full synchronisation, so that what a method stored survives the loss of power.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from holdfast.client.workflow.ledger import Beginning, Begun, CallKey
from holdfast.client.workflow.tools import Answer

# A call waits for at most 30 days, an event is delivered for as long.
KEPT_SECONDS: Final = 31 * 24 * 3600
# Others hold the database for the time of one small transaction.
BUSY_SECONDS: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS calls (
    task_id INTEGER NOT NULL, call_id TEXT NOT NULL,
    owner TEXT,   -- who is at it, or was; NULL: it was given back
    answer TEXT,  -- JSON; NULL: there is none yet
    at REAL NOT NULL, PRIMARY KEY (task_id, call_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    body BLOB,    -- NULL: nothing is left to do
    at REAL NOT NULL
);
"""
_Result = TypeVar("_Result")


class FileLedger:
    """
    A ledger that survives its process and is shared by all processes of a machine that name the same path.

    The path must be on a local disk, and the system a POSIX one. It may be used from any event loop; calls run in one
    thread of its own, in their order. A forked process is another owner, from its first call on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._begin_anew()
        _ledgers.add(self)

    def _begin_anew(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="holdfast-ledger")
        self._owner = uuid.uuid4().hex
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None

    def forget(self) -> None:
        """
        In a process that was forked: what was open is the parent's. With our copy of its lock it would seem to live for as
        long as we do; its database must not even be closed here.
        """
        if self._lock is not None:
            os.close(self._lock)
        if self._database is not None:
            _of_parents.append(self._database)
        self._begin_anew()

    async def begin(self, key: CallKey) -> Begun:
        return await self._do(lambda: self._begin(key))

    async def finish(self, key: CallKey, answer: Answer) -> None:
        text = json.dumps({"output": answer.output, "errored": answer.errored})
        await self._do(
            lambda: self._write(
                "INSERT INTO calls (task_id, call_id, owner, answer, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET answer = excluded.answer",
                *key, self._owner, text, time.time(),
            )
        )  # fmt: skip

    async def abandon(self, key: CallKey) -> None:
        await self._do(
            lambda: self._write(
                "UPDATE calls SET owner = NULL WHERE task_id = ? AND call_id = ? AND owner = ? AND answer IS NULL",
                *key, self._owner,
            )
        )  # fmt: skip

    async def answer(self, key: CallKey) -> Answer | None:
        def read() -> Answer | None:
            row = self._open().execute("SELECT answer FROM calls WHERE task_id = ? AND call_id = ?", key).fetchone()
            return None if row is None or row[0] is None else _answer(key, row[0])

        return await self._do(read)

    async def add_event(self, event_id: str, body: bytes) -> bool:
        return await self._do(
            lambda: self._write(
                "INSERT OR IGNORE INTO events (event_id, owner, body, at) VALUES (?, ?, ?, ?)",
                event_id, self._owner, body, time.time(),
            )
            == 1
        )  # fmt: skip

    async def finish_event(self, event_id: str) -> None:
        await self._do(lambda: self._write("UPDATE events SET body = NULL WHERE event_id = ?", event_id))

    async def take_events(self) -> list[tuple[str, bytes]]:
        return await self._do(self._take_events)

    async def aclose(self) -> None:
        """Close the file. What was begun here and has no answer counts as left by a process that is gone."""
        await self._do(self._close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], _Result]) -> _Result:
        # Shielded: what was handed to the thread happens, also if nobody waits for it any more.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    # Below runs in the thread

    def _begin(self, key: CallKey) -> Begun:
        with self._transaction() as database:
            row = database.execute("SELECT owner, answer FROM calls WHERE task_id = ? AND call_id = ?", key).fetchone()
            if row is None:
                database.execute(
                    "INSERT INTO calls (task_id, call_id, owner, at) VALUES (?, ?, ?, ?)",
                    (*key, self._owner, time.time()),
                )
                return Begun(Beginning.FRESH)
            owner, text = row
            if text is not None:
                return Begun(Beginning.DONE, _answer(key, text))
            if owner is not None and self._is_alive(owner):
                return Begun(Beginning.BUSY)
            database.execute("UPDATE calls SET owner = ? WHERE task_id = ? AND call_id = ?", (self._owner, *key))
            return Begun(Beginning.AGAIN)

    def _take_events(self) -> list[tuple[str, bytes]]:
        with self._transaction() as database:
            rows = database.execute(
                "SELECT event_id, owner, body FROM events WHERE body IS NOT NULL ORDER BY id"
            ).fetchall()
            ours = {owner for _, owner, _ in rows if owner == self._owner or not self._is_alive(owner)}
            taken = [(event_id, body) for event_id, owner, body in rows if owner in ours]
            database.executemany(
                "UPDATE events SET owner = ? WHERE event_id = ?", [(self._owner, event_id) for event_id, _ in taken]
            )
            return taken

    def _write(self, statement: str, *values: object) -> int:
        return self._open().execute(statement, values).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._owners.mkdir(mode=0o700, exist_ok=True)
            self._sweep()
            if self._lock is None:  # it is held already where the file could not be opened the first time
                self._lock = self._locked(self._owners / self._owner)
            # 0600: outputs of tools are nobody else's business.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                database.execute("PRAGMA synchronous = FULL")
                database.executescript(_SCHEMA)
                old = time.time() - KEPT_SECONDS
                database.execute("DELETE FROM calls WHERE at < ?", (old,))
                database.execute("DELETE FROM events WHERE at < ?", (old,))
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            (self._owners / self._owner).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    # Who is alive

    @property
    def _owners(self) -> Path:
        return self._path.with_name(self._path.name + "-owners")

    def _locked(self, path: Path) -> int:
        """The open, locked file of this owner. Whoever sweeps between its making and its locking may remove it."""
        import fcntl

        while True:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def _is_alive(self, owner: str, *, sweep: bool = False) -> bool:
        """
        Whether this owner's file is locked. With `sweep`, the file of one that is gone is removed: under our lock, so that
        one who has made his file and not locked it yet finds out, and makes another.
        """
        import fcntl

        if owner == self._owner:
            return True
        try:
            descriptor = os.open(self._owners / owner, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who ask at once do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            if sweep:
                (self._owners / owner).unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove the files of owners that are gone."""
        for path in self._owners.iterdir():
            self._is_alive(path.name, sweep=True)


_ledgers: weakref.WeakSet[FileLedger] = weakref.WeakSet()
_of_parents: list[sqlite3.Connection] = []


def _forget_all() -> None:
    for ledger in list(_ledgers):
        ledger.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _answer(key: CallKey, text: str) -> Answer:
    stored = json.loads(text)
    return Answer(key[1], stored["output"], stored["errored"])
