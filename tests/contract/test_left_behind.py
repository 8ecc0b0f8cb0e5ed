"""What a process leaves behind that died in an awkward moment."""

from __future__ import annotations

from holdfast.model import Status
from holdfast.store.base import Store
from tests.contract.making import LEASE_SECONDS, held, inbox_answer, inbox_cancel, one, question, waiting


async def test_a_waiting_run_that_nobody_holds_is_claimed_when_facts_wait_for_it(store: Store) -> None:
    """Its holder accepted them, let the run go, and died before it had written them into the journal."""
    left = []
    for run_id, fact in (("r1", inbox_answer), ("r2", inbox_cancel)):
        hand = await held(store, run_id)
        await hand.append(status=Status.WAITING, interrupts=(question(),))
        await one(store, fact(hand.number))
        await hand.append(0, release=True)
        left.append(hand.number)
    await waiting(store, "r3")

    found = await store.claim("you", ("agent",), limit=99, lease_seconds=LEASE_SECONDS)

    assert [run.number for run in found] == left
    assert all(run.status is Status.WAITING for run in found)
    assert await store.claim("they", ("agent",), limit=99, lease_seconds=LEASE_SECONDS) == []


async def test_the_answer_and_the_end_of_a_waiting_run_may_go_in_one_write(store: Store) -> None:
    """The code returned before the answer, which it already had, was committed."""
    hand = await held(store)
    await hand.append(status=Status.WAITING, interrupts=(question(),))

    await hand.finish()

    assert (await hand.row()).status is Status.COMPLETED
