"""Opening a Postgres store: what is refused, who migrates, and how a restored backup is noticed."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.clock import HeldClock
from holdfast.errors import StoreRefused, StoreTooNew, StoreUnavailable
from holdfast.store.base import Lost
from holdfast.store.postgres import PostgresStore, migrate, status
from holdfast.store.sql import migrations
from tests.contract.making import Hand, held, journal, one, started, waiting
from tests.support.postgres import PostgresServer

NEWEST = max(migration.version for migration in migrations("postgres"))


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_may_lose_what_it_acknowledged_is_refused(setting: str) -> None:
    server = PostgresServer(options={setting: "off"})
    await asyncio.to_thread(server.start)
    try:
        await server.execute("CREATE DATABASE unsafe")
        with pytest.raises(StoreRefused, match=f"{setting} is off") as caught:
            await PostgresStore(server.url("unsafe")).open()
        assert caught.value.details == {"setting": setting}
        assert (await status(server.url("unsafe"))).found == 0  # untouched

        store = PostgresStore(server.url("unsafe"), allow_unsafe=True)
        info = await store.open()
        assert [notice.split(":")[0] for notice in info.notices] == [f"{setting} is off"]
        await store.close()
    finally:
        await asyncio.to_thread(server.remove)


async def test_asynchronous_commits_are_refused_wherever_they_are_set(
    postgres: PostgresServer,
    database: str,
) -> None:
    await postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")

    with pytest.raises(StoreRefused, match="synchronous_commit is off"):
        await PostgresStore(postgres.url(database)).open()

    store = PostgresStore(postgres.url(database), allow_unsafe=True)
    assert len((await store.open()).notices) == 1
    await store.close()


async def test_a_newer_schema_is_left_alone(postgres: PostgresServer, database: str) -> None:
    newer = NEWEST + 1
    await postgres.execute(
        f"UPDATE holdfast.meta SET value = '{newer}' WHERE key = 'schema_version'", database=database
    )

    with pytest.raises(StoreTooNew) as caught:
        await PostgresStore(postgres.url(database)).open()
    with pytest.raises(StoreTooNew):
        await migrate(postgres.url(database))

    assert caught.value.details == {"found": newer, "known": NEWEST}
    assert await postgres.execute("SELECT count(*) FROM holdfast.processes", database=database) == 0


async def test_of_many_processes_that_open_an_empty_database_one_migrates(postgres: PostgresServer) -> None:
    await postgres.execute("CREATE DATABASE empty")
    url = postgres.url("empty")
    before = await status(url)
    stores = [PostgresStore(url) for _ in range(5)]

    infos = await asyncio.gather(*(store.open() for store in stores))

    assert (before.found, len(before.pending)) == (0, len(migrations("postgres")))
    assert len({info.store_id for info in infos}) == 1
    assert not any(info.restored for info in infos)
    after = await status(url)
    assert (after.found, after.known, after.pending) == (NEWEST, NEWEST, ())
    for store in stores:
        await store.close()
    await postgres.drop_database("empty")


async def test_a_database_that_is_not_there_or_not_ours_to_use_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(StoreRefused, match="nowhere"):
        await PostgresStore(postgres.url("nowhere")).open()
    with pytest.raises(StoreUnavailable):
        await PostgresStore("postgresql://postgres@127.0.0.1:1/x", retry_seconds=0).open()
    await postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(StoreRefused, match="UTF8"):
        await PostgresStore(postgres.url("latin")).open()
    await postgres.drop_database("latin")


async def test_secrets_are_not_told(postgres: PostgresServer, database: str) -> None:
    url = postgres.url(database).replace("postgres@", "postgres:s3cret@")

    store = PostgresStore(url)
    info = await store.open()
    await store.close()

    assert info.location == f"postgresql://127.0.0.1:{postgres.port}/{database}"
    with pytest.raises(StoreUnavailable) as caught:
        await store.ping()
    assert "s3cret" not in str(caught.value)


async def test_a_restored_backup_gets_a_new_epoch_and_new_numbers(
    postgres: PostgresServer,
    database: str,
) -> None:
    clock = HeldClock()
    store = PostgresStore(postgres.url(database), clock=clock)
    assert not (await store.open()).restored
    hand, other = await held(store, "r1"), await waiting(store, "r2", epoch=3, epochs=((3, 7),))
    await hand.append(2)
    await store.close()
    again = PostgresStore(postgres.url(database), clock=clock)
    newest = (await again.open()).last_timestamp
    assert not (await again.info()).restored
    await again.close()
    await postgres.execute(f"CREATE DATABASE {database}_copy TEMPLATE {database}")

    copies = [PostgresStore(postgres.url(f"{database}_copy"), clock=clock) for _ in range(3)]
    infos = await asyncio.gather(*(copy.open() for copy in copies))

    assert sum(info.restored for info in infos) == 1
    copy = copies[0]
    runs = [await copy.run_by_number(item.number) for item in (hand, other)]
    assert [run and (run.epoch, run.epochs) for run in runs] == [(1, ((1, 3),)), (4, ((3, 7), (4, 2)))]
    assert (await started(copy, "next")).number == 1_000_003
    assert await copy.lost("default") == Lost(0, ((newest, max(newest, clock.now())),))
    assert len(await journal(copy, hand.number)) == 2
    for store in copies:
        await store.close()
    await postgres.drop_database(f"{database}_copy")


async def test_a_database_that_was_exchanged_under_a_running_process_is_noticed(
    postgres: PostgresServer,
    database: str,
) -> None:
    """As after a failover: the connections break, and what answers next is another one."""
    store = PostgresStore(postgres.url(database))
    await store.open()
    hand = await held(store)
    await postgres.execute("UPDATE holdfast.meta SET value = 'elsewhere' WHERE key = 'place'", database=database)
    await postgres.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'holdfast' "
        f"AND datname = '{database}'"
    )

    assert await one(store, hand.next()) is None

    assert (await hand.row()).epoch == 1
    assert (await store.info()).restored
    await store.close()


async def test_a_store_that_was_closed_leaves_no_process_behind(postgres: PostgresServer, database: str) -> None:
    store = PostgresStore(postgres.url(database))
    await store.open()
    hand = await held(store)
    await hand.append(3)
    newest = (await store.info()).last_timestamp
    await store.close()

    assert await postgres.execute("SELECT count(*) FROM holdfast.processes", database=database) == 0
    again = PostgresStore(postgres.url(database))
    assert (await again.open()).last_timestamp == newest
    await again.close()


async def test_odd_texts_read_back_as_they_were(postgres: PostgresServer, database: str) -> None:
    """Postgres keeps no NUL in a text, and SQLite does."""
    from tests.contract.making import message, question, step

    odd = "a\x00b\x1bc\x1b0\\u0000 \\\x00 é\U0001f600\u2028"
    store = PostgresStore(postgres.url(database))
    await store.open()
    hand = await held(
        store, "r1", thread_id="t1", message=message("m1", content=odd), metadata={"k": [odd]}, caller=odd
    )
    await hand.append(steps=(step(odd),), interrupts=(question(question=odd, choices=(odd, "no")),))

    run = await hand.row()
    assert (run.metadata, run.caller) == ({"k": [odd]}, odd)
    assert (await store.messages("default", "t1"))[0].content == odd
    (found,) = await store.steps(hand.number)
    assert (found.key, found.name) == (odd, odd)
    (interrupt,) = await store.interrupts(hand.number)
    assert (interrupt.question, interrupt.choices) == (odd, (odd, "no"))
    assert isinstance(Hand(store, run), Hand)
    await store.close()


async def test_behind_a_pooler_everything_goes_in_transactions(postgres: PostgresServer, database: str) -> None:
    store = PostgresStore(postgres.url(database), is_pooled=True)
    await store.open()
    hand = await started(store)
    (run,) = await store.claim("me", ["agent"], limit=9, lease_seconds=8)
    mine = Hand(store, run)
    await mine.append(3)
    await store.notices(lambda _: None)  # returns: there is nothing to hear

    assert [item.first for item in await journal(store, hand.number)] == [0, 1]
    await store.close()
