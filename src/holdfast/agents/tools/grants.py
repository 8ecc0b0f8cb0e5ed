"""
What people said `always` to: kept for the whole task, read anew for every call, ended by one call.

The grants of a task are one record of the store. It goes with the turn in which the last of them was given, and so
with the task. A run without a task has grants of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from holdfast.agents.tools.policy import TaskGrant
from holdfast.clock import Clock
from holdfast.model import Record, Run
from holdfast.store.base import Store

OF_TASKS: Final = "task_grants"
OF_RUNS: Final = "run_grants"


class GivenGrant(msgspec.Struct, frozen=True):
    """A grant, and who gave it in which turn. `at` is in microseconds."""

    grant: TaskGrant
    by: str | None
    run_id: str
    at: int


class Grants(Protocol):
    """Where grants are kept."""

    async def of_task(self, tenant: str, thread_id: str) -> Sequence[GivenGrant]:
        """Those of a task, oldest first."""
        ...

    async def end(self, tenant: str, thread_id: str) -> None:
        """End all of a task's. What asked before asks again from the next call on."""
        ...

    async def of(self, run: Run) -> Sequence[GivenGrant]:
        """Those that hold for the calls of a run, oldest first."""
        ...

    async def add(self, run: Run, grant: TaskGrant, by: str | None) -> None:
        """Keep a grant that was given in this run; one that is there already stays as it is."""
        ...


class HeldGrants:
    """Grants in memory, for an assistant without a server."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], list[GivenGrant]] = {}

    async def of_task(self, tenant: str, thread_id: str) -> Sequence[GivenGrant]:
        return list(self._held.get((tenant, OF_TASKS, thread_id), ()))

    async def end(self, tenant: str, thread_id: str) -> None:
        self._held.pop((tenant, OF_TASKS, thread_id), None)

    async def of(self, run: Run) -> Sequence[GivenGrant]:
        return list(self._held.get(_place(run), ()))

    async def add(self, run: Run, grant: TaskGrant, by: str | None) -> None:
        held = self._held.setdefault(_place(run), [])
        if all(given.grant != grant for given in held):
            held.append(GivenGrant(grant, by, run.run_id, run.created_at))


class StoredGrants:
    """Grants in the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._adding = asyncio.Lock()

    async def of(self, run: Run) -> Sequence[GivenGrant]:
        return _read(await self._store.record(*_place(run)))

    async def of_task(self, tenant: str, thread_id: str) -> Sequence[GivenGrant]:
        return _read(await self._store.record(tenant, OF_TASKS, thread_id))

    async def end(self, tenant: str, thread_id: str) -> None:
        await self._store.delete_record(tenant, OF_TASKS, thread_id)

    async def add(self, run: Run, grant: TaskGrant, by: str | None) -> None:
        # A task is executed by one process, so that whoever else adds to its grants is in this one.
        async with self._adding:
            while not await self._has_added(run, grant, by):
                pass  # ended by another process meanwhile

    async def _has_added(self, run: Run, grant: TaskGrant, by: str | None) -> bool:
        tenant, kind, name = _place(run)
        before = await self._store.record(tenant, kind, name)
        known = _read(before)
        if any(given.grant == grant for given in known):
            return True
        now = self._clock.now()
        after = Record(
            kind=kind,
            tenant=tenant,
            name=name,
            body=msgspec.json.encode([*known, GivenGrant(grant, by, run.run_id, now)]),
            number=run.number,
            created_at=now,
            updated_at=now,
        )
        if before is not None:
            return await self._store.swap_record(after, before.body)
        await self._store.put_records([after])
        return True


def _place(run: Run) -> tuple[str, str, str]:
    """The tenant, kind and name of the record."""
    return (run.tenant, OF_RUNS, run.run_id) if run.thread_id is None else (run.tenant, OF_TASKS, run.thread_id)


def _read(record: Record | None) -> list[GivenGrant]:
    return [] if record is None else msgspec.json.decode(record.body, type=list[GivenGrant])
