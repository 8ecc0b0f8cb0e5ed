"""Lost replies, late requests and a database that is away: nothing is forgotten and nothing happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.model import ApiKey, Status
from holdfast.store.base import InboxRow, RunQuery, Started, Write
from holdfast.store.postgres import PostgresStore
from holdfast.store.postgres.connection import BrokenConnection, Connection
from tests.contract.making import (
    Hand,
    answered,
    held,
    inbox_answer,
    inbox_cancel,
    journal,
    key_row,
    one,
    question,
    refusal,
    start_run,
    started,
    step,
    waiting,
)
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy, database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}", retry_seconds=3, notify=False)
    await store.open()
    yield store
    await store.close()


async def claimed_once(store: PostgresStore) -> None:
    """The first use of a statement has one reply more than the others."""
    await started(store, "first", agent="first")
    assert len(await store.claim("me", ["first"], limit=1, lease_seconds=8)) == 1


async def test_an_append_whose_reply_is_lost_is_written_once(store: PostgresStore, proxy: Proxy) -> None:
    hand = await held(store)
    write = hand.next(2, steps=(step(),))

    proxy.lose_replies()

    assert await one(store, write) is None
    assert [item.first for item in await journal(store, hand.number)] == [0, 1]
    assert await one(store, hand.next()) is None


async def test_a_batch_of_all_kinds_whose_reply_is_lost_comes_to_what_it_came_to(
    store: PostgresStore, proxy: Proxy
) -> None:
    mine, other, asks = await held(store, "r1"), await held(store, "r2"), await waiting(store, "r3")
    await started(store, "known", idempotency=key_row())
    writes: list[Write] = [
        mine.next(0, steps=(step(),)),
        Hand(store, other.run).next(),
        other.next(),  # the same place: refused
        asks.next(unleased=True, answers=(answered(),), status=Status.QUEUED),
        start_run("new"),
        start_run("r1"),  # taken
        start_run("again", idempotency=key_row()),
        inbox_cancel(mine.number),
        mine.next(status=Status.COMPLETED),
    ]

    proxy.lose_replies()
    outcomes = await store.commit(writes)

    kinds = [type(outcome).__name__ for outcome in outcomes]
    nothing = "NoneType"
    assert kinds == [nothing, nothing, "LeaseLost", nothing, "Started", "RunExists", "Started", "InboxRow", nothing]
    assert [outcome.replayed for outcome in outcomes if isinstance(outcome, Started)] == [False, True]
    assert len(await store.runs(RunQuery(tenant=None))) == 5
    assert len(await journal(store, mine.number)) == 2


async def test_a_request_that_arrives_too_late_does_nothing(store: PostgresStore, proxy: Proxy) -> None:
    hand = await held(store)
    releases = proxy.hold_requests()

    assert await one(store, hand.next(0, release=True, status=Status.QUEUED)) is None
    (run,) = await store.claim("you", ["agent"], limit=1, lease_seconds=8)
    for release in releases:
        release()
    mine = Hand(store, run)
    assert await one(store, mine.next()) is None

    assert (await mine.row()).lease_owner == "you"


async def test_a_claim_whose_reply_is_lost_is_not_forgotten(store: PostgresStore, proxy: Proxy) -> None:
    """Nobody claims what it holds itself: without its answer the run would be nobody's for ever."""
    await claimed_once(store)
    hand = await started(store)

    proxy.lose_replies()
    (run,) = await store.claim("me", ["agent"], limit=1, lease_seconds=8)

    assert (run.number, run.status, run.lease_epoch) == (hand.number, Status.QUEUED, 1)


async def test_what_stays_unknown_is_settled_by_whoever_hands_it_in_again(
    proxy: Proxy,
    database: str,
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
    store = PostgresStore(url, retry_seconds=0.05, notify=False)
    await store.open()
    try:
        first, second = await held(store, "r1"), await held(store, "r2")
        writes: list[Write] = [first.next(), second.next(0, status=Status.QUEUED, release=True), start_run("r3")]
        proxy.lose_replies()
        proxy.refuses = True

        with pytest.raises(StoreUnavailable):
            await store.commit(writes)
        with pytest.raises(StoreUnavailable):
            await store.commit(writes[:2])
        proxy.refuses = False

        assert await store.commit([*writes[:2], first.next()]) == [None, None, None]
        assert [item.first for item in await journal(store, first.number)] == [0, 1, 2]
        assert (await second.row()).lease_owner is None
    finally:
        await store.close()


async def test_what_never_arrived_is_written_when_it_is_handed_in_again(
    proxy: Proxy,
    database: str,
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
    store = PostgresStore(url, retry_seconds=0.05, notify=False)
    await store.open()
    try:
        hand = await held(store)
        write = hand.next()
        releases = proxy.hold_requests()
        proxy.refuses = True
        with pytest.raises(StoreUnavailable):
            await store.commit([write])
        proxy.refuses = False

        assert await one(store, write) is None
        for release in releases:
            release()
        assert await one(store, hand.next()) is None
        assert [item.first for item in await journal(store, hand.number)] == [0, 1, 2]
    finally:
        await store.close()


@pytest.mark.parametrize("is_more_there", [True, False])
async def test_a_claim_that_stays_unknown_is_handed_out_later(proxy: Proxy, database: str, is_more_there: bool) -> None:
    """With what else there is to be claimed, and also when there is nothing else."""
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
    store = PostgresStore(url, retry_seconds=0.05, notify=False)
    await store.open()
    try:
        await claimed_once(store)
        hand = await started(store)
        proxy.lose_replies()
        proxy.refuses = True
        with pytest.raises(StoreUnavailable):
            # Past the look that comes first, which is lost as well.
            await store._the_writer.claim("me", ["agent"], limit=1, lease_seconds=8)
        proxy.refuses = False
        more = ["another"] if is_more_there else []
        for run_id in more:
            await started(store, run_id)

        found = await store.claim("me", ["agent"], limit=9, lease_seconds=8)

        assert [(run.number, run.status) for run in found] == [(hand.number, Status.QUEUED)]
        assert [run.run_id for run in await store.claim("me", ["agent"], limit=9, lease_seconds=8)] == more
    finally:
        await store.close()


async def test_small_changes_whose_commit_is_not_confirmed_come_to_what_they_came_to(
    store: PostgresStore, proxy: Proxy
) -> None:
    key = ApiKey(name="a", hash="h", role="admin", tenant="default", created_at=1)
    row = key_row()
    hand = await held(store, thread_id="t1")
    await hand.finish()
    before = proxy.accepted

    async def lossy() -> None:
        await store.keys()  # there is a connection to lose
        proxy.lose_replies(containing=b"COMMIT\0")

    await lossy()
    assert await store.add_key(key)
    await lossy()
    assert await store.revoke_key("a", 7)
    await lossy()
    assert await store.begin_idempotent(row) is None
    await lossy()
    assert await store.delete_thread("default", "t1")

    assert proxy.accepted == before + 4
    assert [item.revoked_at for item in await store.keys()] == [7]
    assert await store.begin_idempotent(row) == row
    assert await store.thread("default", "t1") is None


async def test_reads_go_on_over_new_connections(store: PostgresStore, proxy: Proxy) -> None:
    hand = await held(store)

    proxy.cut()

    assert (await hand.row()).run_id == "r1"


async def test_a_database_that_stays_away_is_unavailable_and_comes_back(proxy: Proxy, database: str) -> None:
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
    store = PostgresStore(url, retry_seconds=0.05, notify=False)
    await store.open()
    try:
        hand = await held(store)
        proxy.refuses = True
        proxy.cut()

        for call in (store.run_by_number(1), store.info(), store.ping(), store.commit([hand.next()])):
            with pytest.raises(StoreUnavailable):
                await call
        proxy.refuses = False

        await store.ping()
    finally:
        await store.close()


async def test_connections_that_are_open_but_dead_are_given_up(proxy: Proxy, database: str) -> None:
    """No end of the connection is told when a cable is pulled; the answer just never comes."""
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
    store = PostgresStore(url, call_seconds=0.2, notify=False)
    await store.open()
    try:
        hand = await held(store)
        await asyncio.gather(*(store.keys() for _ in range(5)))

        proxy.freeze()

        assert await asyncio.gather(one(store, hand.next()), *(store.keys() for _ in range(5))) == [None, *[[]] * 5]
        assert [item.first for item in await journal(store, hand.number)] == [0, 1]
    finally:
        await store.close()


async def test_a_cancelled_caller_leaves_the_connection_in_order(store: PostgresStore) -> None:
    hand = await held(store)
    tasks = [asyncio.ensure_future(store.commit([hand.next()])) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    hand.tail = (await hand.row()).tail_sequence
    assert await one(store, inbox_cancel(hand.number))
    found = await journal(store, hand.number)
    assert [item.first for item in found[1:]] == [item.last + 1 for item in found[:-1]]


async def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged() -> None:
    server = PostgresServer()
    await asyncio.to_thread(server.start)
    try:
        name = await server.make_database()
        store = PostgresStore(server.url(name), retry_seconds=20, notify=False)
        await store.open()
        hand = await held(store)
        await hand.append(interrupts=(question(),))

        await asyncio.to_thread(server.crash)
        commit = asyncio.ensure_future(store.commit([hand.next(), inbox_answer(hand.number)]))
        await asyncio.to_thread(server.start)
        first, second = await commit

        assert first is None
        assert isinstance(second, InboxRow)
        assert [item.first for item in await journal(store, hand.number)] == [0, 1, 2]
        late = Hand(store, hand.run)
        refusal(await one(store, late.next()), LeaseLost)
        await store.close()
    finally:
        await asyncio.to_thread(server.remove)


async def test_a_connection_that_broke_half_way_is_not_used_again(store: PostgresStore) -> None:
    """The driver says so by an error that belongs to none of its families, and leaves such a connection open."""
    used: list[int] = []

    async def work(connection: Connection) -> int:
        used.append(connection.get_server_pid())
        if len(used) == 1:
            raise BrokenConnection("cannot switch to state 12; another operation (2) is in progress")
        return int(await connection.fetchval("SELECT 1"))

    assert await store.on_connection(work) == 1
    assert used[0] != used[1]
