"""Append: the journal goes on, fenced, with all that hangs on it or nothing."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from holdfast.errors import ConflictError, InterruptNotFound, InterruptResolved, LeaseLost
from holdfast.model import Cancel, Failure, Status
from holdfast.store.base import OutboxRow, Store, Write
from tests.contract.backends import Backend
from tests.contract.making import (
    LEASE_SECONDS,
    Hand,
    answered,
    held,
    inbox_cancel,
    journal,
    message,
    one,
    question,
    refusal,
    start_run,
    started,
    step,
    waiting,
)


async def test_appended_events_follow_the_ones_before(store: Store) -> None:
    hand = await held(store)

    writes = [hand.next(2), hand.next(1), hand.next(3)]
    assert await store.commit(writes) == [None, None, None]

    found = await journal(store, hand.number)
    assert [(item.first, item.last) for item in found] == [(0, 0), (1, 2), (3, 3), (4, 6)]
    assert found[1:] == [write.segment for write in writes]
    run = await hand.row()
    assert (run.tail_sequence, run.head_hash) == (6, hand.prior)
    assert writes[-1].segment is not None
    assert run.last_timestamp == writes[-1].segment.last_timestamp


async def test_what_was_committed_is_there_after_a_restart(backend: Backend) -> None:
    hand = await held(backend.store)
    await hand.append(2, steps=(step(),))
    before = await journal(backend.store, hand.number)
    await backend.close()
    await backend.open()

    assert await journal(backend.store, hand.number) == before
    assert [item.key for item in await backend.store.steps(hand.number)] == ["fetch"]


@pytest.mark.parametrize("change", [{"lease_epoch": 0}, {"lease_epoch": 2}, {"tail": 5}, {"tail": -1}, {"number": 99}])
@pytest.mark.parametrize("status", [None, Status.WAITING])
async def test_a_writer_that_is_behind_is_refused(store: Store, change: dict[str, int], status: Status | None) -> None:
    hand = await held(store)
    write = msgspec.structs.replace(hand.next(status=status, steps=(step(),)), **change)

    refusal(await one(store, write), LeaseLost)

    assert len(await journal(store, hand.number)) == 1
    assert await store.steps(hand.number) == []
    assert (await hand.row()).status is Status.RUNNING


async def test_a_proof_without_events_is_fenced_too(store: Store) -> None:
    hand = await held(store)
    await hand.append(0, steps=(step("a"),))
    late = msgspec.structs.replace(hand.next(0, steps=(step("b"),)), lease_epoch=7)

    refusal(await one(store, late), LeaseLost)

    assert [item.key for item in await store.steps(hand.number)] == ["a"]


async def test_a_former_holder_can_write_nothing_any_more(backend: Backend) -> None:
    store = backend.store
    mine = await held(store, lease_owner="me")
    await backend.let_pass(LEASE_SECONDS + 1)
    (taken,) = await store.claim("you", ["agent"], limit=1, lease_seconds=LEASE_SECONDS)

    refusal(await one(store, mine.next()), LeaseLost)
    assert await one(store, Hand(store, taken).next()) is None


async def test_a_holder_whose_lease_ran_out_still_writes_while_nobody_took_it(backend: Backend) -> None:
    mine = await held(backend.store)
    await backend.let_pass(LEASE_SECONDS + 1)

    await mine.append()


async def test_a_refused_append_does_not_touch_the_others_of_its_batch(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(40)]
    lost = {3, 17, 39}
    writes = [
        msgspec.structs.replace(hand.next(steps=(step(),)), lease_epoch=9)
        if index in lost
        else hand.next(steps=(step(),))
        for index, hand in enumerate(hands)
    ]

    outcomes = await store.commit(writes)

    assert {index for index, outcome in enumerate(outcomes) if outcome is not None} == lost
    for index, hand in enumerate(hands):
        assert (await hand.row()).tail_sequence == (0 if index in lost else 1)
        assert len(await store.steps(hand.number)) == (0 if index in lost else 1)


async def test_a_write_that_cannot_be_kept_does_not_touch_the_others_of_its_batch(store: Store) -> None:
    """A bug of ours in one run must not stop all the others."""
    good, bad, last = [await held(store, f"r{index}") for index in range(3)]
    broken = bad.next(output=object(), status=Status.COMPLETED)

    first, second, third = await asyncio.gather(
        one(store, good.next()), one(store, broken), one(store, last.next(status=Status.COMPLETED, ended_at=1))
    )

    assert (first, third) == (None, None)
    assert second is not None
    assert [(await hand.row()).tail_sequence for hand in (good, bad, last)] == [1, 0, 1]


async def test_of_two_writers_that_saw_the_same_end_one_is_refused(store: Store) -> None:
    mine = await held(store)
    theirs = Hand(store, mine.run)

    outcomes = await asyncio.gather(one(store, mine.next()), one(store, theirs.next()))

    assert [type(outcome) for outcome in outcomes].count(LeaseLost) == 1
    assert len(await journal(store, mine.number)) == 2


async def test_writes_to_one_run_keep_their_order_whatever_their_kind(store: Store) -> None:
    hand = await held(store)
    writes = [
        hand.next(),
        hand.next(attempt=2),
        hand.next(),
        hand.next(interrupts=(question(),), status=Status.WAITING),
        hand.next(answers=(answered(),), status=Status.RUNNING),
        hand.next(),
        hand.next(status=Status.COMPLETED),
    ]

    assert await store.commit(writes) == [None] * len(writes)
    assert [item.first for item in await journal(store, hand.number)] == list(range(8))


async def test_fields_that_are_none_stay_as_they_were(store: Store) -> None:
    hand = await held(store)
    error, cancel = Failure("no", "timeout_error", {"s": 1}), Cancel("enough", 5, 6)
    await hand.append(
        attempt=2, output=b"1", error=error, usage=b"{}", cancel=cancel, started_at=7, executed_seconds=1.5
    )
    before = await hand.row()

    await hand.append()
    await hand.append(status=Status.WAITING)

    run = await hand.row()
    for name in ("attempt", "output", "error", "usage", "cancel", "started_at", "executed_seconds", "lease_owner"):
        assert getattr(run, name) == getattr(before, name)
    assert (run.attempt, run.output, run.error, run.cancel, run.started_at) == (2, b"1", error, cancel, 7)
    assert run.status is Status.WAITING


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
async def test_nothing_follows_the_end(store: Store, status: Status) -> None:
    hand = await held(store)
    await hand.finish(status)

    for late in (hand.next(), hand.next(status=Status.RUNNING), hand.next(unleased=True, status=Status.QUEUED)):
        current = msgspec.structs.replace(late, tail=1, lease_epoch=(await hand.row()).lease_epoch)
        refusal(await one(store, current), LeaseLost)
    run = await hand.row()
    assert (run.status, run.tail_sequence, run.lease_owner, run.lease_until) == (status, 1, None, None)


async def test_a_status_that_cannot_follow_is_refused(store: Store) -> None:
    hand = await started(store)

    error = refusal(await one(store, hand.next(status=Status.WAITING, unleased=True)), ConflictError)

    assert error.details == {"before": "queued", "after": "waiting"}
    assert (await hand.row()).tail_sequence == 0


async def test_a_released_run_is_nobodys(store: Store) -> None:
    hand = await held(store)

    await hand.append(status=Status.QUEUED, release=True)

    run = await hand.row()
    assert (run.lease_owner, run.lease_until, run.lease_epoch) == (None, None, 1)
    assert [found.number for found in await store.claim("me", ["agent"], limit=1, lease_seconds=1)] == [hand.number]


# Facts from outside


async def test_a_run_that_nobody_holds_takes_facts_and_its_epoch_grows(store: Store) -> None:
    hand = await waiting(store)

    await hand.append(unleased=True, status=Status.QUEUED)

    run = await hand.row()
    assert (run.lease_epoch, run.status, run.lease_owner, run.tail_sequence) == (2, Status.QUEUED, None, 2)


async def test_a_live_lease_refuses_facts(store: Store) -> None:
    hand = await held(store)

    refusal(await one(store, hand.next(unleased=True)), LeaseLost)


async def test_a_lease_that_ran_out_lets_facts_in_and_fences_its_holder(backend: Backend) -> None:
    store = backend.store
    hand = await held(store)
    former = Hand(store, hand.run)
    await backend.let_pass(LEASE_SECONDS + 1)

    await hand.append(unleased=True)

    former.tail, former.prior = hand.tail, hand.prior
    refusal(await one(store, former.next()), LeaseLost)


async def test_a_running_run_that_took_a_fact_is_claimed_by_whoever_comes(backend: Backend) -> None:
    """Its holder is fenced off, so that it would be nobody's otherwise, and run for ever."""
    store = backend.store
    hand = await held(store, lease_owner="me")
    await backend.let_pass(LEASE_SECONDS + 1)
    await hand.append(unleased=True)

    (run,) = await store.claim("me", ["agent"], limit=9, lease_seconds=LEASE_SECONDS)

    assert (run.number, run.status, run.lease_epoch) == (hand.number, Status.RUNNING, 3)


