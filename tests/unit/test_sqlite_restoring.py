"""Backups, and a store that finds itself restored from one."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.errors import StoreLocked, StoreRefused
from holdfast.model import File, Status
from holdfast.store.base import RunQuery
from holdfast.store.sqlite import SQLiteStore, mark_restored
from tests.contract.making import Hand, held, journal, started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(directory)
    await store.open()
    yield store
    await store.close()


async def reopened(directory: Path) -> SQLiteStore:
    store = SQLiteStore(directory)
    await store.open()
    return store


async def grown(directory: Path) -> tuple[bytes, Hand]:
    """A store that has gone on since its database was copied; closed."""
    store = await reopened(directory)
    hand = await held(store)
    await hand.append(3)
    await (await held(store, "done")).finish()
    await store.close()
    copy = (directory / "holdfast.db").read_bytes()
    store = await reopened(directory)
    later = await started(store, "later")
    await store.close()
    return copy, later


async def test_a_database_that_is_older_than_it_was_is_a_restored_one(directory: Path) -> None:
    copy, later = await grown(directory)
    (directory / "holdfast.db").write_bytes(copy)

    store = await reopened(directory)
    info = await store.info()
    runs = {run.run_id: run for run in await store.runs(RunQuery(tenant=None))}
    new = await started(store, "new")
    await store.close()

    assert info.restored
    assert info.last_timestamp == later.run.last_timestamp
    assert {run_id: (run.epoch, run.epochs) for run_id, run in runs.items()} == {
        "r1": (1, ((1, 4),)),
        "done": (1, ((1, 2),)),
    }
    assert new.number == 2 + 1_000_000 + 1
    assert (new.run.epoch, new.run.epochs) == (0, ())


async def test_readers_by_time_are_told_what_was_rolled_back(directory: Path) -> None:
    copy, later = await grown(directory)
    (directory / "holdfast.db").write_bytes(copy)

    store = await reopened(directory)
    ((newest, moment),) = (await store.lost("default")).rolled_back
    ended = max([run.last_timestamp for run in await store.runs(RunQuery(tenant=None))])
    await store.close()

    assert newest == ended
    assert moment >= later.run.last_timestamp


async def test_a_restored_store_is_restored_once(directory: Path) -> None:
    copy, _ = await grown(directory)
    (directory / "holdfast.db").write_bytes(copy)
    await (await reopened(directory)).close()

    store = await reopened(directory)

    assert not (await store.info()).restored
    assert (await store.runs(RunQuery(tenant=None)))[0].epoch == 1
    await store.close()


async def test_restored_again_the_epoch_grows_again(directory: Path) -> None:
    copy, _ = await grown(directory)
    (directory / "holdfast.db").write_bytes(copy)
    await (await reopened(directory)).close()
    copy = (directory / "holdfast.db").read_bytes()
    store = await reopened(directory)
    await (await held(store, "lost")).finish()
    await store.close()
    (directory / "holdfast.db").write_bytes(copy)

    store = await reopened(directory)

    run = await store.run("default", "r1")
    assert run is not None
    assert run.epochs == ((1, 4), (2, 4))
    assert (await started(store, "new")).number == 2 + 2_000_000 + 1
    await store.close()


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"another-store 99999999999999999999\n"])
async def test_a_mark_that_tells_nothing_of_this_store_is_ignored(directory: Path, content: bytes | None) -> None:
    await grown(directory)
    if content is None:
        (directory / "holdfast.newest").unlink()
    else:
        (directory / "holdfast.newest").write_bytes(content)

    store = await reopened(directory)

    assert not (await store.info()).restored
    await store.close()


async def test_a_mark_that_lags_behind_is_no_sign_of_anything(directory: Path) -> None:
    """It is not synced, so a power cut may take it back to what it was."""
    store = await reopened(directory)
    await started(store, "r1")
    old = (directory / "holdfast.newest").read_bytes()
    await started(store, "r2")
    await store.close()
    (directory / "holdfast.newest").write_bytes(old)

    store = await reopened(directory)

    assert not (await store.info()).restored
    await store.close()


async def test_a_store_may_be_declared_restored(directory: Path) -> None:
    await grown(directory)

    mark_restored(directory)

    store = await reopened(directory)
    assert (await store.info()).restored
    await store.close()


async def test_a_store_in_use_cannot_be_declared_restored(store: SQLiteStore, directory: Path) -> None:
    with pytest.raises(StoreLocked):
        mark_restored(directory)


def test_what_is_not_there_cannot_be_declared_restored(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="no store"):
        mark_restored(tmp_path / "nothing")

    assert list(tmp_path.iterdir()) == []


async def test_a_backup_opens_as_a_store_with_everything_in_it(store: SQLiteStore, tmp_path: Path) -> None:
    hand = await held(store)
    await hand.append(3)
    digest = hashlib.sha256(b"content").hexdigest()
    file = File(
        file_id="f", tenant="default", name="n", media_type="m", size=7, sha256=digest, created_at=1, number=hand.number
    )
    await store.put_file(file, b"content")

    await store.backup(str(tmp_path / "backup"))
    await hand.append()

    copy = await reopened(tmp_path / "backup")
    assert (await copy.info()).restored
    assert (await copy.info()).store_id == (await store.info()).store_id
    assert await journal(copy, hand.number) == (await journal(store, hand.number))[:2]
    assert await copy.file("default", "f") == (file, b"content")
    await copy.close()


async def test_a_backup_is_taken_while_the_store_is_in_use(store: SQLiteStore, tmp_path: Path) -> None:
    hands = [await held(store, f"r{index}") for index in range(20)]
    backing_up = asyncio.create_task(store.backup(str(tmp_path / "backup")))
    while not backing_up.done():
        assert set(await store.commit([hand.next() for hand in hands])) == {None}
    await backing_up

    copy = await reopened(tmp_path / "backup")
    tails = {(await copy.tails([hand.number]))[hand.number] for hand in hands}
    assert len(tails) == 1  # all hands moved in one commit each time: the copy lies between two of them
    assert tails.pop()[1] is Status.RUNNING
    await copy.close()


async def test_a_backup_overwrites_nothing(store: SQLiteStore, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").write_text("x")

    with pytest.raises(StoreRefused, match="not empty"):
        await store.backup(str(tmp_path / "backup"))

    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["mine"]


async def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(shutil, "copyfile", fail)
    digest = hashlib.sha256(b"x").hexdigest()
    file = File(file_id="f", tenant="default", name="n", media_type="m", size=1, sha256=digest, created_at=1)
    await store.put_file(file, b"x")

    with pytest.raises(OSError, match="no"):
        await store.backup(str(tmp_path / "backup"))

    assert not (tmp_path / "backup").exists()
