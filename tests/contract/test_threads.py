"""Threads and their messages."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ThreadBusy
from holdfast.model import Status
from holdfast.store.base import OutboxRow, RunQuery, Store
from tests.contract.making import (
    held,
    inbox_cancel,
    journal,
    key_row,
    message,
    one,
    question,
    started,
    step,
    waiting,
)


async def test_a_thread_is_made_by_its_first_run(store: Store) -> None:
    hand = await started(store, thread_id="t1", created_at=5)

    thread = await store.thread("default", "t1")

    assert thread is not None
    assert (thread.tenant, thread.thread_id, thread.agent, thread.active) == ("default", "t1", "agent", hand.number)
    assert thread.created_at == 5
    assert thread.last_timestamp == hand.run.last_timestamp


async def test_a_thread_follows_its_runs(store: Store) -> None:
    first = await held(store, "r1", thread_id="t1", agent="a", created_at=5)
    await first.finish()
    ended = await store.thread("default", "t1")
    second = await held(store, "r2", thread_id="t1", agent="b")
    going_on = await store.thread("default", "t1")

    assert ended is not None
    assert going_on is not None
    assert (ended.agent, ended.active) == ("a", None)
    assert ended.updated_at == ended.last_timestamp == (await first.row()).last_timestamp
    assert (going_on.agent, going_on.active, going_on.created_at) == ("b", second.number, 5)
    assert going_on.updated_at > ended.updated_at


async def test_the_newest_timestamp_of_a_thread_counts_events_under_way(store: Store) -> None:
    hand = await held(store, thread_id="t1")
    await hand.append(5)

    thread = await store.thread("default", "t1")

    assert thread is not None
    assert thread.last_timestamp == (await hand.row()).last_timestamp


async def test_threads_are_listed_last_changed_first_page_by_page(store: Store) -> None:
    hands = [await held(store, f"r{index}", thread_id=f"t{index}") for index in range(5)]
    await hands[1].finish()
    await hands[0].append(status=Status.WAITING)

    found = []
    before = None
    while page := await store.threads("default", before=before, limit=2):
        found += page
        before = (page[-1].updated_at, page[-1].thread_id)

    assert [thread.thread_id for thread in found] == ["t0", "t1", "t4", "t3", "t2"]
    assert await store.threads("other") == []


async def test_messages_are_kept_in_the_order_in_which_they_came(store: Store) -> None:
    first = await held(store, "r1", thread_id="t1", message=message("u1"))
    await first.finish(messages=(message("a1", role="assistant", media=b"[1]"), message("a2")))
    await held(store, "r2", thread_id="t1", message=message("u2"))

    async def ids(**page: Any) -> list[str]:
        return [item.message_id for item in await store.messages("default", "t1", **page)]

    assert await ids() == ["u1", "a1", "a2", "u2"]
    assert await ids(after=1) == ["a1", "a2", "u2"]
    assert await ids(after=1, limit=2) == ["a1", "a2"]
    assert await ids(after=9) == []
    assert (await store.messages("default", "t1"))[1].media == b"[1]"


async def test_a_message_that_comes_again_takes_the_place_of_the_first(store: Store) -> None:
    hand = await held(store, thread_id="t1")
    await hand.append(messages=(message("m1", content="a"), message("m2")))

    await hand.append(messages=(message("m1", content="b"),))

    assert [item.content for item in await store.messages("default", "t1")] == ["b", "hello"]


async def test_a_deleted_thread_takes_everything_along(store: Store) -> None:
    outbox = (OutboxRow("hook", 0, 0, 1),)
    gone = await waiting(store, "gone", thread_id="t1", message=message("m1"), outbox=outbox, idempotency=key_row())
    await gone.append(status=Status.CANCELLED, interrupts=(question("i2"),), steps=(step(),), unleased=True)
    kept = await held(store, "kept", thread_id="t2", message=message("m2"))

    assert await store.delete_thread("default", "t1")

    assert await store.thread("default", "t1") is None
    assert await store.run("default", "gone") is None
    assert await journal(store, gone.number) == []
    assert await store.messages("default", "t1") == []
    assert await store.steps(gone.number) == []
    assert await store.interrupts(gone.number) == []
    assert await store.pending("default") == []
    assert await store.outbox(limit=9) == []
    assert await store.idempotency("default", "POST", "/runs", "k1") is None
    assert await store.segments_by_time("default", after=0, bytes_max=1 << 20) == await journal(store, kept.number)
    assert [run.run_id for run in await store.runs(RunQuery(tenant=None))] == ["kept"]


async def test_a_thread_with_an_unfinished_run_is_not_deleted(store: Store) -> None:
    hand = await waiting(store, thread_id="t1", message=message("m1"))

    with pytest.raises(ThreadBusy) as caught:
        await store.delete_thread("default", "t1")

    assert caught.value.details == {"active_run_id": "r1", "status": "waiting"}
    assert len(await journal(store, hand.number)) == 2
    assert len(await store.messages("default", "t1")) == 1


async def test_there_is_no_such_thread(store: Store) -> None:
    await (await held(store, thread_id="t1")).finish()

    assert not await store.delete_thread("default", "t2")
    assert not await store.delete_thread("other", "t1")
    assert await store.thread("default", "t1") is not None


async def test_a_deleted_thread_may_begin_anew(store: Store) -> None:
    await (await held(store, "r1", thread_id="t1")).finish()
    await store.delete_thread("default", "t1")

    hand = await held(store, "r1", thread_id="t1")

    assert hand.number == 2
    assert await one(store, inbox_cancel(hand.number))