async def test_a_queued_run_can_be_cancelled_by_anybody(store: Store) -> None:
    hand = await started(store)

    await hand.append(unleased=True, status=Status.CANCELLED, cancel=Cancel("enough", 1, 2), ended_at=3, release=True)

    assert (await hand.row()).status is Status.CANCELLED
    assert await store.claim("me", ["agent"], limit=9, lease_seconds=1) == []


async def test_two_facts_that_race_do_not_both_get_in(store: Store) -> None:
    hand = await waiting(store)
    other = Hand(store, await hand.row())

    outcomes = await asyncio.gather(
        one(store, hand.next(unleased=True, status=Status.QUEUED)),
        one(store, other.next(unleased=True, status=Status.CANCELLED)),
    )

    assert [type(outcome) for outcome in outcomes].count(LeaseLost) == 1


# What hangs on an append


async def test_a_step_is_inserted_or_replaced_by_key(store: Store) -> None:
    hand = await held(store)
    first = step("fetch", status="running", output=None, at_most_once=True)
    await hand.append(steps=(first, step("other")))

    done = msgspec.structs.replace(
        first, status="failed", attempts=2, error=Failure("no", "x"), completed_at=9, sequence=1, reused=True
    )
    await hand.append(steps=(done,))

    assert await store.steps(hand.number) == [
        msgspec.structs.replace(done, number=hand.number),
        msgspec.structs.replace((await store.steps(hand.number))[1], key="other"),
    ]


