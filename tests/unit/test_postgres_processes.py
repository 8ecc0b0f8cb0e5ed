"""Several processes on one database: races, floors, and hints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import asyncpg
import pytest

from holdfast.errors import LeaseLost, StoreUnavailable, ThreadBusy
from holdfast.model import Status
from holdfast.store.base import InboxRow, Notice, Started
from holdfast.store.postgres import PostgresStore, notices
from tests.contract.making import (
    LEASE_SECONDS,
    Hand,
    held,
    inbox_cancel,
    key_row,
    one,
    refusal,
    segment,
    start_run,
    started,
    tick,
)
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.until import until

START = 1_795_219_159.0


class Cluster:
    """Stores on one database, as processes would have them, and the clock of their leases."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self.server, self.database, self._now = server, database, START
        self.stores: list[PostgresStore] = []

    async def process(self) -> PostgresStore:
        store = PostgresStore(self.server.url(self.database))
        await store.open()
        self.stores.append(store)
        return store

    async def let_pass(self, seconds: float) -> None:
        self._now += seconds
        await self.server.hold_lease_clock(self.database, self._now)

    async def execute(self, text: str) -> object:
        return await self.server.execute(text, database=self.database)

    async def cut_connections(self, having: str) -> None:
        """End the server's side of some connections; `having` is a condition on pg_stat_activity."""
        await self.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            f"WHERE datname = '{self.database}' AND pid <> pg_backend_pid() AND {having}"
        )


