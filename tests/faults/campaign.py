"""
A campaign of faults: several servers on one Postgres, runs that are under way all the time, readers at other servers than
the one that started the run, and everything that can happen to them, several things at a time. `check` is the judge.

What comes next is decided by the seed; when exactly it hits is a matter of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tests.faults.audit import INSTALL, Eye
from tests.faults.checker import Findings, Tracked, check
from tests.faults.cluster import Cluster, Door, Slot
from tests.faults.mutants import change_procedures
from tests.support.postgres import PostgresServer
from tests.support.recorder import Frame, Reading, Replaying
from tests.support.until import until

AGENTS: Final = ("tale", "fan", "quiet", "sync", "tale", "fan", "sync", "fragile", "tale", "fan")
LEASE_SECONDS: Final = 2.0
HALF_OPEN_SECONDS: Final = 6.0  # longer than a server waits for an answer of the database
ENDED_SECONDS_MAX: Final = 90.0
CALL_SECONDS_MAX: Final = 120.0
# Of the faults of each kind, so many have to hit something. A server that just started holds nothing.
HITS_MIN: Final = 0.5


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done."""

    servers: int
    slots: int  # runs at the same time
    readers: int  # of each run
    kills: int = 0
    postgres_stops: int = 0
    pauses: int = 0  # SIGSTOP past the lease
    cuts: int = 0  # connections to the database: closed, half-open, reply lost
    listens: int = 0  # connections that LISTEN
    runs_min: int = 0

    def planned(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in FAULTS}


FAULTS: Final = ("kills", "postgres_stops", "pauses", "cuts", "listens")

