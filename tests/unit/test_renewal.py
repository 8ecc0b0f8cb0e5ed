"""A database that comes to a second test is what a new one is, or it does not come."""

from __future__ import annotations

import pytest

from tests.support.postgres import PostgresServer

FILLED = (
    "UPDATE holdfast.meta SET value = 'another' WHERE key = 'store_id'",
    "INSERT INTO holdfast.meta (key, value) VALUES ('place', 'here')",
    "INSERT INTO holdfast.processes (process, seen_at) VALUES ('p', 1)",
    "SELECT nextval('holdfast.numbers')",
)
CONTENTS = "SELECT string_agg(key || '=' || value, ',' ORDER BY key) FROM holdfast.meta"
EMPTY = "SELECT count(*) FROM holdfast.processes"
NUMBER = "SELECT coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'holdfast' AND sequencename = 'numbers'"
CLOCK = "SELECT holdfast.lease_clock()"


async def test_rows_numbers_and_the_clock_of_leases_are_those_of_a_new_one(postgres: PostgresServer) -> None:
    name = await postgres.make_database()
    before = await postgres.execute(CONTENTS, database=name)
    await postgres.hold_lease_clock(name, 7.0)
    for statement in FILLED:
        await postgres.execute(statement, database=name)

    await postgres.give_back(name)
    again = await postgres.make_database()

    assert again == name
    assert await postgres.execute(CONTENTS, database=name) == before
    assert await postgres.execute(EMPTY, database=name) == 0
    assert await postgres.execute(NUMBER, database=name) == 0
    assert await postgres.execute(CLOCK, database=name) > 7.0
    await postgres.give_back(name)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE holdfast.processes ADD COLUMN odd text",
        "CREATE TABLE public.odd (id int)",
        "DROP INDEX holdfast.{index}",
        "CREATE OR REPLACE FUNCTION holdfast.away_seconds_1() RETURNS double precision LANGUAGE sql AS 'SELECT 1.0::float8'",
        "ALTER DATABASE {name} SET statement_timeout = '1s'",
    ],
)
async def test_one_whose_schema_or_settings_were_changed_is_nobodys(postgres: PostgresServer, change: str) -> None:
    name = await postgres.make_database()
    index = await postgres.execute(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        "WHERE relnamespace = 'holdfast'::regnamespace AND NOT indisunique LIMIT 1",
        database=name,
    )
    await postgres.execute(change.format(name=name, index=str(index).rpartition(".")[2]), database=name)

    await postgres.give_back(name)
    again = await postgres.make_database()

    assert again != name
    assert await postgres.execute(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == 0
    await postgres.give_back(again)
