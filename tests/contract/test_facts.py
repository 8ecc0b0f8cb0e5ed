"""Interrupts and the inbox: what waits for the outside, and what came from there for the holder of a run."""

from __future__ import annotations

import asyncio

import msgspec

from holdfast.errors import InterruptResolved, LeaseLost, RunFinished, RunNotFound
from holdfast.model import Kind, Part, Status
from holdfast.store.base import InboxRow, Store
from tests.contract.backends import Backend
from tests.contract.making import (
    LEASE_SECONDS,
    answered,
    held,
    inbox_answer,
    inbox_cancel,
    one,
    question,
    refusal,
    started,
    tick,
    waiting,
)

# The inbox


async def test_a_fact_for_a_held_run_is_left_in_its_inbox(store: Store) -> None:
    hand = await held(store)
    write = inbox_cancel(hand.number)

    outcome = await one(store, write)

    assert isinstance(outcome, InboxRow)
    assert outcome == msgspec.structs.replace(write.row, inbox_id=outcome.inbox_id)
    assert outcome.inbox_id > 0
    assert await store.inbox([hand.number]) == [outcome]


async def test_an_answer_in_the_inbox_is_at_its_part_at_once(store: Store) -> None:
    """So it has won, whenever the holder writes the event."""
    hand = await held(store)
    await hand.append(interrupts=(question(),))

    await one(store, inbox_answer(hand.number))

    part = (await store.interrupts(hand.number))[0].parts[0]
    assert (part.answer, part.by, part.caller) == (b'{"answer":"yes"}', "caller", "key")


async def test_the_holder_writes_the_event_and_takes_the_fact_out(store: Store) -> None:
    hand = await held(store)
    await hand.append(interrupts=(question(),))
    row = await one(store, inbox_answer(hand.number))
    assert isinstance(row, InboxRow)

    head = msgspec.structs.replace(question(), status="resolved", resolved_at=5)
    await hand.append(interrupts=(head,), inbox_done=(row.inbox_id,))

    assert await store.inbox([hand.number]) == []
    (found,) = await store.interrupts(hand.number)
    assert (found.status, found.parts[0].answer) == ("resolved", b'{"answer":"yes"}')


async def test_of_answers_that_race_to_the_inbox_one_wins(store: Store) -> None:
    hand = await held(store)
    await hand.append(interrupts=(question(),))

    outcomes = await asyncio.gather(
        *(one(store, inbox_answer(hand.number, b'{"answer":%d}' % index)) for index in range(5))
    )

    assert [type(outcome) for outcome in outcomes].count(InterruptResolved) == 4
    assert len(await store.inbox([hand.number])) == 1


async def test_nobody_to_leave_a_fact_for(backend: Backend) -> None:
    store = backend.store
    queued, let_go, lost = await started(store, "r1"), await waiting(store, "r2"), await held(store, "r3")
    await backend.let_pass(LEASE_SECONDS + 1)

    for hand in (queued, let_go, lost):
        refusal(await one(store, inbox_cancel(hand.number)), LeaseLost)
        assert await store.inbox([hand.number]) == []
    refusal(await one(store, inbox_answer(let_go.number)), LeaseLost)
    assert (await store.interrupts(let_go.number))[0].parts[0].answer is None


async def test_a_finished_run_takes_no_facts(store: Store) -> None:
    hand = await held(store)
    await hand.finish()

    refusal(await one(store, inbox_cancel(hand.number)), RunFinished)
    refusal(await one(store, inbox_cancel(999)), RunNotFound)


async def test_refused_facts_do_not_touch_the_others_of_their_batch(store: Store) -> None:
    hand, queued = await held(store, "r1"), await started(store, "r2")

    outcomes = await store.commit(
        [inbox_cancel(hand.number), inbox_cancel(queued.number), inbox_cancel(hand.number), hand.next()]
    )

    assert [type(outcome) for outcome in outcomes] == [InboxRow, LeaseLost, InboxRow, type(None)]
    assert len(await store.inbox([hand.number, queued.number])) == 2


async def test_the_inbox_is_read_for_many_runs_at_once_oldest_first(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(3)]
    for index in (2, 0, 1, 2):
        await one(store, inbox_cancel(hands[index].number))

    rows = await store.inbox([hands[0].number, hands[2].number])

    assert [row.number for row in rows] == [hands[2].number, hands[0].number, hands[2].number]


# What is pending, and for how long


