"""Idempotency keys of calls that start no run, API keys, files and the outbox."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest

from holdfast.clock import HeldClock
from holdfast.errors import StoreError
from holdfast.model import ApiKey, Delivery, File, Kind, Part, Record
from holdfast.store.base import CallClaim, OutboxRow, Store
from tests.contract.backends import Backend
from tests.contract.making import answered, held, key_row, question, started, waiting

# Idempotency


async def test_a_key_is_begun_once(store: Store) -> None:
    row = key_row()

    assert await store.begin_idempotent(row) is None
    assert await store.begin_idempotent(key_row(fingerprint=b"other")) == row
    assert await store.idempotency("default", "POST", "/runs", "k1") == row


async def test_of_calls_that_race_one_is_the_first(store: Store) -> None:
    found = await asyncio.gather(*(store.begin_idempotent(key_row()) for _ in range(5)))

    assert found.count(None) == 1


async def test_a_finished_call_keeps_its_answer(backend: Backend) -> None:
    row = key_row()
    await backend.store.begin_idempotent(row)
    done = msgspec.structs.replace(row, status=201, body=b'{"a":1}')

    await backend.store.finish_idempotent(done)
    await backend.close()
    await backend.open()

    assert await backend.store.begin_idempotent(row) == done


async def test_a_forgotten_call_may_be_repeated(store: Store) -> None:
    row = key_row()
    await store.begin_idempotent(row)

    await store.finish_idempotent(row)

    assert await store.idempotency("default", "POST", "/runs", "k1") is None
    assert await store.begin_idempotent(row) is None


async def test_forgetting_leaves_an_answer_that_is_there(store: Store) -> None:
    row = key_row()
    done = msgspec.structs.replace(row, status=200)
    await store.begin_idempotent(row)
    await store.finish_idempotent(done)

    await store.finish_idempotent(row)

    assert await store.begin_idempotent(row) == done


async def test_an_expired_key_is_as_if_it_never_was(store: Store, clock: HeldClock) -> None:
    await store.begin_idempotent(key_row(expires_at=clock.now() + 1_000_000))
    clock.advance(1)
    assert await store.idempotency("default", "POST", "/runs", "k1") is None

    again = key_row(fingerprint=b"new")

    assert await store.begin_idempotent(again) is None
    assert await store.idempotency("default", "POST", "/runs", "k1") == again


@pytest.mark.parametrize("change", [{"tenant": "b"}, {"method": "PUT"}, {"path": "/x"}, {"key": "k2"}])
async def test_keys_of_other_calls_are_other_keys(store: Store, change: dict[str, Any]) -> None:
    await store.begin_idempotent(key_row())

    assert await store.begin_idempotent(key_row(**change)) is None


async def test_the_key_of_a_start_can_be_looked_up(store: Store) -> None:
    hand = await started(store, idempotency=key_row())

    row = await store.idempotency("default", "POST", "/runs", "k1")

    assert row is not None
    assert (row.number, row.fingerprint) == (hand.number, b"same")


# API keys


def api_key(name: str, **changes: Any) -> ApiKey:
    made = ApiKey(name=name, hash=f"hash of {name}", role="admin", tenant="default", created_at=1)
    return msgspec.structs.replace(made, **changes)


async def test_keys_are_kept_by_name(backend: Backend) -> None:
    assert await backend.store.add_key(api_key("b"))
    assert await backend.store.add_key(api_key("a", role="reader", tenant="acme"))
    await backend.close()
    await backend.open()

    assert await backend.store.keys() == [api_key("a", role="reader", tenant="acme"), api_key("b")]


async def test_a_name_in_force_is_taken(store: Store) -> None:
    await store.add_key(api_key("a"))

    assert not await store.add_key(api_key("a", hash="other"))
    assert await store.keys() == [api_key("a")]


async def test_a_revoked_key_is_still_listed_and_its_name_is_free(store: Store) -> None:
    await store.add_key(api_key("a"))

    assert await store.revoke_key("a", 5)
    assert not await store.revoke_key("a", 6)
    assert not await store.revoke_key("b", 6)
    assert await store.add_key(api_key("a", hash="new"))
    assert await store.keys() == [api_key("a", revoked_at=5), api_key("a", hash="new")]


# Files


def file_of(content: bytes, file_id: str = "f1", **changes: Any) -> File:
    made = File(
        file_id=file_id,
        tenant="default",
        name="a.txt",
        media_type="text/plain",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=1,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00\xff" * 1_000_000], ids=["empty", "small", "large"])
async def test_a_file_reads_back(backend: Backend, content: bytes) -> None:
    hand = await held(backend.store)
    file = file_of(content, number=hand.number)

    await backend.store.put_file(file, content)
    await backend.close()
    await backend.open()

    assert await backend.store.file("default", "f1") == (file, content)


async def test_files_with_the_same_content_are_files_of_their_own(store: Store) -> None:
    files = [file_of(b"same", f"f{index}", tenant=tenant) for index, tenant in enumerate(("a", "b", "a"))]

    await asyncio.gather(*(store.put_file(file, b"same") for file in files))

    for file in files:
        assert await store.file(file.tenant, file.file_id) == (file, b"same")


async def test_a_content_that_is_not_the_one_named_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.put_file(file_of(b"one"), b"two")

    assert await store.file("default", "f1") is None


# The outbox


async def test_rows_wait_in_the_outbox_until_they_are_taken(store: Store) -> None:
    hand = await held(store)
    rows = [OutboxRow(endpoint, hand.number, sequence, 9) for sequence in (1, 2) for endpoint in ("b", "a")]
    await hand.append(outbox=tuple(rows[:2]))
    await hand.append(outbox=tuple(rows[2:]))

    assert await store.outbox(limit=9) == rows
    assert await store.outbox(limit=3) == rows[:3]
    await store.outbox_done([rows[0], rows[3]])
    assert await store.outbox(limit=9) == rows[1:3]
    await store.outbox_done([])
    await store.outbox_done(rows)
    assert await store.outbox(limit=9) == []


# Claims of tool calls


async def test_a_call_has_one_worker_at_a_time_and_a_claim_is_numbered(store: Store) -> None:
    parts = [Part(tool_call_id=name, tool="find") for name in ("c1", "c2")]
    hand = await waiting(store, interrupt=question(kind=Kind.TOOL, parts=parts))

    async def claim(worker: str, at: int, seconds: int, *call_ids: str) -> set[str]:
        given = CallClaim(number=hand.number, worker=worker, call_ids=call_ids, at=at, until=at + seconds)
        return await store.claim_calls(given)

    async def numbers() -> list[tuple[str | None, int]]:
        (interrupt,) = await store.interrupts(hand.number)
        return [(part.claim_worker, part.claim_number) for part in interrupt.parts]

    assert await claim("a", 0, 10, "c1", "c2", "c3") == {"c1", "c2"}
    assert await claim("b", 9, 10, "c1") == set()
    assert await claim("a", 9, 10, "c1") == {"c1"}
    assert await numbers() == [("a", 1), ("a", 1)]
    assert await claim("b", 10, 10, "c1", "c2") == {"c2"}
    assert await claim("a", 30, 10, "c1") == {"c1"}, "it ran out, and nobody else came"
    assert await numbers() == [("a", 1), ("b", 2)]
    assert await claim("a", 31, 0, "c1", "c2") == {"c1"}
    assert await claim("b", 31, 10, "c1") == {"c1"}
    assert await numbers() == [("b", 2), ("b", 2)]
    answer = answered(tool_call_id="c1")
    await hand.append(1, answers=(answer,))
    assert await claim("b", 32, 10, "c1", "c2") == {"c2"}


async def test_of_workers_that_race_one_has_the_call(store: Store) -> None:
    hand = await waiting(store, interrupt=question(kind=Kind.TOOL, parts=[Part(tool_call_id="c1", tool="find")]))
    claims = [CallClaim(number=hand.number, worker=f"w{index}", call_ids=("c1",), at=0, until=9) for index in range(5)]

    found = await asyncio.gather(*(store.claim_calls(claim) for claim in claims))

    assert sorted(map(len, found)) == [0, 0, 0, 0, 1]


# Records


def record(name: str = "find", body: bytes = b"{}", **changes: Any) -> Record:
    given: dict[str, Any] = {
        "kind": "tool",
        "tenant": "default",
        "name": name,
        "body": body,
        "created_at": 1,
        "updated_at": 1,
    }
    return Record(**(given | changes))


async def test_records_are_put_replaced_listed_and_deleted(backend: Backend) -> None:
    store = backend.store
    await store.put_records([record("b"), record("a"), record("a", kind="other"), record("a", tenant="acme")])
    await store.put_records([record("b", b"new", created_at=7, updated_at=7), record("c ä", number=3)])
    await store.put_records([])
    await backend.close()
    await backend.open()
    store = backend.store

    assert await store.record("default", "tool", "b") == record("b", b"new", updated_at=7)
    assert await store.record("default", "tool", "x") is None
    assert [item.name for item in await store.records("tool", tenant="default")] == ["b", "a", "c ä"]
    assert [item.tenant for item in await store.records("tool")] == ["default", "default", "acme", "default"]
    assert [item.name for item in await store.records("tool", number=3)] == ["c ä"]
    assert await store.delete_record("default", "tool", "a")
    assert not await store.delete_record("default", "tool", "a")
    assert await store.record("acme", "tool", "a") is not None


# Endpoints and deliveries


async def test_a_record_is_swapped_for_the_one_that_was_read(store: Store) -> None:
    record = Record(kind="tool", tenant="a", name="x", body=b"1", created_at=1, updated_at=1)
    await store.put_records([record])

    assert await store.swap_record(msgspec.structs.replace(record, body=b"2", updated_at=2), b"1")
    assert not await store.swap_record(msgspec.structs.replace(record, body=b"3"), b"1")
    assert await store.record("a", "tool", "x") == msgspec.structs.replace(record, body=b"2", updated_at=2)


async def test_a_run_is_heard_of_whatever_characters_its_metadata_have(store: Store) -> None:
    """The stores look into them for an endpoint. Some databases do not take a NUL."""
    odd = "\0 \x1b \x1b0 \\u0000 \\\0 \\\x1b1 \u2028"
    await store.put_records([record("whe_one", kind="run_endpoint")])
    metadata = {odd: [odd], "webhook_endpoint": "whe_one"}

    hand = await held(store, "odd", outbox=(OutboxRow("", 0, 0, 5),), metadata=metadata)
    await hand.append(1, outbox=(OutboxRow("", hand.number, 1, 6),))

    assert [(item.endpoint_id, item.sequence) for item in await store.outbox(limit=9)] == [
        ("whe_one", 0),
        ("whe_one", 1),
    ]
    assert (await hand.row()).metadata == metadata


async def test_an_event_is_noted_for_each_endpoint_that_wants_to_hear_of_the_run(store: Store) -> None:
    nobody = await started(store, "before", outbox=(OutboxRow("", 0, 0, 5),))
    await store.put_records(
        [
            record("whe_all", kind="endpoint"),
            record("whe_acme", kind="endpoint", tenant="acme"),
            record("whe_one", kind="run_endpoint"),
            record("whe_else", kind="run_endpoint"),
        ]
    )
    row = OutboxRow("", 0, 0, 5)
    plain = await held(store, "plain", outbox=(row,))
    named = await started(store, "named", outbox=(row,), metadata={"webhook_endpoint": "whe_one"})
    foreign = await started(store, "foreign", tenant="acme", outbox=(row,), metadata={"webhook_endpoint": "whe_one"})
    await plain.append(1, outbox=(OutboxRow("", plain.number, 1, 6),))

    found = {(item.endpoint_id, item.number, item.sequence) for item in await store.outbox(limit=99)}

    assert nobody.number not in {number for _, number, _ in found}
    assert found == {
        ("whe_all", plain.number, 0),
        ("whe_all", plain.number, 1),
        ("whe_all", named.number, 0),
        ("whe_one", named.number, 0),
        ("whe_acme", foreign.number, 0),
    }


def delivery(number: int = 1, **changes: Any) -> Delivery:
    given: dict[str, Any] = {
        "delivery_id": f"whd_{number}",
        "endpoint_id": "whe_1",
        "tenant": "default",
        "event_id": f"msg_{number}",
        "type": "run.started",
        "number": number,
        "sequence": 0,
        "body": b'{"a":"\xc3\xa4"}',
        "next_attempt_at": 10 + number,
        "created_at": number,
    }
    return Delivery(**(given | changes))


async def test_outbox_rows_become_deliveries_once(backend: Backend) -> None:
    store = backend.store
    hand = await held(store)
    rows = [OutboxRow("whe_1", hand.number, 0, 5), OutboxRow("whe_1", hand.number, 1, 5)]
    await hand.append(outbox=tuple(rows))

    await store.deliver([delivery()], rows[:1])
    await store.deliver([delivery(delivery_id="whd_9", body=b"other")], rows[:1])
    await backend.close()
    await backend.open()

    assert await backend.store.outbox(limit=9) == rows[1:]
    assert await backend.store.deliveries("whe_1") == [delivery()]


async def test_deliveries_are_taken_when_they_are_due_by_one_at_a_time(store: Store) -> None:
    await store.deliver([delivery(number, endpoint_id=f"whe_{number % 2}") for number in range(1, 6)], [])

    both = await asyncio.gather(*(store.take_deliveries(now=13, until=20, limit=2, endpoint_max=2) for _ in range(2)))
    full = await store.take_deliveries(now=15, until=20, limit=9, endpoint_max=2)
    later = await store.take_deliveries(now=20, until=30, limit=9, endpoint_max=9)

    assert sorted(item.delivery_id for found in both for item in found) == ["whd_1", "whd_2", "whd_3"]
    assert [item.delivery_id for item in full] == ["whd_4"]  # of the other endpoint two are being sent
    assert [item.delivery_id for item in later] == ["whd_1", "whd_2", "whd_3", "whd_4", "whd_5"]
    done = msgspec.structs.replace(later[0], status="delivered", attempts=b"[1]", tries=1, next_attempt_at=None)
    again = msgspec.structs.replace(later[1], attempts=b"[1]", tries=1, next_attempt_at=25)
    await store.put_delivery(done)
    await store.put_delivery(again)
    assert await store.take_deliveries(now=25, until=30, limit=9, endpoint_max=4) == [again]
    assert done in await store.deliveries("whe_1")


async def test_deliveries_are_listed_held_and_scheduled_anew(store: Store) -> None:
    await store.deliver([delivery(number) for number in range(1, 5)], [])
    (first,) = await store.take_deliveries(now=11, until=99, limit=1, endpoint_max=4)
    await store.put_delivery(msgspec.structs.replace(first, status="failed", next_attempt_at=None, tries=10))

    newest = await store.deliveries("whe_1", limit=2)
    assert [item.number for item in newest] == [4, 3]
    assert [item.number for item in await store.deliveries("whe_1", before="whd_3")] == [2, 1]
    assert [item.number for item in await store.deliveries("whe_1", status="failed")] == [1]
    assert [item.number for item in await store.deliveries("whe_1", number=2)] == [2]
    assert await store.hold_deliveries("whe_1") == 3
    assert await store.take_deliveries(now=99, until=100, limit=9, endpoint_max=4) == []
    assert await store.replay_deliveries("whe_1", now=50, event_ids=["msg_1", "msg_2", "msg_9"]) == 2
    assert await store.replay_deliveries("whe_1", now=50, since=3, until=4) == 1
    assert await store.replay_deliveries("whe_2", now=50, status="held") == 0
    taken = await store.take_deliveries(now=50, until=60, limit=9, endpoint_max=4)
    assert [(item.number, item.tries) for item in taken] == [(1, 0), (2, 0), (3, 0)]
    assert await store.prune_deliveries(3) == 2
    assert [item.number for item in await store.deliveries("whe_1")] == [4, 3]


async def test_an_attempt_that_ends_while_its_endpoint_is_held_stays_held(store: Store) -> None:
    await store.deliver([delivery()], [])
    (taken,) = await store.take_deliveries(now=99, until=100, limit=1, endpoint_max=4)
    await store.hold_deliveries("whe_1")

    await store.put_delivery(msgspec.structs.replace(taken, tries=1, next_attempt_at=200))

    assert [item.status for item in await store.deliveries("whe_1")] == ["held"]
