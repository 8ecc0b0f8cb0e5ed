"""A store that an older version made opens, is migrated, and goes on with what lies in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from holdfast.store.base import SCHEMA_VERSION, Limits, Started, Store
from holdfast.store.postgres import PostgresStore, migrate
from holdfast.store.postgres import schema as postgres_schema
from holdfast.store.postgres import status as postgres_status
from holdfast.store.sql import migrations
from holdfast.store.sqlite import SQLiteStore
from holdfast.store.sqlite import schema as sqlite_schema
from holdfast.store.sqlite.connection import connect_writer
from tests.contract.making import BEGINNING, Hand, journal, one, start_run
from tests.support.postgres import PostgresServer

# As version 1 wrote them: a queued run, one in a thread that is over, each with its first segment.
ROWS = f"""
INSERT INTO {{schema}}runs (
    number, run_id, tenant, agent, agent_id, thread_id, status, attempt, priority, superseded, input, caller, role, trust,
    metadata, executed_seconds, created_at, ended_at, epoch, epochs, first_sequence, prior_hash
) VALUES
    (1, 'queued', 'a', 'agent', 'id', NULL, 'queued', 1, 0, {{no}}, {{blob}}'7b7d', '', 'admin', 'standard',
        '{{{{}}}}', 0.0, {BEGINNING}, NULL, 0, '[]', 0, {{hash}}),
    (2, 'over', 'a', 'agent', 'id', 't1', 'completed', 1, 0, {{no}}, {{blob}}'7b7d', '', 'admin', 'standard',
        '{{{{}}}}', 0.0, {BEGINNING}, {BEGINNING}, 0, '[]', 0, {{hash}});
INSERT INTO {{schema}}heads (number, tenant, lease_epoch, tail_sequence, head_hash, last_timestamp, is_over) VALUES
    (1, 'a', 0, 0, {{hash}}, {BEGINNING}, {{no}}), (2, 'a', 1, 0, {{hash}}, {BEGINNING}, {{yes}});
INSERT INTO {{schema}}segments (number, first, last, first_timestamp, last_timestamp, tenant, hash, body) VALUES
    (1, 0, 0, {BEGINNING}, {BEGINNING}, 'a', {{hash}}, {{blob}}'7b7d0a'),
    (2, 0, 0, {BEGINNING}, {BEGINNING}, 'a', {{hash}}, {{blob}}'7b7d0a');
INSERT INTO {{schema}}threads (tenant, thread_id, agent, created_at, updated_at, last_timestamp) VALUES
    ('a', 't1', 'agent', {BEGINNING}, {BEGINNING}, {BEGINNING});
"""


LATER = ("0002_shares", "0003_records", "0004_memory", "0005_deliveries", "0006_outbox")


def first(kind: str) -> list[object]:
    return [item for item in migrations(kind) if item.version == 1]


@pytest.fixture(params=["sqlite", "postgres"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """Made by version 1, with two runs in it, and opened by this one."""
    store: Store
    if request.param == "sqlite":
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_schema, "migrations", first)
            sqlite_schema._make(tmp_path / "holdfast.db")
        connection = connect_writer(tmp_path / "holdfast.db")
        connection.execute(ROWS.format(schema="", no=0, yes=1, blob="x", hash="zeroblob(32)").replace("{{}}", "{}"))
        connection.close()
        assert sqlite_schema.status(tmp_path).pending == LATER
        store = SQLiteStore(tmp_path)
        await store.open()
        yield store
        await store.close()
        assert sqlite_schema.status(tmp_path).pending == ()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    await server.execute("CREATE DATABASE older")
    url = server.url("older")
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migrations", first)
        patch.setattr(postgres_schema, "KNOWN_VERSION", 1)
        await migrate(url)
    connection_ = await asyncpg.connect(url)
    zeros = "decode(repeat('00', 32), 'hex')"
    text = ROWS.format(schema="holdfast.", no="false", yes="true", blob="'\\x' || ", hash=zeros).replace("{{}}", "{}")
    await connection_.execute(text.replace("'\\x' || '7b", "'\\x7b"))
    await connection_.execute("SELECT setval('holdfast.numbers', 2)")
    await connection_.close()
    assert (await postgres_status(url)).pending == LATER
    store = PostgresStore(url)
    await store.open()
    yield store
    await store.close()
    assert (await postgres_status(url)).pending == ()
    await server.drop_database("older")


async def test_an_older_store_is_migrated_and_goes_on(store: Store) -> None:
    info = await store.info()
    (run,) = await store.claim("me", ["agent"], limit=9, lease_seconds=8, limits=Limits(tenant_runs_max=1))
    hand = Hand(store, run)
    await hand.append(2)
    outcome = await one(store, start_run("new", tenant="a", thread_id="t1", lease_owner="me", tenant_runs_max=1))

    assert info.schema_version == SCHEMA_VERSION
    assert (run.run_id, run.lease_epoch) == ("queued", 1)
    assert [item.last for item in await journal(store, run.number)] == [0, 2]
    assert isinstance(outcome, Started)
    assert (outcome.run.number, outcome.run.status) == (3, "queued")