async def test_pending_are_questions_and_approvals_oldest_first(store: Store) -> None:
    await waiting(store, "r1", interrupt=question("q", created_at=30), thread_id="t1")
    await waiting(store, "r2", interrupt=question("a", kind=Kind.APPROVAL, created_at=10), thread_id="t2")
    await waiting(store, "r3", interrupt=question("t", kind=Kind.TOOL, created_at=5))
    await waiting(store, "r4", interrupt=question("s", kind=Kind.TIMER, created_at=6))
    done = await waiting(store, "r5", interrupt=question("d"))
    await done.append(
        interrupts=(question("d", status="resolved"),), answers=(answered(interrupt_id="d"),), unleased=True
    )

    assert [item.interrupt_id for item in await store.pending("default")] == ["a", "q"]
    assert [item.interrupt_id for item in await store.pending("default", limit=1)] == ["a"]
    assert [item.interrupt_id for item in await store.pending("default", thread_id="t1")] == ["q"]
    assert await store.pending("other") == []


async def test_interrupts_read_back_with_all_their_parts_in_order(store: Store) -> None:
    parts = [
        Part(tool_call_id=f"c{index}", tool="add", namespace="math", input=b"[1]", expires_at=index, default=b"1")
        for index in range(5)
    ]
    hand = await waiting(store, interrupt=question(kind=Kind.TOOL, parts=parts, round=2, choices=None))

    (found,) = await store.interrupts(hand.number)

    assert found.parts == tuple(parts)
    assert (found.kind, found.round, found.choices) == (Kind.TOOL, 2, None)


async def test_each_part_gets_its_own_answer(store: Store) -> None:
    parts = [Part(tool_call_id="a"), Part(tool_call_id="b")]
    hand = await waiting(store, interrupt=question(kind=Kind.TOOL, parts=parts))

    await hand.append(answers=(answered(b"1", tool_call_id="b"),), unleased=True)

    assert [part.answer for part in (await store.interrupts(hand.number))[0].parts] == [None, b"1"]
    refusal(await one(store, hand.next(answers=(answered(b"2", tool_call_id="b"),), unleased=True)), InterruptResolved)


async def test_due_are_interrupts_with_an_open_part_past_its_deadline(store: Store) -> None:
    await waiting(store, "r1", interrupt=question("late", parts=[Part(expires_at=100)]))
    await waiting(store, "r2", interrupt=question("later", parts=[Part(expires_at=50)]))
    await waiting(store, "r3", interrupt=question("future", parts=[Part(expires_at=101)]))
    await waiting(store, "r4", interrupt=question("never"))
    two = [Part(tool_call_id="a", expires_at=10), Part(tool_call_id="b", expires_at=200)]
    half = await waiting(store, "r5", interrupt=question("half", kind=Kind.TOOL, parts=two))

    assert [item.interrupt_id for item in await store.due(100, limit=9)] == ["half", "later", "late"]
    assert [item.interrupt_id for item in await store.due(100, limit=1)] == ["half"]
    assert await store.due(9, limit=9) == []

    await half.append(answers=(answered(b"1", interrupt_id="half", tool_call_id="a"),), unleased=True)

    assert [item.interrupt_id for item in await store.due(100, limit=9)] == ["later", "late"]


async def test_what_ended_with_its_run_is_not_due_any_more(store: Store) -> None:
    hand = await waiting(store, interrupt=question(parts=[Part(expires_at=100)]))
    voided = question(status="resolved", resolved_at=tick(), parts=[Part(expires_at=100)])

    await hand.append(status=Status.CANCELLED, interrupts=(voided,), unleased=True)

    assert await store.due(100, limit=9) == []
    assert await store.pending("default") == []


async def test_the_last_resolved_interrupt_of_a_thread(store: Store) -> None:
    assert await store.last_resolved("default", "t1") is None
    for index, at in enumerate((20, 30, 10)):
        hand = await waiting(store, f"r{index}", interrupt=question(f"i{index}"), thread_id="t1")
        await hand.append(
            status=Status.QUEUED,
            interrupts=(question(f"i{index}", status="resolved", resolved_at=at),),
            answers=(answered(interrupt_id=f"i{index}"),),
            unleased=True,
        )
        await hand.append(status=Status.CANCELLED, unleased=True)

    found = await store.last_resolved("default", "t1")

    assert found is not None
    assert found.interrupt_id == "i1"
    assert await store.last_resolved("other", "t1") is None


async def test_an_interrupt_that_ended_without_an_answer_was_not_answered_last(store: Store) -> None:
    hand = await waiting(store, thread_id="t1")

    await hand.append(status=Status.CANCELLED, interrupts=(question(status="resolved", resolved_at=5),), unleased=True)

    assert await store.last_resolved("default", "t1") is None
