"""The writing thread: what goes together, what a full disk does, and what is left on the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from holdfast.clock import HeldClock
from holdfast.errors import StorageFull, StoreError, StoreUnavailable
from holdfast.model import File, Status
from holdfast.store.base import Started
from holdfast.store.sqlite import SQLiteStore, connection, writer
from holdfast.store.sqlite.connection import Connection
from tests.contract.making import Hand, held, journal, key_row, message, one, refusal, start_run, started, step

MIB = 1 << 20


class Disk:
    """The free space that the store is told."""

    def __init__(self) -> None:
        self.free, self.asked = 1 << 40, 0

    def __call__(self, _: Path) -> int:
        self.asked += 1
        return self.free


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, clock: HeldClock, disk: Disk) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "data", clock=clock, free_bytes=disk)
    await store.open()
    yield store
    await store.close()


async def transactions(store: SQLiteStore) -> list[int]:
    """A list that grows with every transaction that commits."""
    seen: list[int] = []

    def watch(connection: Connection) -> None:
        connection.set_commit_hook(lambda: bool(seen.append(1)))  # type: ignore[func-returns-value]

    await store._change(watch)
    seen.clear()
    return seen


# What goes together


async def test_whatever_waits_goes_into_one_transaction(store: SQLiteStore) -> None:
    hands = [await held(store, f"r{index}") for index in range(50)]
    seen = await transactions(store)

    await asyncio.gather(*(one(store, hand.next()) for hand in hands))

    assert len(seen) < 10


async def test_a_lone_append_is_one_transaction(store: SQLiteStore) -> None:
    hand = await held(store)
    seen = await transactions(store)

    await hand.append()
    await hand.append(steps=(step(),))

    assert len(seen) == 2


async def test_looking_for_runs_to_claim_writes_nothing_when_there_are_none(store: SQLiteStore) -> None:
    await held(store)
    seen = await transactions(store)

    assert await store.claim("me", ["agent"], limit=9, lease_seconds=8) == []

    assert seen == []


async def test_a_commit_of_many_writes_is_one_transaction(store: SQLiteStore) -> None:
    seen = await transactions(store)

    outcomes = await store.commit([start_run(f"r{index}", thread_id=f"t{index}") for index in range(333)])
    assert len(seen) == 1
    hands = [Hand(store, outcome.run) for outcome in outcomes if isinstance(outcome, Started)]
    assert set(await store.commit([hand.next(unleased=True, status=Status.CANCELLED) for hand in hands])) == {None}

    assert len(hands) == 333
    assert len(seen) == 2


# Errors


async def test_a_write_that_cannot_be_kept_is_told_and_the_next_one_passes(store: SQLiteStore) -> None:
    hand = await held(store)

    error = refusal(await one(store, hand.next(output=object(), attempt=2)), StoreError)

    assert "cannot be kept" in error.message
    await Hand(store, hand.run).append()


async def test_a_change_that_fails_leaves_no_trace(store: SQLiteStore) -> None:
    def fail(connection: Connection) -> None:
        connection.execute("DELETE FROM runs")
        raise ValueError("no")

    hand = await held(store)
    with pytest.raises(StoreError, match="no"):
        await store._change(fail)

    assert (await hand.row()).run_id == "r1"


async def test_a_message_id_that_is_taken_is_the_fault_of_one_start_alone(store: SQLiteStore) -> None:
    await (await held(store, "r0", thread_id="t1", message=message("m1"))).finish()

    outcomes = await store.commit([start_run("r1", thread_id="t1", message=message("m1")), start_run("r2")])

    refusal(outcomes[0], StoreError)
    assert isinstance(outcomes[1], Started)
    assert outcomes[1].run.number == 2


async def test_after_closing_what_was_queued_is_there(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    await store.open()
    task = asyncio.create_task(store.commit([start_run()]))
    await asyncio.sleep(0)

    await store.close()

    assert isinstance((await task)[0], Started)
    with pytest.raises(StoreUnavailable):
        await store.commit([start_run("r2")])


async def test_a_corrupt_file_is_told_as_such(tmp_path: Path) -> None:
    assert connection.translate(apsw.CorruptError("x"), tmp_path).code == "journal_corrupt"
    assert connection.translate(apsw.BusyError("x"), tmp_path).code == "store_unavailable"
    assert connection.translate(apsw.FullError("x"), tmp_path).code == "storage_full"
    assert connection.translate(apsw.IOError("x"), tmp_path / "db").code == "store_unavailable"


# A full disk


async def limit_pages(store: SQLiteStore, more: int) -> None:
    """Let the database grow by so many pages and no more: SQLite then fails as on a full disk."""
    pages = await store._change(connection.pragma, "page_count")
    await store._change(connection.pragma, f"max_page_count = {pages + more}")


async def test_a_full_disk_refuses_the_batch_and_the_service_resumes(store: SQLiteStore) -> None:
    hand = await held(store)
    await limit_pages(store, 2)
    large, row = hand.next(pad=100_000), hand.run

    for _ in range(3):
        with pytest.raises(StorageFull):
            await store.commit([start_run("r2"), large])
    assert (await journal(store, hand.number))[-1].last == 0
    assert await store.run("default", "r2") is None
    with pytest.raises(StorageFull):
        await store.commit([large])  # alone it takes another way to the disk
    assert await store.run_by_number(row.number) == row

    await limit_pages(store, 1 << 20)
    outcomes = await store.commit([start_run("r2"), large])

    assert isinstance(outcomes[0], Started)
    assert (outcomes[0].run.number, outcomes[1]) == (2, None)
    assert (await journal(store, hand.number))[-1].last == 1


async def test_after_a_full_disk_a_ping_finds_out_by_writing(store: SQLiteStore) -> None:
    hand = await held(store)
    seen = await transactions(store)
    await limit_pages(store, 0)
    with pytest.raises(StorageFull):
        await store.commit([hand.next(pad=100_000)])
    seen.clear()

    # A small row needs no new page, so this write passes, and the next ping has no doubt to clear up.
    await store.ping()
    await store.ping()

    assert len(seen) == 1


async def test_with_little_space_no_run_is_started_but_running_ones_go_on(
    store: SQLiteStore, clock: HeldClock, disk: Disk
) -> None:
    hand = await held(store, idempotency=key_row())
    disk.free = 256 * MIB - 1
    clock.advance(1)

    outcomes = await store.commit([start_run("r2"), hand.next(), start_run("r3", idempotency=key_row("k3"))])

    refusal(outcomes[0], StorageFull)
    assert outcomes[1] is None
    refusal(outcomes[2], StorageFull)
    repeated = await one(store, start_run("again", idempotency=key_row()))
    assert isinstance(repeated, Started)
    assert repeated.replayed
    with pytest.raises(StorageFull):
        await store.ping()

    disk.free = 256 * MIB
    clock.advance(1)
    await started(store, "r2")
    await store.ping()


async def test_the_disk_is_asked_at_most_once_a_second(store: SQLiteStore, clock: HeldClock, disk: Disk) -> None:
    for index in range(10):
        await started(store, f"r{index}")
    assert disk.asked == 1

    clock.advance(1)
    await store.ping()

    assert disk.asked == 2


# What is left on the disk


async def test_the_log_is_copied_back_and_stays_small(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From the first size on in a pause, from the second one at any rate: there may be no pause on a busy machine.
    monkeypatch.setattr(writer, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(writer, "CHECKPOINT_PAGES_MAX", 60)
    hand = await held(store)
    for _ in range(300):
        await hand.append(pad=5000)

    assert (tmp_path / "data" / "holdfast.db-wal").stat().st_size < 100 * 4200


def put(file_id: str, content: bytes, **changes: int) -> File:
    return File(
        file_id=file_id,
        tenant="default",
        name="n",
        media_type="m",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=1,
        **changes,
    )


async def test_contents_without_a_file_are_swept_away(store: SQLiteStore, tmp_path: Path) -> None:
    files = tmp_path / "data" / "files"
    kept, gone = put("kept", b"kept", number=1), put("gone", b"gone")
    await store.put_file(kept, b"kept")
    await store.put_file(gone, b"gone")
    (files / f".{kept.sha256}.0000").write_bytes(b"half")  # a crash in the middle of writing
    (files / ("0" * 64)).write_bytes(b"orphan")  # a crash before the row

    await store.prune(ended_before=0, rows_before=0, now=1 << 60)

    assert [path.name for path in files.iterdir()] == [kept.sha256]


async def test_a_content_on_its_way_is_not_swept_away(store: SQLiteStore, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"new").hexdigest()
    with store._contents.arriving(digest):
        store._contents.put(digest, b"new")

        await store.prune(ended_before=0, rows_before=0, now=0)

        assert (tmp_path / "data" / "files" / digest).exists()


async def test_a_content_that_was_changed_on_disk_is_noticed(store: SQLiteStore, tmp_path: Path) -> None:
    file = put("f", b"content")
    await store.put_file(file, b"content")
    path = tmp_path / "data" / "files" / file.sha256

    path.write_bytes(b"other")
    with pytest.raises(StoreError, match="not what was written"):
        await store.file("default", "f")
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        await store.file("default", "f")
