"""Claiming, renewing and losing runs."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.model import Run, Status
from holdfast.store.base import Lease, Limits, Store
from tests.contract.backends import Backend
from tests.contract.making import LEASE_SECONDS, Hand, held, one, started, waiting


async def claim(store: Store, owner: str = "me", agents: tuple[str, ...] = ("agent",), limit: int = 99) -> list[Run]:
    return await store.claim(owner, agents, limit=limit, lease_seconds=LEASE_SECONDS)


async def test_a_queued_run_is_claimed_once(store: Store) -> None:
    hand = await started(store)

    (run,) = await claim(store)

    assert (run.number, run.status, run.lease_owner, run.lease_epoch) == (hand.number, Status.QUEUED, "me", 1)
    assert await claim(store) == []
    assert await claim(store, "you") == []
    stored = await hand.row()
    assert (stored.status, stored.lease_owner, stored.lease_epoch) == (Status.RUNNING, "me", 1)


async def test_claims_that_race_share_the_runs(store: Store) -> None:
    await store.commit([])
    for index in range(20):
        await started(store, f"r{index}")

    found = await asyncio.gather(*(claim(store, f"w{index}", limit=5) for index in range(6)))

    numbers = [run.number for runs in found for run in runs]
    assert sorted(numbers) == list(range(1, 21))


async def test_the_most_urgent_is_claimed_first_then_the_oldest(store: Store) -> None:
    for run_id, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        await started(store, run_id, priority=priority)

    found = await claim(store, limit=3) + await claim(store, limit=3)

    assert [run.run_id for run in found] == ["b", "d", "a", "c", "e"]


async def test_runs_of_other_agents_are_left(store: Store) -> None:
    await started(store, "r1", agent="other")
    await started(store, "r2", agent="agent")

    assert [run.run_id for run in await claim(store, agents=("agent", "third"))] == ["r2"]
    assert await claim(store, agents=()) == []


@pytest.mark.parametrize("limits", [Limits(), Limits(tenant_runs_max=9, agent_runs_max={"agent": 2})])
async def test_an_agent_that_is_named_twice_gets_its_runs_once(backend: Backend, limits: Limits) -> None:
    """Else they would be executed twice, under one lease. A queued one, and one whose holder is gone."""
    store = backend.store
    await held(store, "left", lease_owner="gone")
    await backend.let_pass(LEASE_SECONDS)
    await started(store, "queued")

    found = await store.claim("me", ["agent", "agent"], limit=9, lease_seconds=LEASE_SECONDS, limits=limits)

    assert sorted(run.run_id for run in found) == ["left", "queued"]


async def test_a_live_lease_is_left_alone(backend: Backend) -> None:
    await held(backend.store, lease_owner="you")
    await backend.let_pass(LEASE_SECONDS - 0.1)

    assert await claim(backend.store) == []


async def test_a_lease_that_ran_out_is_taken_over_as_it_was_found(backend: Backend) -> None:
    store = backend.store
    hand = await held(store, lease_owner="you")
    await hand.append(status=Status.WAITING)
    await backend.let_pass(LEASE_SECONDS)

    (run,) = await claim(store)

    assert (run.status, run.lease_owner, run.lease_epoch, run.tail_sequence) == (Status.WAITING, "me", 2, 1)
    assert (await hand.row()).status is Status.WAITING


async def test_urgency_counts_for_lost_and_queued_runs_alike(backend: Backend) -> None:
    store = backend.store
    await held(store, "lost", lease_owner="you", priority=1)
    await started(store, "queued")
    await started(store, "urgent", priority=2)
    await backend.let_pass(LEASE_SECONDS)

    assert [run.run_id for run in await claim(store)] == ["urgent", "lost", "queued"]


async def test_nobody_claims_what_it_holds_itself(backend: Backend) -> None:
    """Its own lease running out means that it is slow, not that it is dead."""
    await held(backend.store, lease_owner="me")
    await backend.let_pass(LEASE_SECONDS + 1)

    assert await claim(backend.store, "me") == []


async def test_what_is_in_the_name_of_an_owner_that_does_not_know_of_it_is_given_up(backend: Backend) -> None:
    """Once its lease ran out; then anybody may claim it, the owner too, and the epoch grows."""
    store = backend.store
    unknown, known = await held(store, "unknown", lease_owner="me"), await held(store, "known", lease_owner="me")
    yours = await held(store, "yours", lease_owner="you")
    over = await held(store, "over", lease_owner="me")
    await over.append(status=Status.FAILED)

    early = await store.disown("me", [known.number])
    await backend.let_pass(LEASE_SECONDS)
    given_up = await store.disown("me", [known.number])

    assert (early, given_up) == ([], [unknown.number])
    assert [(run.number, run.lease_epoch) for run in await claim(store, "me")] == [
        (unknown.number, 2),
        (yours.number, 2),
    ]
    assert (await known.row()).lease_owner == "me"
    assert await store.disown("me", [known.number]) == []


async def test_a_waiting_run_that_nobody_holds_is_left(store: Store) -> None:
    await waiting(store)

    assert await claim(store) == []


async def test_a_finished_run_is_left(backend: Backend) -> None:
    hand = await held(backend.store, lease_owner="you")
    await hand.append(status=Status.FAILED)
    await backend.let_pass(LEASE_SECONDS + 1)

    assert await claim(backend.store) == []


async def test_a_renewed_lease_lasts_longer(backend: Backend) -> None:
    store = backend.store
    hand = await held(store, lease_owner="me")
    await backend.let_pass(LEASE_SECONDS - 1)

    lost = await store.renew("me", [Lease(hand.number, 1)], lease_seconds=LEASE_SECONDS)
    await backend.let_pass(LEASE_SECONDS - 1)

    assert lost == set()
    assert await claim(store, "you") == []


async def test_a_lease_that_ran_out_but_was_not_taken_can_be_renewed(backend: Backend) -> None:
    hand = await held(backend.store, lease_owner="me")
    await backend.let_pass(LEASE_SECONDS + 1)

    assert await backend.store.renew("me", [Lease(hand.number, 1)], lease_seconds=LEASE_SECONDS) == set()
    assert await claim(backend.store, "you") == []


async def test_renewing_tells_which_leases_are_lost(backend: Backend) -> None:
    store = backend.store
    kept, taken, ended, released = [await held(store, f"r{index}", lease_owner="me") for index in range(4)]
    await ended.finish()
    await released.append(status=Status.WAITING, release=True)
    await store.renew("me", [Lease(kept.number, 1)], lease_seconds=100)
    await backend.let_pass(LEASE_SECONDS)
    await claim(store, "you")
    leases = [Lease(hand.number, 1) for hand in (kept, taken, ended, released)] + [Lease(99, 1)]

    lost = await store.renew("me", leases, lease_seconds=LEASE_SECONDS)

    assert lost == {taken.number, ended.number, released.number, 99}
    assert (await taken.row()).lease_owner == "you"
    assert await store.renew("me", [], lease_seconds=1) == set()


async def test_a_claimed_run_goes_on_where_it_was(store: Store) -> None:
    await started(store)

    (run,) = await claim(store)

    assert await one(store, Hand(store, run).next()) is None


async def test_many_claimed_runs_come_back_in_order(store: Store) -> None:
    for index in range(150):
        await started(store, f"r{index}")

    assert [run.number for run in await claim(store, limit=100)] == list(range(1, 101))
    assert [run.number for run in await claim(store, limit=100)] == list(range(101, 151))


async def test_after_opening_an_embedded_store_all_leases_have_run_out(backend: Backend) -> None:
    """Whoever held them is dead, even if the next process calls itself by the same name."""
    if not backend.is_embedded:
        pytest.skip("other processes may hold them")
    hand = await held(backend.store, lease_owner="me")
    waits = await waiting(backend.store, "r2")
    await backend.close()
    await backend.open()

    (run,) = await claim(backend.store, "me")

    assert (run.number, run.status, run.lease_epoch) == (hand.number, Status.RUNNING, 2)
    found = await backend.store.run_by_number(waits.number)
    assert found is not None
    assert not found.is_leased


async def test_unserved_are_old_queued_runs_of_agents_that_nobody_serves(store: Store) -> None:
    await started(store, "mine", agent="mine", created_at=5)
    await started(store, "old", agent="gone", created_at=5)
    await started(store, "new", agent="gone", created_at=10)
    await held(store, "runs", agent="gone", created_at=5)

    assert [run.run_id for run in await store.unserved(["mine"], queued_before=10)] == ["old"]
    assert [run.run_id for run in await store.unserved([], queued_before=11)] == ["mine", "old", "new"]
