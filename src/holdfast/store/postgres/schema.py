"""
The database: whether it can keep what we promise, how old its schema is, and whether it is the one that it was.

What cannot be used is found out before anything is written. Migrations run in one transaction under an advisory lock,
so that of many processes that start at once one migrates and the others find it done.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import structlog

from holdfast.clock import Clock
from holdfast.errors import StoreRefused, StoreTooNew
from holdfast.store.base import SchemaStatus
from holdfast.store.copy import UNFINISHED
from holdfast.store.postgres.connection import (
    Backoff,
    Connection,
    Connector,
    DriverError,
    StandbyAnswers,
    is_forbidden,
    is_lost,
    is_pooler,
    translate_refusal,
)
from holdfast.store.postgres.rows import rollbacks_of
from holdfast.store.sql import migrations, statements

SQL: Final = statements("postgres", "upkeep")
READS: Final = statements("postgres", "reads")
CHANGES: Final = statements("postgres", "changes")

KNOWN_VERSION: Final = max(migration.version for migration in migrations("postgres"))

SERVER_VERSION_MIN: Final = 140000

# What has to be on, and what is lost without it.
NEEDED: Final = {
    "fsync": "a crash of its machine may lose or damage what was acknowledged",
    "synchronous_commit": "a crash of the server may lose what was acknowledged",
    "full_page_writes": "a crash of its machine may damage pages beyond repair",
}

# A restored store goes on far behind every number that it may have given out and forgotten.
NUMBERS_SKIPPED: Final = 1_000_000

# In the meta table while a copy fills the store.
UNFINISHED_KEY: Final = "is_unfinished"

# Migrations and a new epoch of every journal may take long, and are not repeated.
SLOW_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Opened(msgspec.Struct, frozen=True):
    """What was found at opening."""

    store_id: str
    newest: int
    notices: tuple[str, ...]
    secret: str


async def migrate(url: str, *, is_pooled: bool = False) -> SchemaStatus:
    """
    Bring the schema of a database up to this version; what had to be done comes back.

    Raises:
        StoreTooNew, StoreRefused, StoreUnavailable
    """
    return await _with_connection(Connector(url, is_pooled=is_pooled), 5.0, _migrate)


async def status(url: str, *, is_pooled: bool = False) -> SchemaStatus:
    """How far the schema is, and what lies in it. Nothing is changed."""

    async def look(connection: Connection) -> SchemaStatus:
        async with connection.transaction(readonly=True):
            how_far = _status(await _version(connection))
            if not how_far.found:
                return how_far
            store_id = await connection.fetchval(READS["meta"], "store_id")
            runs = {row[0]: row[1] for row in await connection.fetch(SQL["count_runs"], timeout=SLOW_SECONDS)}
            return msgspec.structs.replace(how_far, store_id=store_id, runs=runs)

    return await _with_connection(Connector(url, is_pooled=is_pooled), 5.0, look)


async def open_database(connector: Connector, *, allow_unsafe: bool, retry_seconds: float) -> Opened:
    """
    Check the server's settings, migrate, and name the store if it has no name yet.

    Raises:
        StoreTooNew, StoreRefused, StoreUnavailable
    """

    async def prepare(connection: Connection) -> Opened:
        notices = await _check_settings(connection, connector.location, allow_unsafe=allow_unsafe)
        await _migrate(connection)
        async with connection.transaction():
            if await connection.fetchval(READS["meta"], UNFINISHED_KEY) is not None:
                raise StoreRefused(f"{connector.location}: {UNFINISHED}")
            store_id = await connection.fetchval(READS["meta"], "store_id")
            newest = await connection.fetchval(READS["newest"])
            # Of two processes that open at once, one makes it and both read it.
            await connection.execute(CHANGES["set_meta_once"], "secret", secrets.token_hex(32))
            secret = await connection.fetchval(READS["meta"], "secret")
            await connection.execute(CHANGES["leave"], "", SLOW_SECONDS)
        return Opened(str(store_id), newest, notices, str(secret))

    return await _with_connection(connector, retry_seconds, prepare)


async def check_place(connection: Connection, clock: Clock) -> bool:
    """
    Note where the database is; True if a restored backup was found in the place of the one that we knew.

    A restored one lacks events that readers have seen, and will write others under their numbers. So every journal
    gets a new epoch, and new runs get numbers that were never given out. Whoever finds it first does that.
    """
    async with connection.transaction():
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise StandbyAnswers("this is a standby, which takes no writes")
        place = await _place(connection)
        if await connection.fetchval(READS["meta"], "place") == place:
            return False
        await connection.execute(SQL["lock"], timeout=SLOW_SECONDS)
        known = await connection.fetchval(READS["meta"], "place")
        if known == place:
            return False
        await connection.execute(CHANGES["set_meta"], "place", place)
        if known is None:
            return False
        log.warning("restored_backup_found", before=known, now=place)
        newest = await connection.fetchval(READS["newest"])
        rollbacks = rollbacks_of(await connection.fetchval(READS["meta"], "rollbacks"))
        text = msgspec.json.encode([*rollbacks, (newest, max(newest, clock.now()))]).decode()
        await connection.execute(CHANGES["set_meta"], "rollbacks", text)
        await connection.execute(SQL["next_epoch"], timeout=SLOW_SECONDS)
        await connection.execute(SQL["skip_numbers"], NUMBERS_SKIPPED)
        # Rows of processes that came along with the backup stand for nobody.
        await connection.execute(CHANGES["leave"], "", -1.0)
        return True


async def count_rollbacks(connection: Connection) -> int:
    """How often a restored backup was found in the place of this store."""
    async with connection.transaction():
        return len(rollbacks_of(await connection.fetchval(READS["meta"], "rollbacks")))


async def _with_connection(connector: Connector, retry_seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Work on a connection of its own, waiting for a database that is just starting."""
    backoff = Backoff(retry_seconds)
    while True:
        connection: Connection | None = None
        try:
            connection = await connector.prepared()
            return await work(connection)
        except (OSError, ValueError, *DriverError) as error:
            if is_pooler(error) or not is_lost(error) or not await backoff.pause():
                raise translate_refusal(error, connector.location) from error
        finally:
            if connection is not None:
                connection.terminate()
                await asyncio.sleep(0)  # the transport closes at the next turn of the loop