@pytest.fixture
async def cluster(postgres: PostgresServer, database: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(postgres, database)
    await cluster.let_pass(0)
    yield cluster
    for store in cluster.stores:
        await store.close()


# Races


async def test_of_processes_that_start_the_same_run_one_wins(cluster: Cluster) -> None:
    stores = [await cluster.process() for _ in range(4)]

    for index in range(10):
        outcomes = await asyncio.gather(*(one(store, start_run(f"r{index}")) for store in stores))
        assert kinds(outcomes) == ["RunExists"] * 3 + ["Started"]


def kinds(outcomes: Sequence[object]) -> list[str]:
    return sorted(type(outcome).__name__ for outcome in outcomes)


async def test_of_processes_that_start_in_the_same_thread_one_wins(cluster: Cluster) -> None:
    stores = [await cluster.process() for _ in range(4)]

    for index in range(10):
        writes = [start_run(f"r{index}-{place}", thread_id=f"t{index}") for place in range(4)]
        outcomes = await asyncio.gather(*(one(store, write) for store, write in zip(stores, writes, strict=True)))
        assert kinds(outcomes) == ["Started"] + ["ThreadBusy"] * 3
        (busy, *_) = [outcome for outcome in outcomes if isinstance(outcome, ThreadBusy)]
        (winner,) = [outcome.run.run_id for outcome in outcomes if isinstance(outcome, Started)]
        assert busy.details["active_run_id"] == winner


async def test_starts_under_one_key_start_one_run_wherever_they_arrive(cluster: Cluster) -> None:
    stores = [await cluster.process() for _ in range(4)]

    for index in range(10):
        writes = [start_run(f"r{index}-{place}", idempotency=key_row(f"k{index}")) for place in range(4)]
        outcomes = await asyncio.gather(*(one(store, write) for store, write in zip(stores, writes, strict=True)))
        runs = [outcome.run.run_id for outcome in outcomes if isinstance(outcome, Started)]
        assert len(runs) == 4
        assert len(set(runs)) == 1


async def test_processes_that_claim_at_once_share_the_runs(cluster: Cluster) -> None:
    stores = [await cluster.process() for _ in range(4)]
    await stores[0].commit([start_run(f"r{index}") for index in range(40)])

    found = await asyncio.gather(
        *(store.claim(f"w{place}", ["agent"], limit=10, lease_seconds=8) for place, store in enumerate(stores))
    )

    numbers = [run.number for runs in found for run in runs]
    assert sorted(numbers) == sorted(set(numbers))
    rest = await stores[0].claim("w0", ["agent"], limit=99, lease_seconds=8)
    assert len(numbers) + len(rest) == 40


async def test_facts_and_appends_that_cross_do_not_stop_each_other(cluster: Cluster) -> None:
    """Each process locks many runs of the other; whoever waited in a circle would be ended after a second."""
    mine, yours = await cluster.process(), await cluster.process()
    hands = {
        store: [await held(store, f"{owner}{index}", lease_owner=owner) for index in range(20)]
        for store, owner in ((mine, "me"), (yours, "you"))
    }

    async def work(store: PostgresStore, other: PostgresStore) -> None:
        for turn in range(10):
            facts = [inbox_cancel(hand.number) for hand in hands[other][:: -1 if turn % 2 else 1]]
            outcomes = await store.commit([*(hand.next(attempt=2) for hand in hands[store]), *facts])
            assert {type(outcome) for outcome in outcomes} == {type(None), InboxRow}

    async with asyncio.timeout(20):
        await asyncio.gather(work(mine, yours), work(yours, mine))


async def test_a_process_is_fenced_off_by_the_one_that_took_over(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    hand = await held(mine, lease_owner="me")
    await cluster.let_pass(LEASE_SECONDS)
    (run,) = await yours.claim("you", ["agent"], limit=9, lease_seconds=LEASE_SECONDS)

    outcomes = await asyncio.gather(one(mine, hand.next()), one(yours, Hand(yours, run).next()))

    refusal(outcomes[0], LeaseLost)
    assert outcomes[1] is None


# Who is there


async def test_agents_that_another_live_process_serves_are_served(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    await started(mine, agent="theirs", created_at=5)
    await yours.announce("you", ["theirs"], floor=1)

    assert await mine.unserved(["own"], queued_before=10) == []
    await cluster.let_pass(11)

    assert [run.agent for run in await mine.unserved(["own"], queued_before=10)] == ["theirs"]


async def shown(store: PostgresStore, after: int = 0) -> list[int]:
    """The newest timestamps of the segments that a reader of all tasks gets."""
    return [item.last_timestamp for item in await store.segments_by_time("default", after=after, bytes_max=1 << 20)]


async def test_a_reader_of_all_tasks_waits_for_the_slowest_process(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    floor = tick()
    await mine.announce("me", [], floor=floor)
    await yours.announce("you", [], floor=floor)
    late = segment()  # stamped first, committed last
    early = await held(mine, "early")

    assert await shown(mine) == []
    await one(yours, start_run("late", segment=late))
    assert await shown(mine) == [late.last_timestamp]
    await yours.announce("you", [], floor=tick())

    assert await shown(mine) == [late.last_timestamp, early.run.last_timestamp]


HOLD_FLOOR = """
DO $$ DECLARE volatility text := (
    SELECT CASE provolatile WHEN 'v' THEN 'VOLATILE' WHEN 's' THEN 'STABLE' END FROM pg_proc
    WHERE oid = 'holdfast.common_floor_1'::regproc
);
BEGIN
    ALTER FUNCTION holdfast.common_floor_1() RENAME TO common_floor_itself;
    EXECUTE format(
        'CREATE FUNCTION holdfast.common_floor_1() RETURNS bigint LANGUAGE plpgsql %s AS %L', volatility,
        'BEGIN PERFORM pg_advisory_lock_shared(7); RETURN holdfast.common_floor_itself(); END'
    );
END $$
"""


async def test_floor_and_events_of_a_page_are_of_the_same_moment(cluster: Cluster) -> None:
    """Else a commit in between raises the floor: what it wrote is not on the page, and what is younger is."""
    mine, yours = await cluster.process(), await cluster.process()
    for store, name in ((mine, "me"), (yours, "you")):
        await store.announce(name, [], floor=tick())
    late = segment()  # stamped first, committed last
    early = await held(mine, "early")
    await cluster.execute(HOLD_FLOOR)
    holder = await asyncpg.connect(cluster.server.url(cluster.database))
    await holder.execute("SELECT pg_advisory_lock(7)")

    reading = asyncio.create_task(shown(mine))
    await until(lambda: holder.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    await one(yours, start_run("late", segment=late))
    await yours.announce("you", [], floor=tick())
    await holder.close()
    page = await reading

    assert page in ([], [late.last_timestamp, early.run.last_timestamp])


async def test_a_page_holds_what_begins_at_or_below_the_floor_and_the_floor_is_told(cluster: Cluster) -> None:
    """What overlaps with it may be on the page as well, so that who reads knows how far it is complete."""
    mine, yours = await cluster.process(), await cluster.process()
    await yours.announce("you", [], floor=tick())
    long, short, later = segment(count=2), segment(), segment()
    long = segment(first_timestamp=long.first_timestamp, last_timestamp=later.last_timestamp + 1000)
    starts = [start_run("long", segment=long), start_run("short", segment=short), start_run("later", segment=later)]
    await mine.commit(starts)

    assert await shown(mine) == []
    await yours.announce("you", [], floor=short.first_timestamp)

    assert await mine.common_floor() == short.first_timestamp
    assert await shown(mine) == [long.last_timestamp, short.last_timestamp]


async def test_without_processes_there_is_no_common_floor(cluster: Cluster) -> None:
    mine = await cluster.process()

    assert await mine.common_floor() is None


async def test_beginnings_at_the_same_moment_are_on_the_same_page(cluster: Cluster) -> None:
    store = await cluster.process()
    at = tick()
    await store.commit(
        [start_run(f"r{place}", segment=segment(first_timestamp=at, last_timestamp=at)) for place in range(3)]
    )

    assert len(await store.segments_by_time("default", after=0, bytes_max=0)) == 3


async def test_a_floor_never_falls_and_who_joins_begins_above_all(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()

    assert await mine.announce("me", [], floor=100) == 100
    assert await mine.announce("me", [], floor=50) == 100
    assert await yours.announce("you", [], floor=70) == 100  # readers may be there already
    hand = await held(mine)
    assert await mine.announce("me", [], floor=0) == hand.run.last_timestamp
    assert await yours.announce("you", [], floor=200) == 200


async def test_a_dead_process_is_not_waited_for(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    await yours.announce("you", [], floor=tick())
    hand = await held(mine)
    assert await shown(mine) == []

    await cluster.let_pass(11)

    assert await shown(mine) == [hand.run.last_timestamp]


async def test_a_process_that_is_away_is_waited_for_while_nobody_took_its_runs(cluster: Cluster) -> None:
    """It may only be paused, and then it still writes."""
    mine, yours = await cluster.process(), await cluster.process()
    await yours.announce("you", [], floor=tick())
    theirs = await held(yours, "theirs", lease_owner="you")
    await yours.announce("you", [], floor=tick())
    hand = await held(mine, "r2", lease_owner="me")
    await cluster.let_pass(60)
    before = [theirs.run.last_timestamp]
    assert await shown(mine) == before

    assert len(await mine.claim("me", ["agent"], limit=9, lease_seconds=8)) == 1

    assert await shown(mine) == [*before, hand.run.last_timestamp]


async def test_who_comes_back_commits_nothing_that_was_stamped_before_others_were_shown_more(cluster: Cluster) -> None:
    """It was away, nobody waited for it, and what it has pending is older than what was shown."""
    mine, yours = await cluster.process(), await cluster.process()
    await mine.announce("me", ["agent"], floor=tick())
    await yours.announce("you", ["agent"], floor=tick())
    late = segment()
    early = await held(mine, "early")
    await cluster.let_pass(11)
    await mine.announce("me", ["agent"], floor=tick())
    assert await shown(mine) == [early.run.last_timestamp]

    floor = await yours.announce("you", ["agent"], floor=late.first_timestamp - 1)
    refusal(await one(yours, start_run("late", segment=late)), StoreUnavailable)

    assert floor > late.first_timestamp
    assert isinstance(await one(yours, start_run("late")), Started)  # stamped again


async def test_who_was_waited_for_commits_what_it_has_pending_when_it_comes_back(cluster: Cluster) -> None:
    """Its runs were not taken, so no reader was shown anything younger, and is not before that is there."""
    mine, yours = await cluster.process(), await cluster.process()
    await yours.announce("you", ["agent"], floor=tick())
    theirs = await held(yours, "theirs", lease_owner="you")
    pending = theirs.next()
    await mine.announce("me", ["agent"], floor=tick())
    hand = await held(mine, "r2", lease_owner="me")
    await cluster.let_pass(60)
    await mine.announce("me", ["agent"], floor=tick())

    await yours.announce("you", ["agent"], floor=theirs.run.last_timestamp)
    before = await shown(mine)
    assert await one(yours, pending) is None
    await yours.announce("you", ["agent"], floor=tick())

    assert pending.segment is not None
    assert before == [theirs.run.last_timestamp]
    assert await shown(mine) == [*before, pending.segment.last_timestamp, hand.run.last_timestamp]


async def test_who_is_away_claims_nothing(cluster: Cluster) -> None:
    """Readers would have to wait for it again, and were shown more already."""
    mine = await cluster.process()
    await mine.announce("me", ["agent"], floor=tick())
    await started(mine)
    await cluster.let_pass(11)

    assert await mine.claim("me", ["agent"], limit=9, lease_seconds=8) == []
    await mine.announce("me", ["agent"], floor=tick())
    assert len(await mine.claim("me", ["agent"], limit=9, lease_seconds=8)) == 1


async def test_a_process_that_closed_is_not_waited_for(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    await yours.announce("you", [], floor=tick())
    await held(mine)
    assert await shown(mine) == []

    await yours.close()

    assert len(await shown(mine)) == 1


async def test_who_was_away_starts_nothing_under_old_stamps(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    await mine.announce("me", [], floor=tick())
    hand = await held(mine, "r1")
    queued = await started(mine, "r2")
    old = start_run("old")
    fact = queued.next(unleased=True, status=Status.CANCELLED)
    await cluster.let_pass(11)

    outcomes = await mine.commit([hand.next(), old, fact])

    assert outcomes[0] is None  # its lease still stands
    refusal(outcomes[1], StoreUnavailable)
    refusal(outcomes[2], StoreUnavailable)
    await mine.announce("me", [], floor=tick())
    assert isinstance(await one(mine, start_run("new")), Started)
    assert len(await yours.steps(hand.number)) == 0


async def test_a_process_whose_row_is_gone_enters_again(cluster: Cluster) -> None:
    store = await cluster.process()
    hand = await held(store)
    await cluster.execute("DELETE FROM holdfast.processes")

    assert await one(store, hand.next()) is None


# Hints


class Ear:
    """Collects notices."""

    def __init__(self, store: PostgresStore) -> None:
        self.heard: list[Notice] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(store.notices(self._hear))

    def _hear(self, notice: Notice) -> None:
        self.heard.append(notice)
        self._changed.set()

    async def until(self, condition: Callable[[list[Notice]], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self.heard):
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_others_are_told_what_was_committed(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    ear, own = Ear(yours), Ear(mine)
    await ear.until(lambda heard: heard == [Notice(everything=True)])
    await own.until(bool)

    hand = await held(mine)
    await ear.until(lambda heard: Notice(journals=(hand.number,)) in heard)
    queued = await started(mine, "queued")
    await ear.until(lambda heard: Notice(journals=(queued.number,), queued=True) in heard)
    await one(mine, inbox_cancel(hand.number))
    await ear.until(lambda heard: Notice(inbox=(hand.number,)) in heard)

    assert own.heard == [Notice(everything=True)]
    await ear.close()
    await own.close()


async def test_many_commits_make_few_hints(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    ear = Ear(yours)
    await ear.until(bool)
    hands = [await held(mine, f"r{index}") for index in range(5)]
    begin = asyncio.get_running_loop().time()

    for _ in range(40):
        for hand in hands:
            assert await one(mine, hand.next()) is None
    seconds = asyncio.get_running_loop().time() - begin
    last = await started(mine, "last")
    await ear.until(lambda heard: any(last.number in notice.journals for notice in heard))

    assert len(ear.heard) <= 50 * seconds + 10
    await ear.close()


async def test_more_than_a_hint_holds_is_everything(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    ear = Ear(yours)
    await ear.until(bool)

    await mine.commit([start_run(f"r{index}", lease_owner="me") for index in range(1000)])

    await ear.until(lambda heard: heard == [Notice(everything=True)] * 2)
    await ear.close()


async def test_a_listener_that_lost_its_connection_listens_again(cluster: Cluster) -> None:
    mine, yours = await cluster.process(), await cluster.process()
    ear = Ear(yours)
    await ear.until(bool)

    for turn in range(3):
        await cluster.cut_connections("query LIKE 'LISTEN%'")
        await ear.until(lambda heard, turn=turn: heard.count(Notice(everything=True)) == turn + 2)  # type: ignore[misc]
        hand = await held(mine, f"r{turn}")
        await ear.until(lambda heard, hand=hand: any(hand.number in notice.journals for notice in heard))  # type: ignore[misc]
    await ear.close()


async def test_a_listener_that_hears_itself_no_more_listens_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a cable is pulled: both ends are open, and nothing comes."""
    monkeypatch.setattr(notices, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(notices, "HEARD_SECONDS", 0.2)
    async with Proxy("127.0.0.1", cluster.server.port) as proxy:
        store = PostgresStore(f"postgresql://postgres@127.0.0.1:{proxy.port}/{cluster.database}")
        await store.open()
        ear = Ear(store)
        await ear.until(bool)

        proxy.freeze()

        await ear.until(lambda heard: heard.count(Notice(everything=True)) == 2)
        await ear.close()
        proxy.cut()
        await store.close()