async def test_many_steps_in_one_append_are_kept_in_the_order_of_their_start(store: Store) -> None:
    hand = await held(store)
    steps = [step(f"s{index}", started_at=1000 + index // 3) for index in range(200)]

    await hand.append(steps=tuple(steps))

    assert [item.key for item in await store.steps(hand.number)] == [item.key for item in steps]


async def test_an_interrupt_is_inserted_with_its_parts(store: Store) -> None:
    hand = await waiting(store, interrupt=question(rule="r", input=b"{}", sequence=1, answer_role="operator"))

    (found,) = await store.interrupts(hand.number)

    assert (found.number, found.status, found.choices, found.answer_role) == (
        hand.number,
        "pending",
        ("yes", "no"),
        "operator",
    )
    assert len(found.parts) == 1
    assert found.parts[0].answer is None


async def test_of_a_known_interrupt_only_the_head_is_replaced(store: Store) -> None:
    hand = await waiting(store)
    await hand.append(answers=(answered(),), unleased=True)
    (before,) = await store.interrupts(hand.number)

    blank = msgspec.structs.replace(question(), status="resolved", resolved_sequence=3)
    await hand.append(interrupts=(blank,), unleased=True)

    (after,) = await store.interrupts(hand.number)
    assert (after.status, after.resolved_sequence) == ("resolved", 3)
    assert after.parts == before.parts


async def test_interrupts_of_two_runs_may_have_the_same_id(store: Store) -> None:
    one_hand, other = await waiting(store, "r1"), await waiting(store, "r2")

    await one_hand.append(answers=(answered(),), unleased=True)

    assert (await store.interrupts(one_hand.number))[0].parts[0].answer is not None
    assert (await store.interrupts(other.number))[0].parts[0].answer is None


async def test_an_answer_is_written_to_its_part(store: Store) -> None:
    hand = await waiting(store)
    given = answered()

    await hand.append(answers=(given,), unleased=True, status=Status.QUEUED)

    part = (await store.interrupts(hand.number))[0].parts[0]
    assert (part.answer, part.by, part.caller, part.answered_at) == (given.answer, "caller", "key", given.at)


async def test_a_second_answer_is_refused_as_a_whole(store: Store) -> None:
    hand = await waiting(store)
    await hand.append(answers=(answered(b'{"answer":"yes"}'),), unleased=True, status=Status.QUEUED)

    late = hand.next(answers=(answered(b'{"answer":"no"}'),), unleased=True, steps=(step(),))
    error = refusal(await one(store, late), InterruptResolved)

    assert (error.details["answer"], error.details["by"]) == ("yes", "caller")
    assert await store.steps(hand.number) == []
    assert (await hand.row()).tail_sequence == 2


async def test_of_answers_that_race_one_wins(store: Store) -> None:
    hand = await waiting(store)
    row = await hand.row()
    writes = [
        Hand(store, row).next(answers=(answered(b'{"answer":"%d"}' % index),), unleased=True, status=Status.QUEUED)
        for index in range(10)
    ]

    outcomes = await asyncio.gather(*(one(store, write) for write in writes))

    (winner,) = [index for index, outcome in enumerate(outcomes) if outcome is None]
    assert (await store.interrupts(hand.number))[0].parts[0].answer == b'{"answer":"%d"}' % winner
    assert (await hand.row()).tail_sequence == 2


async def test_an_answer_to_nothing_is_refused(store: Store) -> None:
    hand = await waiting(store)

    refusal(await one(store, hand.next(answers=(answered(interrupt_id="no"),), unleased=True)), InterruptNotFound)


async def test_an_interrupt_that_ended_without_an_answer_takes_none(store: Store) -> None:
    hand = await held(store)
    await hand.append(interrupts=(question(),))
    await hand.append(interrupts=(msgspec.structs.replace(question(), status="resolved"),))

    refusal(await one(store, hand.next(answers=(answered(),))), InterruptResolved)


async def test_an_interrupt_and_its_answer_may_come_in_one_append(store: Store) -> None:
    hand = await held(store)

    await hand.append(interrupts=(question(),), answers=(answered(),))

    assert (await store.interrupts(hand.number))[0].parts[0].answer is not None


async def test_messages_outbox_and_inbox_go_with_the_append(store: Store) -> None:
    hand = await held(store, thread_id="t1")
    left = await one(store, inbox_cancel(hand.number))
    (row,) = await store.inbox([hand.number])
    assert row == left

    outbox = (OutboxRow("hook", hand.number, 1, 5),)
    await hand.append(messages=(message("m1", detail=b"[]"),), outbox=outbox, inbox_done=(row.inbox_id,))

    assert [(item.message_id, item.detail) for item in await store.messages("default", "t1")] == [("m1", b"[]")]
    assert await store.outbox(limit=9) == list(outbox)
    assert await store.inbox([hand.number]) == []


async def test_messages_of_a_run_without_a_thread_belong_to_no_conversation(store: Store) -> None:
    hand = await held(store)

    await hand.append(messages=(message("m1"),))

    assert await store.threads("default") == []


@pytest.mark.parametrize("seed", range(5))
async def test_random_writes_agree_with_plain_lists(store: Store, seed: int) -> None:
    """Batches of good and stale writes over a few runs, against lists of (first, last) and one tail each."""
    chance = random.Random(seed)
    hands = [await held(store, f"r{index}") for index in range(5)]
    expected = {hand.number: [(0, 0)] for hand in hands}
    for _ in range(20):
        batch, verdicts = [], []
        for _ in range(chance.randrange(1, 40)):
            hand = chance.choice(hands)
            fields: dict[str, Any] = chance.choice(
                [{}, {}, {"attempt": 2}, {"steps": (step(f"s{chance.randrange(9)}"),)}]
            )
            if chance.random() < 0.2:
                stale = Hand(store, hand.run)
                stale.tail = hand.tail + chance.choice([-1, 1, 5])
                batch.append(stale.next(**fields))
                verdicts.append(False)
            else:
                write = hand.next(chance.randrange(1, 4), **fields)
                assert write.segment is not None
                expected[hand.number].append((write.segment.first, write.segment.last))
                batch.append(write)
                verdicts.append(True)
        cut = chance.randrange(len(batch) + 1)
        halves = await asyncio.gather(store.commit(batch[:cut]), store.commit(batch[cut:]))
        assert [outcome is None for outcome in halves[0] + halves[1]] == verdicts

    for hand in hands:
        found = await journal(store, hand.number, bytes_max=chance.randrange(1, 2000))
        assert [(item.first, item.last) for item in found] == expected[hand.number]
        assert (await store.tails([hand.number]))[hand.number] == (hand.tail, Status.RUNNING)


async def test_a_large_mixed_batch_is_carried_out_in_order(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(300)]
    writes: list[Write] = []
    for index, hand in enumerate(hands):
        writes.append(hand.next(status=Status.COMPLETED) if index % 3 == 0 else hand.next(pad=index))
        writes.append(start_run(f"s{index}"))

    outcomes = await store.commit(writes)

    assert [outcome for outcome in outcomes[::2] if outcome is not None] == []
    assert len(await store.claim("me", ["agent"], limit=1000, lease_seconds=1)) == 300
