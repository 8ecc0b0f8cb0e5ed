"""Following what another process writes: each process here is a journal of its own on one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import JournalCorrupt, StoreUnavailable
from holdfast.journal import END, Journal, Reader, Signal, Watcher
from holdfast.store.base import Store
from holdfast.store.postgres import PostgresStore
from tests.contract.making import Hand, held
from tests.support.postgres import PostgresServer


class Counting:
    """A store that counts the calls of each method; those in `faults` raise what is there, one after another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []
        self.faults: dict[str, list[Exception]] = {}

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)
        return getattr(self._store, name)


@pytest.fixture
async def store(postgres: PostgresServer, database: str) -> AsyncIterator[Counting]:
    made = PostgresStore(postgres.url(database))
    await made.open()
    yield Counting(made)
    await made.close()


async def follow(journal: Journal, hand: Hand) -> tuple[Reader, list[str]]:
    """A reader that has everything so far, with its lines."""
    reader = Reader(journal, await hand.row(), after=-1)
    lines: list[str] = []
    while reader.cursor < hand.tail:
        lines += await lines_of(reader)
    return reader, lines


async def lines_of(reader: Reader) -> list[str]:
    async with asyncio.timeout(20):
        chunk = await reader.next()
    assert not isinstance(chunk, Signal), chunk
    return list(chunk.lines)


async def test_one_look_brings_what_came_to_all_that_is_followed(store: Counting) -> None:
    """However many runs are followed, their readers ask the store for nothing themselves."""
    journal = Journal(store, SystemClock())
    watcher = Watcher(journal, is_ours=lambda _: False)
    hands = [await held(store, f"r{index}") for index in range(3)]
    readers = [(await follow(journal, hand))[0] for hand in hands]
    for hand in hands:
        await hand.append(2)
    await hands[0].finish()
    store.calls.clear()

    assert await watcher.look()

    found = [await lines_of(reader) for reader in readers]
    assert [len(lines) for lines in found] == [3, 2, 2]
    assert await readers[0].next() is END
    assert store.calls == ["growth"]
    assert not await watcher.look()


async def test_a_damaged_journal_stops_its_own_readers_alone(
    store: Counting, postgres: PostgresServer, database: str
) -> None:
    journal = Journal(store, SystemClock())
    watcher = Watcher(journal, is_ours=lambda _: False)
    good, bad = [await held(store, f"r{index}") for index in range(2)]
    (reader, _), (stopped, _) = [await follow(journal, hand) for hand in (good, bad)]
    for hand in (good, bad):
        await hand.append(1)
    damage = f"UPDATE holdfast.segments SET body = '' WHERE number = {bad.number} AND first > 0"
    await postgres.execute(damage, database=database)

    await watcher.look()

    assert len(await lines_of(reader)) == 1
    with pytest.raises(JournalCorrupt):
        await lines_of(stopped)


async def test_while_something_comes_it_is_seen_without_a_hint(store: Counting) -> None:
    """The next look is soon after one that found something; here no hint comes, and the poll would not in time."""
    journal = Journal(store, SystemClock())
    hand = await held(store)
    reader, _ = await follow(journal, hand)
    watcher = Watcher(journal, is_ours=lambda _: False, poll_seconds=3600)
    await hand.append(1)
    await watcher.start()

    for _ in range(3):
        await lines_of(reader)
        await hand.append(1)

    assert len(await lines_of(reader)) == 1
    await watcher.stop()


async def test_a_watcher_that_breaks_is_told_to_whoever_runs_the_process(store: Counting) -> None:
    """Readers would wait for ever, and nobody would know why."""
    journal = Journal(store, SystemClock())
    broken = asyncio.Event()
    journal.on_failure = broken.set
    watcher = Watcher(journal, is_ours=lambda _: False)
    hand = await held(store)
    reader, _ = await follow(journal, hand)
    store.faults = {"growth": [RuntimeError("a bug")]}

    await watcher.start()

    async with asyncio.timeout(20):
        await broken.wait()
    reader.close()
    await watcher.stop()


async def test_readers_stay_while_the_database_is_away(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they have to read what they have not seen, or have to ask how far the journal goes."""
    monkeypatch.setattr("holdfast.journal.reader.RETRY_SECONDS", 0.01)
    hand = await held(store)
    journal = Journal(store, SystemClock())
    reader = Reader(journal, await hand.row(), after=-1)
    await hand.append(2)
    await hand.finish()
    away = StoreUnavailable("no answer")
    store.faults = {"segments": [away] * 3, "tails": [away] * 3}

    lines = await lines_of(reader)

    assert len(lines) == 4
    assert await reader.next() is END
    assert store.faults == {"segments": [], "tails": []}
