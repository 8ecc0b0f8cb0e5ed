"""Copying a stopped store: journals byte for byte, cursors and everything else as they were."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.errors import JournalCorrupt, StoreRefused
from holdfast.model import ApiKey, File, Segment, Status
from holdfast.store.base import IdempotencyRow, OutboxRow, RunQuery, Store
from holdfast.store.copy import End, copy
from holdfast.store.memory import MemoryItem, Soul
from holdfast.store.postgres import PostgresEnd, PostgresStore
from holdfast.store.sqlite import SQLiteEnd, SQLiteStore
from tests.contract.making import (
    Hand,
    answered,
    held,
    inbox_cancel,
    journal,
    key_row,
    message,
    one,
    question,
    segment,
    started,
    step,
    waiting,
)
from tests.support.postgres import PostgresServer

DIRECTIONS = ["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite", "postgres to postgres"]


class Places:
    """Opens the same place as often as asked, and closes all in the end."""

    def __init__(self, tmp_path: Path, server: PostgresServer | None) -> None:
        self._tmp_path, self._server = tmp_path, server
        self._databases: dict[str, str] = {}
        self._open: list[SQLiteStore | PostgresStore] = []

    async def end(self, kind: str, name: str) -> End:
        if kind == "sqlite":
            embedded = SQLiteStore(self._tmp_path / name)
            await embedded.open()
            self._open.append(embedded)
            return SQLiteEnd(embedded)
        assert self._server is not None
        if name not in self._databases:
            self._databases[name] = await self._server.make_database()
        store = PostgresStore(self._server.url(self._databases[name]))
        await store.open()
        self._open.append(store)
        return PostgresEnd(store)

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        self._open.clear()

    async def remove(self) -> None:
        await self.close()
        for database in self._databases.values():
            assert self._server is not None
            await self._server.give_back(database)


@pytest.fixture
async def places(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Places]:
    places = Places(tmp_path, postgres)
    yield places
    await places.remove()


async def fill(store: Store) -> None:
    """A bit of everything."""
    marked = segment(count=3, marks=((1, 2, "a"),))
    done = await held(
        store,
        "done",
        thread_id="t1",
        segment=marked,
        message=message("m1", content="a\x00b", media=b"[1]"),
        idempotency=key_row(),
        metadata={"k": [1, None]},
    )
    await done.append(5, pad=5000, steps=(step("one"), step("two", status="failed", output=None)))
    await done.finish(
        messages=(message("m2", role="assistant", detail=b"[]"),), outbox=(OutboxRow("hook", done.number, 8, 3),)
    )
    asks = await waiting(store, "asks", thread_id="t1", tenant="acme", epoch=2, epochs=((2, 1),))
    await asks.append(answers=(answered(),), interrupts=(question(status="resolved", resolved_at=5),), unleased=True)
    runs = await held(store, "runs")
    await one(store, inbox_cancel(runs.number))
    for index in range(120):
        await runs.append(pad=index)
    pruned = await held(store, "pruned", thread_id="t2")
    await pruned.append(3)
    await pruned.append(status=Status.COMPLETED, ended_at=50)
    await store.prune(ended_before=51, rows_before=0, now=0)
    await store.add_key(ApiKey(name="a", hash="h", role="admin", tenant="default", created_at=1))
    await store.revoke_key("a", 2)
    await store.add_key(ApiKey(name="a", hash="h2", role="admin", tenant="default", created_at=3))
    await store.begin_idempotent(
        IdempotencyRow(tenant="b", method="GET", path="/x", key="k", fingerprint=b"\xff", created_at=1, expires_at=None)
    )
    for index, content in enumerate((b"", b"x" * 1_500_000, b"")):
        digest = hashlib.sha256(content).hexdigest()
        file = File(
            file_id=f"f{index}",
            tenant="default",
            number=done.number,
            name="n",
            media_type="m",
            size=len(content),
            sha256=digest,
            created_at=1,
        )
        await store.put_file(file, content)
    fact = MemoryItem(
        tenant="acme",
        store="knowledge",
        item_id="k1",
        fields=b'{"content":"The Cafe"}',
        words="the cafe",
        source="test",
        created_at=1,
        updated_at=2,
        valid_from=3,
        vector=b"\x00\x00\x80\x3f",
        vector_bits=b"\x80",
        vector_model="m",
    )
    await store.memory.put(fact, msgspec.structs.replace(fact, item_id="k2"))
    await store.memory.delete("acme", "knowledge", "k2")
    await store.memory.put_soul(Soul(tenant="acme", version=1, body=b"{}", caller="me", created_at=1))
    await store.memory.put_working("default", "t1", number=done.number, key="k", value=b"1", now=1)


async def everything(store: Store) -> dict[str, Any]:
    """What can be seen of a store."""
    runs = await store.runs(RunQuery(tenant=None, limit=1000))
    info = await store.info()
    return {
        "info": (info.store_id, info.last_timestamp, info.restored),
        "runs": [msgspec.structs.replace(run, lease_owner=None, lease_until=None) for run in runs],
        "journals": [await journal(store, run.number) for run in runs],
        "steps": [await store.steps(run.number) for run in runs],
        "interrupts": [await store.interrupts(run.number) for run in runs],
        "inbox": [msgspec.structs.replace(row, inbox_id=0) for row in await store.inbox([run.number for run in runs])],
        "threads": [await store.threads(tenant) for tenant in ("default", "acme")],
        "messages": await store.messages("default", "t1", superseded=True),
        "keys": await store.keys(),
        "files": [await store.file("default", f"f{index}") for index in range(3)],
        "outbox": await store.outbox(limit=99),
        "idempotency": [
            await store.idempotency("default", "POST", "/runs", "k1"),
            await store.idempotency("b", "GET", "/x", "k"),
        ],
        "lost": await store.lost("default"),
        "memory": await store.memory.everything("acme"),
        "found": await store.memory.search("acme", "knowledge", ["cafe"], now=5, limit=9),
        "working": await store.memory.working("default", "t1"),
        "by time": await store.segments_by_time("default", after=0, bytes_max=1 << 24),
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_copy_is_the_same_in_everything(places: Places, direction: str) -> None:
    kinds = direction.split(" to ")
    source = await places.end(kinds[0], "source")
    await fill(source.store)
    before = await everything(source.store)
    target = await places.end(kinds[1], "target")

    counts = await copy(source, target)
    await places.close()
    copied = await places.end(kinds[1], "target")

    assert await everything(copied.store) == before
    assert counts["runs"] == 4
    assert counts["files"] == 3
    assert [hit.item.item_id for hit in before["found"]] == ["k1"]


@pytest.mark.parametrize("direction", DIRECTIONS[:2])
async def test_a_copy_goes_on_where_the_source_was(places: Places, direction: str) -> None:
    kinds = direction.split(" to ")
    source = await places.end(kinds[0], "source")
    await fill(source.store)
    await copy(source, await places.end(kinds[1], "target"))
    await places.close()
    store = (await places.end(kinds[1], "target")).store

    claimed = await store.claim("somebody", ["agent"], limit=9, lease_seconds=8)

    (run,) = [run for run in claimed if run.run_id == "runs"]
    assert await one(store, Hand(store, run).next()) is None
    assert (await started(store, "next")).number == 5


async def test_only_an_empty_store_is_filled(places: Places) -> None:
    for kind in ("sqlite", "postgres"):
        source, target = await places.end("sqlite", f"source-{kind}"), await places.end(kind, kind)
        await started(target.store)

        with pytest.raises(StoreRefused, match="empty"):
            await copy(source, target)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_an_unfinished_copy_does_not_open(places: Places, kind: str) -> None:
    source, target = await places.end("sqlite", "source"), await places.end(kind, "target")
    hand = await held(source.store)
    write = hand.next()
    assert isinstance(write.segment, Segment)
    bad = msgspec.structs.replace(write.segment, hash=bytes(32))
    await source.store.commit([msgspec.structs.replace(write, segment=bad)])

    with pytest.raises(JournalCorrupt) as caught:
        await copy(source, target)
    await places.close()

    assert caught.value.details == {"first_bad_sequence": 1}
    with pytest.raises(StoreRefused, match="unfinished copy"):
        await places.end(kind, "target")


async def test_a_database_that_others_use_is_not_copied(places: Places) -> None:
    source = await places.end("postgres", "source")
    await places.end("postgres", "source")

    with pytest.raises(StoreRefused, match="1 other process"):
        await copy(source, await places.end("sqlite", "target"))