SIZES: Final = {
    "commit": Size(servers=3, slots=6, readers=2, kills=6, postgres_stops=2, pauses=3, cuts=6, listens=2, runs_min=15),
    "nightly": Size(
        servers=5, slots=20, readers=3, kills=1000, postgres_stops=100, pauses=200, cuts=200, listens=50, runs_min=2000
    ),
    "release": Size(
        servers=6, slots=40, readers=3, kills=3000, postgres_stops=300, pauses=600, cuts=600, listens=150, runs_min=6000
    ),
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign came to."""

    seed: int
    seconds: float
    size: Size
    done: Mapping[str, int]
    hits: Mapping[str, int]
    kinds_of_cuts: Mapping[str, int]
    runs: int
    findings: Findings

    def voids(self) -> list[str]:
        """Why it proves nothing."""
        wrong = [
            f"only {self.hits[name]} of {self.done[name]} {name} hit something"
            for name in FAULTS
            if self.hits[name] < HITS_MIN * self.done[name]
        ]
        # Who was told to stop early needs only as many as belong to the faults that were reached.
        share = sum(self.done.values()) / max(sum(self.size.planned().values()), 1)
        if self.findings.statuses["completed"] < self.size.runs_min * share:
            wrong.append(f"only {self.findings.statuses['completed']} runs completed")
        return wrong

    def lines(self) -> list[str]:
        """For people."""
        totals, statuses = self.findings.totals, sorted(self.findings.statuses.items())
        size = self.size
        return [
            f"seed {self.seed}, {self.seconds:.0f} s",
            f"{size.servers} servers, {size.slots} runs at a time, {size.slots * size.readers} readers",
            *(f"{name}: {self.done[name]} of {size.planned()[name]}, {self.hits[name]} hit" for name in FAULTS),
            f"cuts by kind: {', '.join(f'{count} {name}' for name, count in sorted(self.kinds_of_cuts.items()))}",
            f"runs: {self.runs} ({', '.join(f'{count} {name}' for name, count in statuses)})",
            f"events: {totals['events']}; read {totals['read']} times over {totals['connections']} connections",
            f"taken over: {totals['takeovers']} times; writes to runs that were audited: {totals['writes']}",
            f"recorded steps: {totals['steps']}, begun {totals['begun']} times; answers raced: {totals['answers']}",
            f"payments whose outcome was unknown, so that a person was asked: {totals['payments_asked']}",
            ", ".join(f"{count} {kind}" for kind, count in self.findings.counts().items()),
        ]


class Campaign:
    """One campaign. `seconds_max`: after so long no further fault begins."""

    def __init__(
        self,
        directory: Path,
        postgres: PostgresServer,
        size: Size,
        *,
        seed: int,
        mutant: str = "",
        environment: Mapping[str, str] | None = None,
        agents: tuple[str, ...] = AGENTS,
        seconds_max: float = 1e9,
        ended_seconds_max: float = ENDED_SECONDS_MAX,
        runs_max: int = 1_000_000,
        freezes: float = 0.3,
    ) -> None:
        self.size, self.seed = size, seed
        self.runs: dict[str, Tracked] = {}
        self.done: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.kinds_of_cuts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._directory = directory
        self._ledger = directory / "ledger"
        self._postgres = postgres
        self._mutant = mutant
        self._agents = agents
        self._seconds_max, self._ended_seconds_max, self._runs_max = seconds_max, ended_seconds_max, runs_max
        self._freezes = freezes  # of so many of the kills, the database was out of reach just before
        self._environment = {
            "CRASH_LEDGER": str(self._ledger),
            "HOLDFAST_LEASE_SECONDS": str(LEASE_SECONDS),
            "FAULTS_MUTANT": mutant,
            **(environment or {}),
        }
        self._is_over = False
        self._is_free = asyncio.Condition()
        self._later: set[asyncio.Task[None]] = set()
        self._cluster: Cluster
        self._eye: Eye

    async def carry_out(self) -> Report:
        """Let everything happen, wait for the end of all runs, judge."""
        began = time.monotonic()
        database = await self._postgres.make_database()
        url = self._postgres.url(database)
        await change_procedures(url, self._mutant)
        await self._postgres.execute(INSTALL, database=database)
        self._eye = Eye(url)
        cluster = Cluster(self._directory, self._postgres, url, count=self.size.servers, environment=self._environment)
        try:
            async with cluster:
                self._cluster = cluster
                await self._run()
            findings = await check(self._eye, self._ledger, self.runs)
        finally:
            await self._eye.close()
        return Report(
            seed=self.seed,
            seconds=time.monotonic() - began,
            size=self.size,
            done=self.done,
            hits=self.hits,
            kinds_of_cuts=self.kinds_of_cuts,
            runs=len(self.runs),
            findings=findings,
        )

    async def _run(self) -> None:
        callers = [asyncio.create_task(self._call(number)) for number in range(self.size.slots)]
        try:
            await until(
                lambda: sum(bool(run.readings) for run in self.runs.values()) >= self.size.slots // 2, seconds=60
            )
            await self._all_faults()
            self._is_over = True
            _, left = await asyncio.wait(callers, timeout=self._ended_seconds_max)
            for task in (*callers, *self._later):
                task.cancel()
            results = await asyncio.gather(*callers, return_exceptions=True)
            for result, task in zip(results, callers, strict=True):
                if task not in left and isinstance(result, Exception):
                    raise result
        finally:
            for task in (*callers, *self._later):
                task.cancel()
            await asyncio.gather(*callers, *self._later, return_exceptions=True)

    # Faults

    async def _all_faults(self) -> None:
        kinds: list[tuple[str, Callable[[random.Random], Awaitable[bool]]]] = [
            ("kills", self._kill),
            ("postgres_stops", self._stop_postgres),
            ("pauses", self._pause),
            ("cuts", self._cut),
            ("listens", self._end_listening),
        ]
        until_at = time.monotonic() + self._seconds_max
        async with asyncio.TaskGroup() as group:
            for name, fault in kinds:
                count = getattr(self.size, name)
                hands = HANDS.get(name, 1) if self.size.servers > 3 else 1
                for hand in range(hands):
                    chance = random.Random(self._random.randrange(1 << 32))
                    turns = len(range(hand, count, hands))
                    group.create_task(self._again_and_again(name, fault, chance, turns, until_at))

    async def _again_and_again(
        self,
        name: str,
        fault: Callable[[random.Random], Awaitable[bool]],
        chance: random.Random,
        turns: int,
        until_at: float,
    ) -> None:
        for _ in range(turns):
            # The one wait that is meant: a fault comes at any moment.
            await asyncio.sleep(chance.uniform(*PAUSES[name]))
            if time.monotonic() > until_at:
                return
            is_hit = await fault(chance)
            self.done[name] += 1
            self.hits[name] += is_hit

    @contextlib.asynccontextmanager
    async def _a_slot(self, chance: random.Random) -> Any:
        """A server that nothing else is done to; one is always left alone."""
        async with self._is_free:
            await self._is_free.wait_for(lambda: sum(not slot.is_busy for slot in self._cluster.slots) > 1)
            slot = await self._one_with_runs(chance)
            slot.is_busy = True
        try:
            yield slot
        finally:
            async with self._is_free:
                slot.is_busy = False
                self._is_free.notify_all()

    async def _one_with_runs(self, chance: random.Random) -> Slot:
        """A server that nothing is done to, better one that executes something."""
        holding = await self._eye.holding()
        free = [slot for slot in self._cluster.slots if not slot.is_busy]
        return chance.choice([slot for slot in free if slot.name in holding] or free)

    async def _kill(self, chance: random.Random) -> bool:
        async with self._a_slot(chance) as slot:
            if chance.random() < self._freezes:
                # What is shown before it is on disk would be seen now, and lost.
                slot.line.freeze()
                await asyncio.sleep(chance.uniform(0.05, 0.3))
            held = await self._eye.held(slot.name)
            self._cluster.kill(slot)
            slot.line.cut()
            await self._cluster.start(slot)
        return bool(held)

    async def _stop_postgres(self, chance: random.Random) -> bool:
        held = [await self._eye.held(slot.name) for slot in self._cluster.slots]
        await asyncio.to_thread(self._postgres.crash)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        await asyncio.to_thread(self._postgres.start)
        return any(held)

    async def _pause(self, chance: random.Random) -> bool:
        """Stop a process until its runs were taken over, or for two leases."""
        async with self._a_slot(chance) as slot:
            held = await self._runs_of(slot)
            self._cluster.stop(slot)
            try:
                taken = 0
                deadline = time.monotonic() + 3 * LEASE_SECONDS
                while held and not taken and time.monotonic() < deadline:
                    await asyncio.sleep(0.05)
                    taken = await self._eye.taken_over(held)
                await asyncio.sleep(chance.choice([0.0, 0.0, 0.3]))
            finally:
                self._cluster.go_on(slot)
            await asyncio.sleep(0.5)  # let it write, if it can
        return taken > 0

    async def _cut(self, chance: random.Random) -> bool:
        async with self._is_free:
            await self._is_free.wait_for(lambda: any(not slot.is_busy for slot in self._cluster.slots))
            slot = await self._one_with_runs(chance)
        assert slot.line is not None
        before = slot.line.snapshot()
        kind = ("closed", "half-open", "reply lost")[self.done["cuts"] % 3]
        self.kinds_of_cuts[kind] += 1
        if kind == "closed":
            slot.line.cut()
        elif kind == "half-open":
            slot.line.freeze()
            self._spawn(self._thaw(slot))
        else:
            slot.line.lose_replies()
            await asyncio.sleep(0.5)
            return bool(before - slot.line.snapshot())
        return bool(before)

    async def _thaw(self, slot: Slot) -> None:
        await asyncio.sleep(HALF_OPEN_SECONDS)
        assert slot.line is not None
        slot.line.drop_frozen()

    async def _end_listening(self, chance: random.Random) -> bool:
        with contextlib.suppress(TimeoutError):
            # Right after a fault of another kind, nobody listens yet.
            return bool(await until(lambda: self._eye.try_fetch(END_LISTENING), seconds=3, every=0.1))
        return False

    async def _runs_of(self, slot: Slot) -> list[tuple[int, int]]:
        """What a server executes; waits a little for it to have something."""
        with contextlib.suppress(TimeoutError):
            held: list[tuple[int, int]] = await until(lambda: self._eye.held(slot.name), seconds=3, every=0.05)
            return held
        return []

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # Callers

    async def _call(self, number: int) -> None:
        count = 0
        while not self._is_over and len(self.runs) < self._runs_max:
            run = await self._start_run(f"run-{number}-{count}", self._agents[(number + count) % len(self._agents)])
            await self._read(run)
            count += 1

    async def _start_run(self, run_id: str, agent: str) -> Tracked:
        thread_id = f"{run_id}/ü 😀"
        door = Door(self._cluster)
        path = f"/runs?agent={agent}&run_id={run_id}&thread_id={quote(thread_id, safe='')}"
        headers = {"Idempotency-Key": f"key-{run_id}"}
        answer = await door.insist("POST", path, {"message": "go"}, headers=headers, seconds=CALL_SECONDS_MAX)
        if answer.status != 202 or answer.json()["run_id"] != run_id:
            raise AssertionError(f"start of {run_id}: {answer.status} {answer.body!r}")
        run = self.runs[run_id] = Tracked(run_id, agent, thread_id)
        run.started_at = door.number
        return run

    async def _read(self, run: Tracked) -> None:
        """One reader wherever it comes to, the others elsewhere than where the run began."""
        elsewhere = [Door(self._cluster, but=run.started_at) for _ in range(self.size.readers - 1)]
        run.readings = [Reading(Door(self._cluster), run.run_id)]
        for place, door in enumerate(elsewhere):
            if (place + len(self.runs)) % 2:
                run.readings.append(Replaying(door, run.thread_id, run.run_id))
            else:
                run.readings.append(Reading(door, run.run_id, by_header=False))
        run.first.on_frame = lambda frame: self._on_frame(run, frame)
        await asyncio.gather(*(reading.read() for reading in run.readings))

    def _on_frame(self, run: Tracked, frame: Frame) -> None:
        if frame.event == "interrupt":
            interrupt = frame.json()
            answers = [True, False] if interrupt["kind"] == "approval" else ["yes", "no"]
            for answer in answers:  # at two servers, at the same moment: one of them wins
                self._spawn(self._answer(run, interrupt["interrupt_id"], answer))

    async def _answer(self, run: Tracked, interrupt_id: str, answer: Any) -> None:
        door = Door(self._cluster)
        path = f"/runs/{run.run_id}/interrupts/{interrupt_id}"
        given = await door.insist("POST", path, {"answer": answer}, seconds=CALL_SECONDS_MAX)
        if given.status == 200:
            run.won[interrupt_id].append(answer)
        elif given.status != 409:
            run.first.faults.append(f"answer {answer}: {given.status} {given.body!r}")


END_LISTENING: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query ILIKE 'LISTEN%' AND datname = current_database() ORDER BY random() LIMIT 2
"""

# How many do it at the same time, where there are enough servers: starting one takes most of the time.
HANDS: Final = {"kills": 2}

# Seconds between two faults of a kind.
PAUSES: Final[dict[str, tuple[float, float]]] = {
    "kills": (0.05, 0.4),
    "postgres_stops": (2.0, 5.0),
    "pauses": (0.1, 1.0),
    "cuts": (0.1, 1.5),
    "listens": (1.0, 4.0),
}
