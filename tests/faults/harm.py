"""
What is done to servers and database, and whether it hit anything.

Each fault waits for somebody to hit: a server that executes nothing proves nothing. `Harm` keeps at least one server
out of it at any time; cuts, ended LISTENs and stops of the database hit whom they want.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from tests.faults.audit import Eye
from tests.faults.cluster import Cluster, Line, Slot
from tests.support.postgres import PostgresServer
from tests.support.until import until

LEASE_SECONDS: Final = 2.0
HALF_OPEN_SECONDS: Final = 6.0  # longer than a server waits for an answer of the database
# How long a fault waits for somebody whom it can hit, and for its effect. Not what is proven: the machine may be busy.
PATIENCE_SECONDS: Final = 60.0
PAUSE_TRIES_MAX: Final = 10
CUTS: Final = ("closed", "half-open", "reply lost")

END_LISTENING: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query ILIKE 'LISTEN%' AND datname = current_database() ORDER BY random() LIMIT 2
"""

Fault = Callable[[random.Random], Awaitable[bool]]
"""Does something once, and tells whether it hit."""


class Harm:
    """
    The faults of one campaign.

    Args:
        freezes: of so many of the kills, the database was out of reach just before.
    """

    def __init__(self, cluster: Cluster, postgres: PostgresServer, eye: Eye, *, freezes: float) -> None:
        self.kinds_of_cuts: Counter[str] = Counter()
        self._cluster = cluster
        self._postgres = postgres
        self._eye = eye
        self._freezes = freezes
        self._is_free = asyncio.Condition()
        self._is_postgres_up = asyncio.Event()
        self._is_postgres_up.set()
        self._cuts = 0
        self._later: set[asyncio.Task[None]] = set()

    def faults(self) -> dict[str, Fault]:
        return {
            "kills": self._kill,
            "postgres_stops": self._stop_postgres,
            "pauses": self._pause,
            "cuts": self._cut,
            "listens": self._end_listening,
        }

    async def stop(self) -> None:
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    # Whom it hits

    @contextlib.asynccontextmanager
    async def _a_slot(self, chance: random.Random) -> AsyncIterator[Slot]:
        """A server that executes something and that nothing else is done to; one is always left alone."""
        slot = await self._one_with_runs(chance, left_alone=1)
        slot.is_busy = True
        try:
            yield slot
        finally:
            async with self._is_free:
                slot.is_busy = False
                self._is_free.notify_all()

    async def _one_with_runs(self, chance: random.Random, *, left_alone: int = 0) -> Slot:
        """A free server that executes something; after PATIENCE_SECONDS without one, any free server."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            async with self._is_free:
                await self._is_free.wait_for(lambda: len(self._free()) > left_alone)
            free = self._free()
            found = [slot for slot in free if slot.name in self._eye.holders]
            if len(free) > left_alone and (found or asyncio.get_running_loop().time() > deadline):
                return chance.choice(found or free)
            await asyncio.sleep(0.02)

    def _free(self) -> list[Slot]:
        return [slot for slot in self._cluster.slots if not slot.is_busy]

    # What it does

    async def _kill(self, chance: random.Random) -> bool:
        async with self._a_slot(chance) as slot:
            line = line_of(slot)
            if chance.random() < self._freezes:
                # What is shown before it is on disk would be seen now, and lost.
                line.freeze()
                await asyncio.sleep(chance.uniform(0.05, 0.3))
            is_hit = slot.name in self._eye.holders
            self._cluster.kill(slot)
            line.cut()
            await self._cluster.start(slot)
        return is_hit

    async def _stop_postgres(self, chance: random.Random) -> bool:
        is_hit = False
        with contextlib.suppress(TimeoutError):
            is_hit = await until(lambda: bool(self._eye.holders), seconds=PATIENCE_SECONDS, every=0.02)
        self._is_postgres_up.clear()
        await asyncio.to_thread(self._postgres.crash)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        await asyncio.to_thread(self._postgres.start)
        self._is_postgres_up.set()
        return is_hit

    async def _pause(self, chance: random.Random) -> bool:
        """Stop a process until its runs were taken over; one that just gave its last run up does not count."""
        for _ in range(PAUSE_TRIES_MAX):
            async with self._a_slot(chance) as slot:
                self._cluster.stop(slot)
                try:
                    # Asked only now: it cannot give anything up any more.
                    held = await self._insist(lambda: self._eye.held(slot.name), seconds=LEASE_SECONDS)
                    taken = bool(held) and await self._is_taken_over(held)
                    await asyncio.sleep(chance.choice([0.0, 0.0, 0.3]))
                finally:
                    self._cluster.go_on(slot)
                await asyncio.sleep(0.5)  # let it write, if it can
            if held:
                return taken
        return False

    async def _is_taken_over(self, held: list[tuple[int, int]]) -> bool:
        return bool(await self._insist(lambda: self._eye.taken_over(held), seconds=PATIENCE_SECONDS))

    async def _cut(self, chance: random.Random) -> bool:
        kind = CUTS[self._cuts % len(CUTS)]
        self._cuts += 1
        self.kinds_of_cuts[kind] += 1
        await self._is_postgres_up.wait()
        if kind == "reply lost":
            return await self._lose_commit(chance)
        line = await self._open_line(chance)
        if kind == "closed":
            line.cut()
        else:
            line.freeze()
            self._spawn(self._thaw(line))
        return True

    async def _open_line(self, chance: random.Random) -> Line:
        """That of a server that executes something; right after a fault of another kind, it may not be connected yet."""
        while True:
            line = line_of(await self._one_with_runs(chance))
            if line.count:
                return line
            await asyncio.sleep(0.02)

    async def _lose_commit(self, chance: random.Random) -> bool:
        """The reply to a commit, which took place, never comes."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            line = line_of(await self._one_with_runs(chance))
            before = line.commits_lost
            line.loses_commit = True
            with contextlib.suppress(TimeoutError):
                await until(lambda: line.commits_lost > before, seconds=2)  # noqa: B023  awaited at once
                return True
            line.loses_commit = False  # it was killed, or has nothing to say: another one
        return False

    async def _thaw(self, line: Line) -> None:
        await asyncio.sleep(HALF_OPEN_SECONDS)
        line.drop_frozen()

    async def _end_listening(self, chance: random.Random) -> bool:
        """Right after a fault of another kind, nobody may listen yet."""
        return bool(await self._insist(lambda: self._eye.try_fetch(END_LISTENING), seconds=PATIENCE_SECONDS))

    async def _insist(self, look: Callable[[], Awaitable[Any]], *, seconds: float) -> Any:
        """What a look into the database gives, once it gives something; None if it gives nothing for so long."""
        with contextlib.suppress(TimeoutError):
            return await until(look, seconds=seconds, every=0.05)
        return None

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def line_of(slot: Slot) -> Line:
    assert slot.line is not None
    return slot.line
