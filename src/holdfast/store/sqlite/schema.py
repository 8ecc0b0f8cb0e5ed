"""
The database file: whether it is ours, how old its schema is, and what opening it changes.

What cannot be used is found out before anything is written, over a connection that cannot write.
"""

from __future__ import annotations

import secrets
import uuid
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.errors import StoreRefused, StoreTooNew
from holdfast.store.base import SCHEMA_VERSION, SchemaStatus
from holdfast.store.copy import UNFINISHED
from holdfast.store.sql import migrations, statements
from holdfast.store.sqlite.connection import Connection, connect_reader, create, pragma, translated
from holdfast.store.sqlite.place import Place, sync_directory
from holdfast.store.sqlite.rows import json_text, rollbacks_of

APPLICATION_ID: Final = 0x484C4446  # "HLDF", in the file's header
MAGIC: Final = b"SQLite format 3\x00"

# A restored store goes on far behind every number that it may have given out and forgotten.
NUMBERS_SKIPPED: Final = 1_000_000


class Opened(msgspec.Struct, frozen=True):
    """What was found at opening."""

    store_id: str
    last_timestamp: int
    last_number: int
    span_max: int
    restored: bool
    secret: str


def prepare(place: Place) -> None:
    """
    Make sure that there is a database file that this version can open.

    Raises:
        StoreTooNew: a newer version wrote it.
        StoreRefused: it is no database, or not ours.
    """
    path = place.database
    if not path.exists():
        _make(path)
        return
    header = _read(path, 100)
    if header[:16] != MAGIC or int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreRefused(f"{path} is not a store of Holdfast; choose another directory, or move the file away")
    version = int.from_bytes(header[60:64], "big")
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # After a crash the header may be younger in the log than in the file.
        with translated(path):
            connection = connect_reader(path)
            try:
                version = pragma(connection, "user_version")
            finally:
                connection.close()
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer version of Holdfast: its schema is {version}, this one knows "
            f"{SCHEMA_VERSION}; install that version, or restore a backup made before the update",
            found=version,
            known=SCHEMA_VERSION,
        )


def status(directory: Path) -> SchemaStatus:
    """
    How far the schema of the store in a directory is, and what lies in it. Nothing is changed; a server may run on it.

    Raises:
        StoreTooNew, StoreRefused
    """
    path = Place(directory).database
    if not path.exists():
        return SchemaStatus(0, SCHEMA_VERSION, _pending(0))
    prepare(Place(directory))
    with translated(path):
        connection = connect_reader(path)
        try:
            found = pragma(connection, "user_version")
            counts = connection.execute(statements("sqlite", "upkeep")["count_runs"]).fetchall()
            runs = {str(name): int(str(count)) for name, count in counts}
            return SchemaStatus(found, SCHEMA_VERSION, _pending(found), str(get_meta(connection, "store_id")), runs)
        finally:
            connection.close()


def _pending(found: int) -> tuple[str, ...]:
    return tuple(f"{item.version:04}_{item.name}" for item in migrations("sqlite") if item.version > found)


def migrate(connection: Connection) -> None:
    """Bring the schema up to this version, each step in its own transaction."""
    found = pragma(connection, "user_version")
    for migration in migrations("sqlite"):
        if migration.version > found:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(migration.text)
                pragma(connection, f"user_version = {migration.version}")
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise


def take_over(connection: Connection, place: Place, now: int) -> Opened:
    """
    Make the store this process's own: all leases have run out, and a restored backup is noticed.

    A backup that was put in the place of its store lacks events that readers have seen, and will write others under
    their numbers. So every journal gets a new epoch, and new runs get numbers that were never given out.
    """
    sql = statements("sqlite", "upkeep")
    if get_meta(connection, "is_unfinished"):
        raise StoreRefused(f"{place.directory}: {UNFINISHED}")
    store_id = str(get_meta(connection, "store_id"))
    span_max = int(get_meta(connection, "span_max") or 0)
    newest = connection.execute(sql["newest_timestamp"], {"span_max": span_max}).get
    newest = max(newest, int(get_meta(connection, "last_timestamp") or 0))
    known = place.newest(store_id)
    restored = newest < known or bool(get_meta(connection, "is_restored"))
    number = max(connection.execute(sql["newest_number"]).get, int(get_meta(connection, "last_number") or 0))
    secret = str(get_meta(connection, "secret") or secrets.token_hex(32))
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(sql["expire_leases"])
        connection.execute(sql["untake_deliveries"])
        set_meta(connection, "secret", secret)
        if restored:
            connection.execute(sql["next_epoch"])
            number += NUMBERS_SKIPPED
            rollbacks = rollbacks_of(get_meta(connection, "rollbacks"))
            set_meta(connection, "rollbacks", json_text([*rollbacks, (newest, max(newest, known, now))]))
            newest = max(newest, known)
            set_meta(connection, "last_number", number)
            set_meta(connection, "last_timestamp", newest)
            set_meta(connection, "is_restored", 0)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    place.note_newest(store_id, newest)
    return Opened(store_id, newest, number, span_max, restored, secret)


def add_procedures(connection: Connection) -> None:
    """Give the writing connection its procedures."""
    connection.execute(files("holdfast.store.sql").joinpath("sqlite/procedures.sql").read_text("utf-8"))


def get_meta(connection: Connection, key: str) -> Any:
    return connection.execute(statements("sqlite", "reads")["meta"], (key,)).get


def set_meta(connection: Connection, key: str, value: Any) -> None:
    connection.execute(statements("sqlite", "writes")["set_meta"], (key, value))


def _make(path: Path) -> None:
    """A new store, complete or not there at all: a crash in between leaves a file that the next try replaces."""
    new = path.with_suffix(".new")
    for leftover in (new, Path(f"{new}-journal"), Path(f"{new}-wal"), Path(f"{new}-shm")):
        leftover.unlink(missing_ok=True)
    with translated(path):
        connection = create(new)
        try:
            # From the first page on: turning it on later goes through a rollback journal, and a process that died
            # over that would leave a file which the look of `prepare`, who may not write, cannot open.
            pragma(connection, "journal_mode = WAL")
            pragma(connection, f"application_id = {APPLICATION_ID}")
            migrate(connection)
            set_meta(connection, "store_id", str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)))
        finally:
            connection.close()
    new.replace(path)
    sync_directory(path.parent)


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise StoreRefused(f"{path} cannot be read: {error.strerror}") from error