async def _check_settings(connection: Connection, location: str, *, allow_unsafe: bool) -> tuple[str, ...]:
    async with connection.transaction(readonly=True):
        found = await connection.fetchrow(SQL["settings"])
    assert found is not None
    if found["version"] < SERVER_VERSION_MIN:
        raise StoreRefused(f"{location}: Postgres {found['version'] // 10000} is too old; at least 14 is needed")
    if found["encoding"] != "UTF8":
        raise StoreRefused(f"{location}: the database has the encoding {found['encoding']}; make one with UTF8")
    if found["is_standby"]:
        raise StoreRefused(f"{location}: this is a standby, which takes no writes; name the primary")
    unsafe = [(name, harm) for name, harm in NEEDED.items() if found[name] == "off"]
    if unsafe and not allow_unsafe:
        name, harm = unsafe[0]
        raise StoreRefused(
            f"{location}: {name} is off, so that {harm}; turn it on, or allow an unsafe store explicitly", setting=name
        )
    return tuple(f"{name} is off: {harm}" for name, harm in unsafe)


async def _version(connection: Connection) -> int:
    """
    The version of the schema; 0 if there is none.

    Raises:
        StoreTooNew: this version of Holdfast does not know it.
    """
    if not await connection.fetchval(SQL["has_schema"]):
        return 0
    found: int = await connection.fetchval(SQL["schema_version"]) or 0
    if found > KNOWN_VERSION:
        raise StoreTooNew(
            f"the database was used by a newer version of Holdfast: its schema is {found}, this one knows "
            f"{KNOWN_VERSION}; install that version, or restore a backup made before the update",
            found=found,
            known=KNOWN_VERSION,
        )
    return found


def _status(found: int) -> SchemaStatus:
    pending = [item for item in migrations("postgres") if item.version > found]
    return SchemaStatus(found, KNOWN_VERSION, tuple(f"{item.version:04}_{item.name}" for item in pending))


async def _migrate(connection: Connection) -> SchemaStatus:
    async with connection.transaction():
        found = await _version(connection)
        if found == KNOWN_VERSION:
            return _status(found)
        await connection.execute(SQL["lock"], timeout=SLOW_SECONDS)
        found = await _version(connection)
        for migration in migrations("postgres"):
            if migration.version > found:
                await connection.execute(migration.text, timeout=SLOW_SECONDS)
        await connection.execute(CHANGES["set_meta"], "schema_version", str(KNOWN_VERSION))
        if found == 0:
            store_id = uuid.UUID(bytes=secrets.token_bytes(16), version=4)
            await connection.execute(CHANGES["set_meta"], "store_id", str(store_id))
        return _status(found)


async def _place(connection: Connection) -> str:
    try:
        async with connection.transaction():  # a savepoint: the failure of this one is no failure
            place = await connection.fetchval(SQL["place"])
    except DriverError as error:
        if not is_forbidden(error):
            raise
        # Some hosts do not tell.
        place = await connection.fetchval("SELECT concat_ws(' ', 'holdfast.heads'::regclass::oid, current_database())")
    return str(place)
