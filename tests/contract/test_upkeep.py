"""Pruning, backing up, and what a store says of itself."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from holdfast.clock import HeldClock
from holdfast.errors import RunExists, StoreUnavailable
from holdfast.model import File, Status
from holdfast.store.base import Lost, RunQuery, Started, Store
from tests.contract.backends import Backend
from tests.contract.making import (
    held,
    journal,
    key_row,
    message,
    one,
    question,
    start_run,
    started,
    step,
    waiting,
)

NEVER = 0


async def test_whole_segments_are_pruned_and_the_last_one_stays(store: Store) -> None:
    hand = await held(store)
    for _ in range(3):
        await hand.append(2)
    await hand.append(status=Status.COMPLETED, ended_at=50)
    before = await journal(store, hand.number)

    went = await store.prune(ended_before=51, rows_before=NEVER, now=0)

    assert went == 7
    assert await journal(store, hand.number) == before[-1:]
    run = await hand.row()
    assert (run.first_sequence, run.tail_sequence) == (7, 7)
    assert (run.prior_hash, run.head_hash) == (before[-2].hash, before[-1].hash)


async def test_what_has_not_ended_or_not_long_ago_is_kept(store: Store) -> None:
    fresh = await held(store, "fresh")
    await fresh.append(status=Status.COMPLETED, ended_at=50)
    running = await held(store, "running")
    await running.append()
    waits = await waiting(store, "waits")

    assert await store.prune(ended_before=50, rows_before=50, now=0) == 0

    for hand in (fresh, running, waits):
        assert len(await journal(store, hand.number)) == 2


async def test_pruning_again_finds_nothing(store: Store) -> None:
    for index in range(3):
        hand = await held(store, f"r{index}")
        await hand.append(status=Status.COMPLETED, ended_at=50)

    assert await store.prune(ended_before=51, rows_before=NEVER, now=0) == 3
    assert await store.prune(ended_before=51, rows_before=NEVER, now=0) == 0


async def test_a_long_journal_is_pruned_in_portions(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(2)]
    for hand in hands:
        assert set(await store.commit([hand.next() for _ in range(1200)])) == {None}
        await hand.append(status=Status.COMPLETED, ended_at=50)

    assert await store.prune(ended_before=51, rows_before=NEVER, now=0) == 2 * 1201

    for hand in hands:
        assert [item.first for item in await journal(store, hand.number)] == [1201]
        assert (await hand.row()).first_sequence == 1201


async def test_rows_of_old_runs_go_altogether_and_their_conversation_stays(store: Store) -> None:
    old = await held(store, "old", thread_id="t1", message=message("m1"), idempotency=key_row())
    await old.append(status=Status.FAILED, ended_at=50, steps=(step(),), interrupts=(question(),))
    new = await held(store, "new", thread_id="t1", message=message("m2"))
    await new.append(status=Status.COMPLETED, ended_at=60)

    went = await store.prune(ended_before=51, rows_before=51, now=0)

    assert went == 3  # two events and a row
    assert await store.run("default", "old") is None
    assert await store.steps(old.number) == []
    assert await store.interrupts(old.number) == []
    assert await store.idempotency("default", "POST", "/runs", "k1") is None
    assert [item.message_id for item in await store.messages("default", "t1")] == ["m1", "m2"]
    assert [run.run_id for run in await store.runs(RunQuery(tenant=None))] == ["new"]


async def test_neither_numbers_nor_timestamps_go_back_with_what_was_pruned(backend: Backend) -> None:
    hand = await held(backend.store)
    await hand.append(status=Status.COMPLETED, ended_at=50)
    newest = (await backend.store.info()).last_timestamp
    await backend.store.prune(ended_before=51, rows_before=51, now=0)
    await backend.close()
    await backend.open()

    info = await backend.store.info()
    assert info.last_timestamp == newest > hand.run.last_timestamp
    assert not info.restored
    assert (await started(backend.store, "next")).number == 2


async def test_a_reader_by_time_is_told_what_retention_dropped(store: Store) -> None:
    assert await store.lost("default") == Lost(0, ())
    first = await held(store, "r1", thread_id="t1")
    end = (await first.append(status=Status.COMPLETED, ended_at=50)).segment
    second = await held(store, "r2", thread_id="t2")
    await second.append(2)
    await second.append(status=Status.COMPLETED, ended_at=60)
    dropped = (await journal(store, second.number))[1]

    await store.prune(ended_before=51, rows_before=NEVER, now=0)
    assert (await store.lost("default")).pruned_until == first.run.last_timestamp
    assert (await store.lost("default", thread_id="t2")).pruned_until == 0
    await store.prune(ended_before=61, rows_before=51, now=0)

    assert end is not None
    assert (await store.lost("default", thread_id="t1")).pruned_until == end.last_timestamp
    assert (await store.lost("default", thread_id="t2")).pruned_until == dropped.last_timestamp
    assert (await store.lost("default")).pruned_until == dropped.last_timestamp
    assert (await store.lost("other")).pruned_until == 0


async def test_expired_keys_are_pruned(store: Store, clock: HeldClock) -> None:
    await store.begin_idempotent(key_row("old", expires_at=clock.now()))
    await store.begin_idempotent(key_row("new", expires_at=clock.now() + 1))
    await store.begin_idempotent(key_row("ever"))

    assert await store.prune(ended_before=NEVER, rows_before=NEVER, now=clock.now()) == 1
    assert await store.idempotency("default", "POST", "/runs", "new") is not None
    assert await store.idempotency("default", "POST", "/runs", "ever") is not None


async def test_files_go_with_their_run_or_after_a_day(store: Store) -> None:
    hand = await held(store)
    await hand.append(status=Status.COMPLETED, ended_at=50)
    day = 24 * 3600 * 1_000_000

    async def put(file_id: str, number: int | None, created_at: int) -> None:
        content = file_id[:1].encode()
        digest = hashlib.sha256(content).hexdigest()
        file = File(
            file_id=file_id,
            tenant="default",
            number=number,
            name="n",
            media_type="m",
            size=1,
            sha256=digest,
            created_at=created_at,
        )
        await store.put_file(file, content)

    await put("run", hand.number, 1)
    await put("old", None, 1)
    await put("other-old", None, 1)
    await put("new", None, day)

    async def kept() -> list[str]:
        return [name for name in ("run", "old", "other-old", "new") if await store.file("default", name)]

    await store.prune(ended_before=51, rows_before=NEVER, now=day + 2)
    assert await kept() == ["run", "new"]
    await store.prune(ended_before=51, rows_before=51, now=day + 2)
    assert await kept() == ["new"]


async def test_a_content_stays_while_a_file_has_it(store: Store) -> None:
    digest = hashlib.sha256(b"same").hexdigest()
    day = 24 * 3600 * 1_000_000
    for file_id, created_at in (("old", 1), ("new", day)):
        file = File(
            file_id=file_id,
            tenant="default",
            name="n",
            media_type="m",
            size=4,
            sha256=digest,
            created_at=created_at,
        )
        await store.put_file(file, b"same")

    await store.prune(ended_before=NEVER, rows_before=NEVER, now=day + 2)

    assert await store.file("default", "old") is None
    found = await store.file("default", "new")
    assert found is not None
    assert found[1] == b"same"


async def test_a_store_tells_its_newest_timestamp(backend: Backend) -> None:
    assert (await backend.store.info()).last_timestamp == 0
    hand = await held(backend.store)
    await hand.append(3)
    newest = (await hand.row()).last_timestamp

    assert (await backend.store.info()).last_timestamp == newest
    await backend.close()
    await backend.open()
    assert (await backend.store.info()).last_timestamp == newest


async def test_a_store_keeps_its_id(backend: Backend) -> None:
    before = (await backend.store.info()).store_id
    await backend.close()
    await backend.open()

    assert (await backend.store.info()).store_id == before


async def test_a_store_that_is_well_can_be_pinged(store: Store) -> None:
    await store.ping()


async def test_a_closed_store_says_so(backend: Backend) -> None:
    await backend.close()

    for call in (
        backend.store.commit([start_run()]),
        backend.store.run_by_number(1),
        backend.store.info(),
        backend.store.ping(),
    ):
        with pytest.raises(StoreUnavailable):
            await call


async def test_closing_twice_is_closing_once(backend: Backend) -> None:
    await backend.close()
    await backend.close()


async def test_an_empty_commit_is_no_commit(store: Store) -> None:
    assert await store.commit([]) == []


async def test_what_a_cancelled_caller_wrote_is_whole_or_not_there(store: Store) -> None:
    """And whoever comes after is served as if nothing had been."""
    tasks = [asyncio.ensure_future(store.commit([start_run(f"r{index}")])) for index in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    outcome = await one(store, start_run("after"))
    assert isinstance(outcome, Started)
    for run in await store.runs(RunQuery(tenant=None)):
        assert len(await journal(store, run.number)) == 1
        assert isinstance(await one(store, start_run(run.run_id)), RunExists)
