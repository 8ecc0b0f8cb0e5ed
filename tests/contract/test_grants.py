"""Grants of tasks, as both stores keep them."""

from __future__ import annotations

import asyncio

from holdfast.agents.tools.grants import StoredGrants
from holdfast.agents.tools.policy import TaskGrant
from holdfast.clock import SystemClock
from holdfast.model import Run, Status
from holdfast.store.base import Store
from tests.contract.making import held

GRANTS = [TaskGrant("bash", "tickets"), TaskGrant("web_fetch", "egress", "a.example"), TaskGrant("write", "policy")]


def kept(store: Store) -> StoredGrants:
    return StoredGrants(store, SystemClock())


async def over(store: Store, run_id: str = "r1", **fields: str) -> Run:
    """A run that is over."""
    await (await held(store, run_id, **fields)).append(status=Status.COMPLETED)
    run = await store.run(fields.get("tenant", "default"), run_id)
    assert run is not None
    return run


async def grants_of(store: Store, run: Run) -> list[TaskGrant]:
    return [given.grant for given in await kept(store).of(run)]


async def test_grants_are_kept_once_each_in_their_order_with_who_gave_them(store: Store) -> None:
    run = await over(store, thread_id="t")

    for grant in (*GRANTS, *GRANTS):
        await kept(store).add(run, grant, "alice")

    found = await kept(store).of_task(run.tenant, "t")
    assert [given.grant for given in found] == GRANTS
    assert {(given.by, given.run_id) for given in found} == {("alice", run.run_id)}


async def test_grants_that_are_given_at_once_are_all_kept(store: Store) -> None:
    run = await over(store, thread_id="t")

    grants = kept(store)
    await asyncio.gather(*(grants.add(run, grant, None) for grant in GRANTS))

    assert set(await grants_of(store, run)) == set(GRANTS)


async def test_grants_end_and_go_with_their_task(store: Store) -> None:
    run = await over(store, thread_id="t")
    await kept(store).add(run, GRANTS[0], None)
    await kept(store).end(run.tenant, "t")
    ended = await grants_of(store, run)
    await kept(store).add(run, GRANTS[1], None)

    await store.delete_thread(run.tenant, "t")

    assert ended == await grants_of(store, run) == []


async def test_grants_of_a_task_are_nobody_elses(store: Store) -> None:
    run = await over(store, thread_id="t")
    others = [
        await over(store, "r2", thread_id="t2"),
        await over(store, "r3", thread_id="t", tenant="other"),
        await over(store, "t"),
    ]

    await kept(store).add(run, GRANTS[0], None)

    assert [await grants_of(store, other) for other in others] == [[], [], []]
