"""
Connections to the database file, and the driver's errors as ours. The only module that knows apsw.

The writing connection syncs its write-ahead log at every commit (`synchronous=FULL`), and it is asked afterwards
whether it really does: a setting that silently did not hold would turn every promise of ours into a hope.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from holdfast.errors import HoldfastError, JournalCorrupt, StorageFull, StoreRefused, StoreUnavailable

Connection = apsw.Connection
ConstraintError = apsw.ConstraintError
DriverError = apsw.Error

SYNCHRONOUS: Final = "FULL"
SYNCHRONOUS_READ_BACK: Final = 2

# Kilobytes. Pages of the hot tables fit; big reads go through the kernel's cache anyway.
WRITER_CACHE_KIB: Final = 8192
READER_CACHE_KIB: Final = 1024

_BROKEN: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
)

# One statement for each number of rows that is written at once.
WRITER_STATEMENTS: Final = 250


def connect_writer(path: Path) -> Connection:
    """
    The one connection that writes.

    Raises:
        StoreRefused: the file system or the library does not give what durability needs.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=WRITER_STATEMENTS)
    try:
        # Readers never block us; only the moment in which another connection of ours opens or closes does.
        connection.set_busy_timeout(1000)
        mode = pragma(connection, "journal_mode = WAL")
        if mode != "wal":
            raise StoreRefused(f"{path}: expected the journal mode wal, SQLite gave {mode}")
        pragma(connection, f"synchronous = {SYNCHRONOUS}")
        level = pragma(connection, "synchronous")
        if level != SYNCHRONOUS_READ_BACK:
            raise StoreRefused(f"{path}: expected synchronous=FULL ({SYNCHRONOUS_READ_BACK}), SQLite gave {level}")
        pragma(connection, "fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
        pragma(connection, "checkpoint_fullfsync = ON")
        pragma(connection, "temp_store = MEMORY")
        pragma(connection, f"cache_size = -{WRITER_CACHE_KIB}")
        pragma(connection, "wal_autocheckpoint = 0")  # the writer chooses the moment
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> Connection:
    """A connection that cannot write."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    pragma(connection, f"cache_size = -{READER_CACHE_KIB}")
    pragma(connection, "temp_store = MEMORY")
    return connection


def create(path: Path) -> Connection:
    """A new, empty database file, readable by nobody else."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


def pragma(connection: Connection, text: str) -> Any:
    return connection.execute(f"PRAGMA {text}").get


def checkpoint(connection: Connection) -> int:
    """Copy what can be copied from the log into the file, without waiting; the frames that are left come back."""
    total, done = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return total - done


def pages_written(connection: Connection) -> int:
    """How many pages this connection has written since it was opened."""
    return connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]


def copy(source: Connection, target: Path) -> None:
    """SQLite's online backup: a consistent copy, in steps, so that nobody waits long for the disk."""
    connection = create(target)
    try:
        with connection.backup("main", source, "main") as backup:
            # All in one step: a step that finds the source changed would begin again, and with steps that could
            # go on for ever. The source is a reader's snapshot, so nobody waits for it.
            backup.step(-1)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()


def is_broken(error: BaseException) -> bool:
    """Whether this tells of the disk or the file, and not of what was to be written."""
    return isinstance(error, _BROKEN)


def translate(error: DriverError, path: Path) -> HoldfastError:
    """The driver's error as one of ours."""
    if isinstance(error, apsw.FullError):
        return StorageFull(f"{path.parent}: the disk is full; nothing was written")
    if isinstance(error, apsw.IOError):
        # A sync that fails for want of space is an I/O error to SQLite.
        if free_bytes(path.parent) < 1 << 20:
            return StorageFull(f"{path.parent}: the disk is full; nothing was written")
        return StoreUnavailable(f"{path}: {error}")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return JournalCorrupt(f"{path}: {error}; restore a backup")
    return StoreUnavailable(f"{path}: {error}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Let no error of the driver through."""
    try:
        yield
    except DriverError as error:
        raise translate(error, path) from error


def free_bytes(directory: Path) -> int:
    """What the file system of a directory has left for us."""
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize
