"""
What the commands of `holdfast store` do with a store that is named by a directory or a URL. No server has a part in it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.cli.progress import counting
from holdfast.cli.screen import CliError
from holdfast.errors import StoreLocked
from holdfast.server import choose_store
from holdfast.settings import Settings
from holdfast.store.base import SchemaStatus, Store
from holdfast.store.copy import End
from holdfast.store.copy import copy as copy_rows

DATABASE = "holdfast.db"
HERE = "-"  # the store that is set


def status_of(settings: Settings) -> dict[str, Any]:
    """
    What there is to say of a store, for people and for programs.

    Raises:
        CliError: there is none.
        StoreError
    """
    found = _status(settings)
    return {
        "kind": "sqlite" if settings.is_embedded else "postgres",
        "location": _location(settings),
        "schema_found": found.found,
        "schema_known": found.known,
        "pending": found.pending,
        "store_id": found.store_id,
        "runs": dict(sorted(found.runs.items())),
    }


def migrate_store(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """
    Bring the schema up to date; where it is, and the migrations that ran.

    Raises:
        CliError: there is no embedded store, or a server runs on it.
        StoreError
    """
    store = choose_store(settings)
    before = _status(settings)
    if settings.is_embedded:
        asyncio.run(_open_and_close(store, _location(settings)))
        return _location(settings), before.pending
    from holdfast.store.postgres import migrate

    done = asyncio.run(migrate(settings.store or "", is_pooled=settings.store_pooled))
    return _location(settings), done.pending


def copy_store(settings: Settings, source: str, target: str) -> tuple[str, dict[str, int]]:
    """
    Copy one store into another; where that is, and how many rows of each table it holds now.

    Raises:
        CliError: there is nothing to copy, both are the same, or a server runs on one.
        StoreError: see holdfast.store.copy.
    """
    from_, to = (_settings_of(settings, place) for place in (source, target))
    if _location(from_) == _location(to):
        raise CliError(f"{_location(to)} is the store itself; copy to another one")
    if from_.is_embedded:
        _check_exists(from_)
    elif not _status(from_).found:
        raise CliError(f"there is no store in {_location(from_)}")
    return _location(to), asyncio.run(_copy(from_, to))


async def _copy(from_: Settings, to: Settings) -> dict[str, int]:
    source, target = choose_store(from_), choose_store(to)
    try:
        await _open(source, _location(from_))
        await _open(target, _location(to))
        with counting(f"copying to {_location(to)}") as on_progress:
            return await copy_rows(_end(source), _end(target), on_progress=on_progress)
    finally:
        await target.close()
        await source.close()


def _end(store: Store) -> End:
    from holdfast.store.sqlite import SQLiteEnd, SQLiteStore

    if isinstance(store, SQLiteStore):
        return SQLiteEnd(store)
    from holdfast.store.postgres import PostgresEnd, PostgresStore

    assert isinstance(store, PostgresStore)
    return PostgresEnd(store)


async def _open(store: Store, location: str) -> None:
    try:
        await store.open()
    except StoreLocked as error:
        pid = error.details.get("pid")
        raise CliError(f"a server{f' (pid {pid})' if pid else ''} runs on {location}; stop it first") from None


async def _open_and_close(store: Store, location: str) -> None:
    await _open(store, location)
    await store.close()


def _status(settings: Settings) -> SchemaStatus:
    if settings.is_embedded:
        from holdfast.store.sqlite import status

        _check_exists(settings)
        return status(_directory(settings))
    choose_store(settings)  # says what is missing, if it cannot be used at all
    from holdfast.store.postgres import status as status_in_database

    return asyncio.run(status_in_database(settings.store or "", is_pooled=settings.store_pooled))


def _check_exists(settings: Settings) -> None:
    if not (_directory(settings) / DATABASE).is_file():
        raise CliError(f"there is no store in {_directory(settings)} (name one with --store or --data)")


def _settings_of(settings: Settings, place: str) -> Settings:
    """The settings with a store that was named as an argument."""
    from msgspec.structs import replace

    if place != HERE:
        return replace(settings, store=place)
    if settings.store is None:
        raise CliError("- stands for HOLDFAST_STORE, and that is not set")
    return settings


def _directory(settings: Settings) -> Path:
    return Path(settings.store or settings.data)


def _location(settings: Settings) -> str:
    """Where a store is, without secrets."""
    if settings.is_embedded:
        return str(_directory(settings).resolve())
    choose_store(settings)
    from holdfast.store.postgres import location_of

    return location_of(settings.store or "")
