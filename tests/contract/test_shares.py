"""Fair shares: whose turn it is in the queue, and how many runs execute at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast.errors import QueueFull, TenantQueueFull
from holdfast.model import Run, Status
from holdfast.store.base import NO_LIMITS, Behind, Limits, RunQuery, Started, Store
from tests.contract.backends import Backend
from tests.contract.making import (
    LEASE_SECONDS,
    Hand,
    held,
    key_row,
    one,
    refusal,
    segment,
    start_run,
    started,
    waiting,
)


async def claim(
    store: Store,
    owner: str = "me",
    *,
    agents: tuple[str, ...] = ("agent",),
    limit: int = 99,
    limits: Limits = NO_LIMITS,
) -> list[Run]:
    return await store.claim(owner, agents, limit=limit, lease_seconds=LEASE_SECONDS, limits=limits)


async def start(store: Store, run_id: str, **options: Any) -> Run:
    """Start a run that would begin at once, and return it as it is kept."""
    outcome = await one(store, start_run(run_id, lease_owner="me", **options))
    assert isinstance(outcome, Started), outcome
    assert await store.run_by_number(outcome.run.number) == outcome.run
    return outcome.run


def ids(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs]


# Turns


async def test_a_tenant_with_a_long_queue_does_not_starve_another(store: Store) -> None:
    await store.commit([start_run(f"a{index}", tenant="a") for index in range(30)])
    await started(store, "b0", tenant="b", priority=-5)

    assert ids(await claim(store, limit=3)) == ["a0", "b0", "a1"]


async def test_a_run_goes_to_the_tenant_that_executes_the_fewest(store: Store) -> None:
    for index in range(3):
        await held(store, f"busy{index}", tenant="a")
    await held(store, "busy", tenant="b")
    await store.commit([start_run(f"{tenant}{index}", tenant=tenant) for tenant in "abc" for index in range(4)])

    assert ids(await claim(store, limit=6)) == ["c0", "b0", "c1", "b1", "c2", "a0"]


async def test_urgency_counts_among_the_runs_of_a_tenant(store: Store) -> None:
    await started(store, "a0", tenant="a")
    await started(store, "a1", tenant="a", priority=9)
    await started(store, "b0", tenant="b", priority=1)
    await started(store, "b1", tenant="b", priority=2)

    assert ids(await claim(store)) == ["a1", "b1", "b0", "a0"]


async def test_waiting_runs_are_no_part_of_a_share(store: Store) -> None:
    for index in range(3):
        await waiting(store, f"waits{index}", tenant="a")
    await held(store, "busy", tenant="b")
    await started(store, "b0", tenant="b")
    await started(store, "a0", tenant="a")

    assert ids(await claim(store)) == ["a0", "b0"]


async def test_lost_runs_are_taken_over_in_their_turn(backend: Backend) -> None:
    store = backend.store
    await held(store, "lost", tenant="a", lease_owner="you")
    await backend.let_pass(LEASE_SECONDS)
    await started(store, "b0", tenant="b")

    assert sorted(ids(await claim(store))) == ["b0", "lost"]


# Limits on what executes


async def test_a_claim_takes_no_more_of_a_tenant_than_may_execute(store: Store) -> None:
    limits = Limits(tenant_runs_max=2)
    busy = await held(store, "busy", tenant="a")
    await store.commit([start_run(f"{tenant}{index}", tenant=tenant) for tenant in "ab" for index in range(4)])

    assert ids(await claim(store, limits=limits)) == ["b0", "a0", "b1"]
    assert await claim(store, "you", limits=limits) == []

    await busy.finish()
    assert ids(await claim(store, limits=limits)) == ["a1"]


async def test_a_claim_takes_no_more_of_an_agent_than_may_execute(store: Store) -> None:
    limits = Limits(agent_runs_max={"slow": 2})
    await held(store, "busy", agent="slow", tenant="c")
    for tenant in "ab":
        await store.commit([start_run(f"slow-{tenant}", tenant=tenant, agent="slow")])
        await store.commit([start_run(f"fast-{tenant}", tenant=tenant, agent="fast")])

    found = await claim(store, agents=("slow", "fast"), limits=limits)
    found += await claim(store, agents=("slow", "fast"), limits=limits)

    assert sorted(ids(found)) == ["fast-a", "fast-b", "slow-a"]
    assert await claim(store, agents=("slow", "fast"), limits=limits) == []


async def test_runs_of_an_agent_at_its_limit_hold_up_no_others(store: Store) -> None:
    """A claim looks at so many runs of a tenant only, and the first of them may all have to stay."""
    limits = Limits(agent_runs_max={"slow": 1})
    await store.commit([start_run(f"slow{index}", agent="slow", priority=1) for index in range(20)])
    await started(store, "fast", agent="fast")

    found = await claim(store, agents=("slow", "fast"), limit=5, limits=limits)
    found += await claim(store, agents=("slow", "fast"), limit=5, limits=limits)

    assert ids(found) == ["slow0", "fast"]


async def test_a_claim_that_may_take_something_takes_something(store: Store) -> None:
    limits = Limits(tenant_runs_max=3, agent_runs_max={"x": 1, "y": 2})
    await store.commit(
        [
            start_run(f"{tenant}{agent}{index}", tenant=tenant, agent=agent, priority=index % 3)
            for tenant in "abcd"
            for agent in ("x", "y", "z")
            for index in range(3)
        ]
    )
    taken: list[Run] = []

    while found := await claim(store, agents=("x", "y", "z"), limit=4, limits=limits):
        taken += found

    assert Counter(run.tenant for run in taken) == dict.fromkeys("abcd", 3)
    assert Counter(run.agent for run in taken) == {"x": 1, "y": 2, "z": 9}


async def test_a_start_over_the_limit_of_its_tenant_is_queued(store: Store) -> None:
    first = await start(store, "r1", tenant="a", tenant_runs_max=1)

    second = await start(store, "r2", tenant="a", tenant_runs_max=1)
    other = await start(store, "r3", tenant="b", tenant_runs_max=1)

    assert (first.status, first.lease_owner, first.lease_epoch) == (Status.RUNNING, "me", 1)
    assert (second.status, second.lease_owner, second.lease_epoch, second.lease_until) == (Status.QUEUED, None, 0, None)
    assert other.status is Status.RUNNING
    await Hand(store, first).finish()
    (claimed,) = await claim(store, limits=Limits(tenant_runs_max=1))
    assert (claimed.run_id, claimed.lease_epoch) == ("r2", 1)


async def test_a_start_over_the_limit_of_its_agent_is_queued(store: Store) -> None:
    await start(store, "r1", tenant="a", agent_runs_max=1)

    assert (await start(store, "r2", tenant="b", agent_runs_max=1)).status is Status.QUEUED
    assert (await start(store, "r3", agent="other", agent_runs_max=1)).status is Status.RUNNING


async def test_within_one_commit_starts_count_each_other(store: Store) -> None:
    writes = [start_run(f"r{index}", lease_owner="me", tenant_runs_max=3) for index in range(5)]
    outcomes = await store.commit([*writes[:2], start_run("r0"), *writes[2:]])

    statuses = [outcome.run.status for outcome in outcomes if isinstance(outcome, Started)]
    assert statuses == [Status.RUNNING] * 3 + [Status.QUEUED] * 2


async def test_a_waiting_run_does_not_execute(store: Store) -> None:
    await waiting(store, "waits")

    assert (await start(store, "r1", tenant_runs_max=1, agent_runs_max=1)).status is Status.RUNNING


async def test_an_answered_run_waits_for_its_place(store: Store) -> None:
    limits = Limits(tenant_runs_max=1)
    answered = await waiting(store, "answered")
    busy = await held(store, "busy")
    await answered.append(status=Status.QUEUED, unleased=True)

    assert await claim(store, limits=limits) == []
    await busy.finish()

    assert ids(await claim(store, limits=limits)) == ["answered"]


async def test_a_start_does_not_overtake_what_waits_for_the_same_place(store: Store) -> None:
    busy = await start(store, "r1", tenant_runs_max=1)
    await start(store, "r2", tenant_runs_max=1)
    await Hand(store, busy).finish()

    assert (await start(store, "r3", tenant_runs_max=1)).status is Status.QUEUED
    assert (await start(store, "urgent", tenant_runs_max=1, priority=1)).status is Status.RUNNING
    assert (await start(store, "other", tenant="b", tenant_runs_max=1)).status is Status.RUNNING


async def test_a_taken_over_run_is_not_held_back(backend: Backend) -> None:
    store = backend.store
    await held(store, "lost", lease_owner="you")
    await backend.let_pass(LEASE_SECONDS)

    assert ids(await claim(store, limits=Limits(tenant_runs_max=1, agent_runs_max={"agent": 1}))) == ["lost"]


async def test_a_child_is_part_of_the_share_of_its_parent(store: Store) -> None:
    limits = Limits(tenant_runs_max=1)
    parent = await start(store, "parent", tenant_runs_max=1)
    await started(store, "child", parent=parent.number)
    await started(store, "next")

    assert ids(await claim(store, limits=limits)) == ["child"]
    await Hand(store, parent).finish()

    assert ids(await claim(store, limits=limits)) == ["next"]


async def test_a_child_of_another_agent_waits_for_a_place_of_that(store: Store) -> None:
    limits = Limits(agent_runs_max={"agent": 1, "tool": 1})
    parent = await held(store, "parent")
    busy = await held(store, "busy", agent="tool")
    await started(store, "other", agent="tool", parent=parent.number)
    await started(store, "same", parent=parent.number)

    assert ids(await claim(store, agents=("agent", "tool"), limits=limits)) == ["same"]
    await busy.finish()

    assert ids(await claim(store, agents=("agent", "tool"), limits=limits)) == ["other"]


async def test_who_claims_and_starts_at_once_keeps_the_limits(backend: Backend) -> None:
    """Several processes, each at several things: together they take what may execute, no less and no more."""
    stores = [backend.store, *[await backend.another() for _ in range(3)]]
    limits = Limits(tenant_runs_max=3, agent_runs_max={"slow": 4})
    await stores[0].commit(
        [
            start_run(f"{tenant}-{agent}-{index}", tenant=tenant, agent=agent)
            for tenant in "ab"
            for agent in ("slow", "fast")
            for index in range(8)
        ]
    )

    async def work(place: int, store: Store) -> list[Run]:
        found = []
        for turn in range(5):
            found += await claim(store, f"w{place}", agents=("slow", "fast"), limit=2, limits=limits)
            write = start_run(
                f"new-{place}-{turn}", tenant="ab"[turn % 2], lease_owner=f"w{place}", agent="slow",
                tenant_runs_max=3, agent_runs_max=4, priority=1,
            )  # fmt: skip
            outcome = await one(store, write)
            assert isinstance(outcome, Started)
            found += [outcome.run] if outcome.run.is_leased else []
        return found

    found = await asyncio.gather(*(work(place, store) for place, store in enumerate(stores)))

    taken = [run for runs in found for run in runs]
    assert len({run.number for run in taken}) == len(taken)
    running = await stores[0].runs(RunQuery(tenant=None, statuses=(Status.RUNNING,)))
    assert {run.number for run in running} == {run.number for run in taken}
    assert Counter(run.tenant for run in running) == {"a": 3, "b": 3}
    assert Counter(run.agent for run in running)["slow"] <= 4


# Limits on what is queued


async def test_a_full_queue_of_one_tenant_is_no_matter_of_others(store: Store) -> None:
    await store.commit([start_run(f"a{index}", tenant="a", tenant_queued_max=2) for index in range(2)])

    error = refusal(await one(store, start_run("late", tenant="a", tenant_queued_max=2)), TenantQueueFull)

    assert error.details["retry_after"] >= 1
    assert await store.run("a", "late") is None
    assert isinstance(await one(store, start_run("b0", tenant="b", tenant_queued_max=2)), Started)


async def test_processes_that_start_at_once_keep_the_queue_of_a_tenant(backend: Backend) -> None:
    stores = [backend.store, *[await backend.another() for _ in range(3)]]

    outcomes = await asyncio.gather(
        *(
            one(store, start_run(f"r{place}-{index}", tenant_queued_max=5))
            for place, store in enumerate(stores)
            for index in range(4)
        )
    )

    kinds = Counter(type(outcome).__name__ for outcome in outcomes)
    assert kinds == {"Started": 5, "TenantQueueFull": 11}


@pytest.mark.parametrize(
    ("limit", "kind"), [({"queued_max": 0}, QueueFull), ({"tenant_queued_max": 0}, TenantQueueFull)]
)
async def test_a_start_that_is_held_back_needs_room_in_the_queue(
    store: Store, limit: dict[str, int], kind: type[QueueFull | TenantQueueFull]
) -> None:
    await start(store, "r1", tenant_runs_max=1, **limit)

    refusal(await one(store, start_run("r2", lease_owner="me", tenant_runs_max=1, **limit)), kind)

    assert await store.run("default", "r2") is None


async def test_a_repeated_start_is_answered_whatever_is_full(store: Store) -> None:
    first = await start(store, "r1", tenant_runs_max=1, idempotency=key_row())
    again = start_run(
        "r2", lease_owner="me", tenant_runs_max=1, queued_max=0, tenant_queued_max=0, idempotency=key_row()
    )

    outcome = await one(store, again)

    assert isinstance(outcome, Started)
    assert (outcome.replayed, outcome.run.run_id) == (True, first.run_id)


async def test_without_a_limit_the_queue_takes_any_number(store: Store) -> None:
    await store.commit([start_run(f"r{index}", queued_max=None) for index in range(3)])

    assert (await store.counts())[Status.QUEUED] == 3


# Threads


async def test_of_processes_that_start_in_a_thread_at_once_one_is_taken(backend: Backend) -> None:
    stores = [backend.store, *[await backend.another() for _ in range(3)]]

    for turn in range(5):
        writes = [start_run(f"r{turn}-{place}", thread_id=f"t{turn}") for place in range(4)]
        outcomes = await asyncio.gather(*(one(store, write) for store, write in zip(stores, writes, strict=True)))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Started"] + ["ThreadBusy"] * 3


async def test_within_a_thread_time_only_grows(backend: Backend) -> None:
    """The clocks of two processes differ; a start whose stamp lies before the thread's newest event is stamped anew."""
    store, other = backend.store, await backend.another()
    early = segment()
    first = await held(store, "r1", thread_id="t1")
    await first.append(3)
    await first.finish()
    newest = (await first.row()).last_timestamp

    assert await one(other, start_run("r2", thread_id="t1", segment=early)) == Behind(newest)
    tie = segment(first_timestamp=newest + 1, last_timestamp=newest + 1)
    assert await one(other, start_run("r2", thread_id="t1", segment=tie)) == Behind(newest)

    assert await store.run("default", "r2") is None
    assert isinstance(await one(other, start_run("r2", thread_id="t2", segment=early)), Started)
    later = segment(first_timestamp=newest + 2, last_timestamp=newest + 2)
    assert isinstance(await one(other, start_run("r3", thread_id="t1", segment=later)), Started)
