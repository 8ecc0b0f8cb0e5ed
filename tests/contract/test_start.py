"""StartRun: a run and its first events, or a refusal that leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.clock import HeldClock
from holdfast.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    LeaseLost,
    QueueFull,
    RunExists,
    ThreadBusy,
)
from holdfast.model import Cancel, Failure, Part, Status
from holdfast.store.base import OutboxRow, RunQuery, Started, Store
from tests.contract.backends import Backend
from tests.contract.making import (
    LEASE_SECONDS,
    Hand,
    held,
    journal,
    key_row,
    message,
    one,
    question,
    refusal,
    segment,
    start_run,
    started,
    step,
    tick,
)


async def test_a_started_run_reads_back_as_it_was_given(store: Store) -> None:
    write = start_run(
        "r1",
        tenant="acme",
        thread_id="t1",
        parent=7,
        priority=3,
        caller="key",
        role="executor",
        trust="low",
        metadata={"a": [1, {"b": None}]},
        timeout_seconds=1.5,
        usage=b"{}",
    )

    outcome = await one(store, write)

    assert isinstance(outcome, Started)
    assert not outcome.replayed
    assert await store.run("acme", "r1") == outcome.run
    assert await store.run_by_number(outcome.run.number) == outcome.run
    for name in ("tenant", "thread_id", "parent", "priority", "caller", "role", "trust", "metadata", "input", "usage"):
        assert getattr(outcome.run, name) == getattr(write.run, name)
    assert outcome.run.tail_sequence == 0
    assert outcome.run.head_hash == write.segment.hash
    assert outcome.run.last_timestamp == write.segment.last_timestamp


async def test_structured_columns_read_back_as_structs(store: Store) -> None:
    failure, cancel = Failure("broken", "agent_execution_error", {"type": "ValueError"}), Cancel("enough", 5, None)

    hand = await started(store, status=Status.FAILED, error=failure, cancel=cancel, epoch=2, epochs=((1, 5), (2, 9)))

    run = await hand.row()
    assert (run.error, run.cancel, run.epoch, run.epochs) == (failure, cancel, 2, ((1, 5), (2, 9)))


async def test_numbers_grow_from_one(store: Store) -> None:
    outcomes = await store.commit([start_run(f"r{index}") for index in range(100)])

    assert [outcome.run.number for outcome in outcomes if isinstance(outcome, Started)] == list(range(1, 101))


async def test_a_refused_start_takes_no_number(store: Store) -> None:
    outcomes = await store.commit([start_run("a"), start_run("a"), start_run("b")])

    assert [outcome.run.number for outcome in outcomes if isinstance(outcome, Started)] == [1, 2]
    refusal(outcomes[1], RunExists)


async def test_numbers_are_not_given_out_again_after_a_restart(backend: Backend) -> None:
    await started(backend.store, "r1")
    await backend.close()
    await backend.open()

    assert (await started(backend.store, "r2")).number == 2


async def test_the_first_events_are_in_the_journal(store: Store) -> None:
    hand = await started(store, segment=segment(count=3, marks=((1, 2, "step"),)))

    (found,) = await journal(store, hand.number)

    assert (found.number, found.first, found.last, found.marks) == (hand.number, 0, 2, ((1, 2, "step"),))
    assert hand.run.tail_sequence == 2


async def test_a_taken_run_id_is_refused(store: Store) -> None:
    await started(store, "r1")

    refusal(await one(store, start_run("r1")), RunExists)
    assert len(await store.runs(RunQuery(tenant=None))) == 1


async def test_two_tenants_may_use_the_same_run_id(store: Store) -> None:
    await started(store, "r1", tenant="a")

    assert isinstance(await one(store, start_run("r1", tenant="b")), Started)


async def test_of_two_starts_with_the_same_run_id_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(*(one(store, start_run("r1")) for _ in range(5)))

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RunExists"] * 4 + ["Started"]


async def test_a_thread_has_one_active_run(store: Store) -> None:
    await started(store, "r1", thread_id="t1")

    error = refusal(await one(store, start_run("r2", thread_id="t1")), ThreadBusy)

    assert (error.details["active_run_id"], error.details["status"]) == ("r1", "queued")
    assert await store.run("default", "r2") is None


async def test_a_thread_takes_the_next_run_when_the_last_is_over(store: Store) -> None:
    hand = await held(store, "r1", thread_id="t1")
    await hand.finish()

    assert isinstance(await one(store, start_run("r2", thread_id="t1")), Started)


async def test_within_one_commit_an_end_makes_room_for_the_next_run_of_its_thread(store: Store) -> None:
    hand = await held(store, "r1", thread_id="t1")

    ended, second = await store.commit(
        [hand.next(status=Status.COMPLETED, ended_at=tick()), start_run("r2", thread_id="t1")]
    )

    assert ended is None
    assert isinstance(second, Started)


async def test_runs_without_a_thread_do_not_hinder_each_other(store: Store) -> None:
    outcomes = await store.commit([start_run("r1"), start_run("r2")])

    assert all(isinstance(outcome, Started) for outcome in outcomes)


async def test_the_queue_is_bounded(store: Store) -> None:
    await store.commit([start_run(f"r{index}", queued_max=3) for index in range(3)])

    error = refusal(await one(store, start_run("late", queued_max=3)), QueueFull)

    assert error.details["retry_after"] > 0


async def test_a_run_that_starts_at_once_needs_no_place_in_the_queue(store: Store) -> None:
    await started(store, "r1", queued_max=1)

    assert isinstance(await one(store, start_run("r2", queued_max=1, lease_owner="me")), Started)


async def test_a_run_may_start_leased(store: Store, clock: HeldClock) -> None:
    hand = await held(store, lease_owner="me")

    run = await hand.row()
    assert (run.status, run.lease_owner, run.lease_epoch) == (Status.RUNNING, "me", 1)
    assert run.lease_until is not None
    assert await store.claim("you", ["agent"], limit=9, lease_seconds=LEASE_SECONDS) == []


async def test_a_start_brings_its_message_and_outbox_rows_under_its_own_number(store: Store) -> None:
    outbox = (OutboxRow("hook", 0, 0, 5),)

    hand = await started(store, thread_id="t1", message=message("m1"), outbox=outbox)

    assert [item.number for item in await store.messages("default", "t1")] == [hand.number]
    assert await store.outbox(limit=9) == [OutboxRow("hook", hand.number, 0, 5)]


async def test_superseded_turns_leave_the_conversation(store: Store) -> None:
    first = await held(store, "r1", thread_id="t1", message=message("m1"))
    await first.finish(messages=(message("m2", role="assistant"),))

    await started(store, "r2", thread_id="t1", message=message("m3"), supersedes=(first.number,))

    assert [item.message_id for item in await store.messages("default", "t1")] == ["m3"]
    everything = await store.messages("default", "t1", superseded=True)
    assert [(item.message_id, item.superseded) for item in everything] == [("m1", True), ("m2", True), ("m3", False)]
    assert (await first.row()).superseded


async def test_a_start_supersedes_nothing_of_another_tenant(store: Store) -> None:
    theirs = await held(store, "r1", tenant="theirs", thread_id="t1", message=message("m1"))

    await started(store, "r2", thread_id="t1", supersedes=(theirs.number,))

    assert not (await theirs.row()).superseded
    assert [item.message_id for item in await store.messages("theirs", "t1")] == ["m1"]


# Idempotency


async def test_a_repeated_start_gives_the_same_run(store: Store) -> None:
    hand = await held(store, "r1", idempotency=key_row())
    await hand.append()

    outcome = await one(store, start_run("another-id", idempotency=key_row()))

    assert outcome == Started(await hand.row(), replayed=True)


async def test_a_repeated_start_is_recognised_after_a_restart(backend: Backend) -> None:
    await started(backend.store, "r1", idempotency=key_row())
    await backend.close()
    await backend.open()

    outcome = await one(backend.store, start_run("r2", idempotency=key_row()))

    assert isinstance(outcome, Started)
    assert (outcome.run.run_id, outcome.replayed) == ("r1", True)


async def test_starts_that_race_under_one_key_start_one_run(store: Store) -> None:
    writes = [start_run(f"r{index}", idempotency=key_row()) for index in range(5)]

    outcomes = await store.commit(writes)

    assert [outcome.run.run_id for outcome in outcomes if isinstance(outcome, Started)] == ["r0"] * 5
    assert [outcome.replayed for outcome in outcomes if isinstance(outcome, Started)] == [False, *[True] * 4]


async def test_a_key_belongs_to_one_call(store: Store) -> None:
    await started(store, "r1", idempotency=key_row(fingerprint=b"one"))

    refusal(await one(store, start_run("r2", idempotency=key_row(fingerprint=b"two"))), IdempotencyKeyReused)
    assert await store.run("default", "r2") is None


async def test_a_key_is_per_tenant_method_and_path(store: Store) -> None:
    await started(store, "r1", idempotency=key_row())

    others: list[dict[str, Any]] = [{"tenant": "b"}, {"method": "PUT"}, {"path": "/other"}]
    for index, other in enumerate(others):
        write = start_run(f"s{index}", tenant=other.get("tenant", "default"), idempotency=key_row(**other))
        outcome = await one(store, write)
        assert isinstance(outcome, Started)
        assert not outcome.replayed


async def test_the_key_is_looked_up_before_run_id_thread_and_queue(store: Store) -> None:
    await started(store, "r1", thread_id="t1", idempotency=key_row())

    same = start_run("r1", thread_id="t1", queued_max=0, idempotency=key_row())
    other = start_run("r1", thread_id="t1", queued_max=0, idempotency=key_row(fingerprint=b"other"))
    outcomes = await store.commit([same, other])

    assert isinstance(outcomes[0], Started)
    refusal(outcomes[1], IdempotencyKeyReused)


async def test_the_run_id_is_looked_up_before_the_thread(store: Store) -> None:
    await started(store, "r1", thread_id="t1")

    refusal(await one(store, start_run("r1", thread_id="t1")), RunExists)


async def test_a_refused_start_does_not_use_up_its_key(store: Store) -> None:
    await started(store, "r1")
    refusal(await one(store, start_run("r1", idempotency=key_row())), RunExists)

    outcome = await one(store, start_run("r2", idempotency=key_row()))

    assert isinstance(outcome, Started)
    assert not outcome.replayed


async def test_an_expired_key_is_free_again(store: Store, clock: HeldClock) -> None:
    await started(store, "r1", idempotency=key_row(expires_at=clock.now() + 1_000_000))
    clock.advance(1)

    outcome = await one(store, start_run("r2", idempotency=key_row()))

    assert isinstance(outcome, Started)
    assert not outcome.replayed


async def test_a_key_whose_call_is_at_work_starts_nothing(store: Store) -> None:
    await store.begin_idempotent(key_row())

    refusal(await one(store, start_run("r1", idempotency=key_row())), IdempotencyInProgress)


async def test_refused_and_accepted_starts_of_one_batch_do_not_touch_each_other(store: Store) -> None:
    hand = await held(store, "r0", thread_id="t0")

    outcomes = await store.commit(
        [
            start_run("r1", thread_id="t0"),
            start_run("r2", thread_id="t2"),
            start_run("r0"),
            hand.next(),
            start_run("r3", thread_id="t2"),
            Hand(store, hand.run).next(),
            start_run("r4"),
        ]
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [ThreadBusy, Started, RunExists, type(None), ThreadBusy, LeaseLost, Started]
    found = await store.runs(RunQuery(tenant=None))
    assert [run.run_id for run in found] == ["r4", "r2", "r0"]
    assert sum([(await store.counts())[status] for status in (Status.QUEUED, Status.RUNNING)]) == 3


async def test_a_fork_starts_with_steps_and_answered_interrupts(store: Store) -> None:
    """They get the new run's number, in the transaction that starts it; a refused start leaves none."""
    first, part = step("a", reused=True, sequence=0, completed_at=tick()), Part(answer=b'"yes"', by="caller")
    asked = question("i9", status="resolved", resolved_at=tick(), parts=(part,))
    writes = [start_run("r1"), start_run("r2", steps=(first, step("b", reused=True)), interrupts=(asked,))]

    plain, fork = await store.commit(writes)
    again = await one(store, start_run("r2", steps=(step("c"),)))

    assert isinstance(plain, Started)
    assert isinstance(fork, Started)
    refusal(again, RunExists)
    number = fork.run.number
    assert await store.steps(plain.run.number) == []
    assert [(item.number, item.key, item.reused) for item in await store.steps(number)] == [
        (number, "a", True),
        (number, "b", True),
    ]
    (found,) = await store.interrupts(number)
    assert (found.number, found.status, found.is_reused, found.parts) == (number, "resolved", True, (part,))
    assert await store.pending("default") == []
