"""A whole kernel in this process: store, journal, worker and `Runs`, with times that suit tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec

from holdfast.clock import SystemClock
from holdfast.execution.program import Program, Programs
from holdfast.execution.worker import Worker, WorkerSettings
from holdfast.ids import RandomIds
from holdfast.journal import END, Journal, Reader, Signal
from holdfast.model import Run
from holdfast.model.encoding import decode_event
from holdfast.runs import Caller, Runs, StartRequest
from holdfast.shutdown import Shutdown
from holdfast.store.base import Store
from holdfast.store.sqlite import SQLiteStore

CALLER = Caller("tester")
QUICK = WorkerSettings(grace_seconds=0.02, scan_seconds=0.05, drain_seconds=0.5, cancel_seconds=0.3)


class Agents:
    """A fixed set of agents."""

    def __init__(self, agents: Iterable[Program]) -> None:
        self._agents = {agent.name: agent for agent in agents}

    def get(self, name: str) -> Any:
        return self._agents.get(name)

    def names(self) -> Iterable[str]:
        return self._agents


class Kernel:
    """What a server is made of, without HTTP."""

    def __init__(self, store: Store, journal: Journal, worker: Worker, runs: Runs) -> None:
        self.store, self.journal, self.worker, self.runs = store, journal, worker, runs

    async def start(self, agent: str, input: Any = None, **request: Any) -> Run:
        """Start a run and return its row."""
        return (await self.runs.start(CALLER, StartRequest(agent=agent, input=input, **request))).run

    async def finished(self, run: Run, *, seconds: float = 20) -> Run:
        """The run once it is over."""
        return await self.runs.wait(CALLER, run.run_id, timeout=seconds, until_waiting=False)

    async def waiting(self, run: Run, *, seconds: float = 20) -> Run:
        """The run once it waits and holds no lease, or is over."""
        async with asyncio.timeout(seconds):
            while True:
                current = await self.runs.wait(CALLER, run.run_id, timeout=seconds)
                if current.status.is_final or not current.is_leased:
                    return current
                await asyncio.sleep(0.005)

    async def events(self, run: Run, *, after: int = -1) -> list[dict[str, Any]]:
        """All events up to the end of the journal; waits for the end."""
        reader = self.runs.follow(await self.runs.get(CALLER, run.run_id), after=after)
        return await read_all(reader)

    async def stored(self, run: Run) -> list[dict[str, Any]]:
        """The events that are committed now."""
        current = await self.runs.get(CALLER, run.run_id)
        segments = await self.store.segments(current.number, after=-1, bytes_max=1 << 30)
        return [decode_event(line) for segment in segments for line in segment.body.splitlines()]

    async def die(self) -> None:
        """End as after kill -9: nothing is handed over and nothing more is written."""
        await self.worker.die()


def _damage(directory: Path, number: int) -> None:
    """Take a line out of a journal, behind the store's back."""
    import apsw

    connection = apsw.Connection(str(directory / "holdfast.db"))
    connection.execute("UPDATE segments SET body = x'' WHERE number = ?", (number,))
    connection.close()


async def read_all(reader: Reader) -> list[dict[str, Any]]:
    """Read to the end of a journal and close the reader."""
    events: list[dict[str, Any]] = []
    try:
        while (chunk := await reader.next()) is not END:
            assert not isinstance(chunk, Signal), chunk
            events += [decode_event(line) for line in chunk.lines]
    finally:
        reader.close()
    return events


@contextlib.asynccontextmanager
async def kernel(
    directory: Path, *agents: Program, settings: WorkerSettings = QUICK, crash: bool = False, **options: Any
) -> AsyncIterator[Kernel]:
    """A running kernel on an embedded store, or on `store`; with `crash` its end is a death."""
    clock = options.pop("clock", None) or SystemClock()
    damage = options.pop("damage", None)
    programs: Programs = options.pop("programs", Agents(agents))
    ids = RandomIds(clock)
    store: Store = options.pop("store", None) or SQLiteStore(directory, clock=clock)
    info = await store.open()
    if damage is not None:
        _damage(directory, damage)
    journal = Journal(store, clock, last_timestamp=info.last_timestamp, retry_seconds=0.02)
    await journal.start()
    worker = Worker(journal, programs, clock, ids, settings)
    runs = Runs(journal, worker, clock, ids, Shutdown(), namespace=info.store_id, **options)
    await worker.start()
    made = Kernel(store, journal, worker, runs)
    try:
        yield made
    finally:
        if crash:
            await made.die()
        else:
            await worker.stop()
        await journal.stop()
        await store.close()


def replace(settings: WorkerSettings, **changes: Any) -> WorkerSettings:
    return msgspec.structs.replace(settings, **changes)
