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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tests.faults.audit import INSTALL, Eye
from tests.faults.checker import Findings, Tracked, check
from tests.faults.cluster import Cluster, Door
from tests.faults.harm import LEASE_SECONDS, PATIENCE_SECONDS, Fault, Harm
from tests.faults.mutants import change_procedures
from tests.faults.overseer import Overseer
from tests.support.postgres import PostgresServer
from tests.support.recorder import Frame, Reading, Replaying
from tests.support.until import until

AGENTS: Final = ("tale", "fan", "quiet", "sync", "tale", "fan", "sync", "fragile", "tale", "fan")
# Not what is proven, so that a busy machine makes no difference: for all runs to end, for a call to be answered, for
# the readers of everything to have caught up. The next run has half as long again to complete.
ENDED_SECONDS_MAX: Final = 120.0
CALL_SECONDS_MAX: Final = 180.0
OVERSEEN_SECONDS_MAX: Final = 120.0
# Of the faults of each kind, so many have to hit something: each waits for a server that executes.
HITS_MIN: Final = 0.9
FOREVER: Final = 1e9
# Before each fault, seconds.
PAUSE_SECONDS: Final = (0.0, 0.4)
# How many do it at the same time, where there are enough servers.
HANDS: Final = {"kills": 2}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done."""

    servers: int
    slots: int  # runs at the same time
    readers: int  # of each run
    overseers: int = 1  # readers of all runs
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
    "commit": Size(servers=3, slots=6, readers=2, kills=8, postgres_stops=2, pauses=3, cuts=6, listens=2, runs_min=24),
    "nightly": Size(
        servers=5,
        slots=20,
        readers=3,
        overseers=3,
        kills=1000,
        postgres_stops=100,
        pauses=200,
        cuts=200,
        listens=50,
        runs_min=2000,
    ),
    "release": Size(
        servers=6,
        slots=40,
        readers=3,
        overseers=3,
        kills=3000,
        postgres_stops=300,
        pauses=600,
        cuts=600,
        listens=150,
        runs_min=6000,
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
            f"{size.servers} servers, {size.slots} runs at a time",
            f"readers: {size.slots * size.readers} of a run each, {size.overseers} of all runs",
            *(f"{name}: {self.done[name]} of {size.planned()[name]}, {self.hits[name]} hit" for name in FAULTS),
            f"cuts by kind: {', '.join(f'{count} {name}' for name, count in sorted(self.kinds_of_cuts.items()))}",
            f"runs: {self.runs} ({', '.join(f'{count} {name}' for name, count in statuses)})",
            f"events: {totals['events']}",
            f"frames read: {totals['read']} of a run, {totals['overseen']} of all; connections: {totals['connections']}",
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
        seconds_max: float = FOREVER,
        ended_seconds_max: float = ENDED_SECONDS_MAX,
        runs_max: int = 1_000_000,
        freezes: float = 0.3,
    ) -> None:
        self.size, self.seed = size, seed
        self.runs: dict[str, Tracked] = {}
        self.done: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.completed = 0  # runs, with all their readers
        self._random = random.Random(seed)
        self._directory = directory
        self._ledger = directory / "ledger"
        self._postgres = postgres
        self._mutant = mutant
        self._agents = agents
        self._seconds_max, self._ended_seconds_max, self._runs_max = seconds_max, ended_seconds_max, runs_max
        self._freezes = freezes
        self._environment = {
            "CRASH_LEDGER": str(self._ledger),
            "HOLDFAST_LEASE_SECONDS": str(LEASE_SECONDS),
            "FAULTS_MUTANT": mutant,
            **(environment or {}),
        }
        self._is_over = False
        self._answering: set[asyncio.Task[None]] = set()
        self._overseers: list[Overseer] = []
        self._cluster: Cluster
        self._eye: Eye
        self._harm: Harm

    async def carry_out(self) -> Report:
        """Let everything happen, wait for the end of all runs, judge."""
        began = time.monotonic()
        database = await self._postgres.make_database()
        url = self._postgres.url(database)
        await change_procedures(url, self._mutant)
        await self._postgres.execute(INSTALL, database=database)
        self._eye = Eye(url)
        watching = asyncio.create_task(self._eye.watch())
        cluster = Cluster(self._directory, self._postgres, url, count=self.size.servers, environment=self._environment)
        try:
            async with cluster:
                self._cluster = cluster
                self._harm = Harm(cluster, self._postgres, self._eye, freezes=self._freezes)
                await self._run()
            findings = await check(self._eye, self._ledger, self.runs, self._overseers)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._eye.close()
        return Report(
            seed=self.seed,
            seconds=time.monotonic() - began,
            size=self.size,
            done=self.done,
            hits=self.hits,
            kinds_of_cuts=self._harm.kinds_of_cuts,
            runs=len(self.runs),
            findings=findings,
        )

    async def _run(self) -> None:
        callers = [asyncio.create_task(self._call(number)) for number in range(self.size.slots)]
        self._overseers = [Overseer(Door(self._cluster)) for _ in range(self.size.overseers)]
        overseeing = [asyncio.create_task(overseer.read()) for overseer in self._overseers]
        tasks = [*callers, *overseeing]
        try:
            await until(
                lambda: sum(bool(run.readings) for run in self.runs.values()) >= self.size.slots // 2,
                seconds=PATIENCE_SECONDS,
            )
            await self._all_faults()
            if self._seconds_max == FOREVER:
                await self._completed_at_least(self.size.runs_min, FOREVER)
            self._is_over = True
            await self._all_ended(callers)
            await self._all_overseen()
        finally:
            await self._harm.stop()
            for task in (*tasks, *self._answering):
                task.cancel()
            await asyncio.gather(*tasks, *self._answering, return_exceptions=True)

    async def _all_ended(self, callers: list[asyncio.Task[None]]) -> None:
        """Whoever is not through in time is found by the judge; what was wrong with a call is raised here."""
        done, _ = await asyncio.wait(callers, timeout=self._ended_seconds_max)
        for task in done:
            task.result()

    async def _all_overseen(self) -> None:
        """Who reads by time is shown an event only when no process can commit an older one: when dead ones are away."""
        tails = await self._eye.tails()
        with contextlib.suppress(TimeoutError):
            await until(
                lambda: all(overseer.faults or not overseer.lacks(tails) for overseer in self._overseers),
                seconds=min(OVERSEEN_SECONDS_MAX, 2 * self._ended_seconds_max),
                every=0.05,
            )

    # Faults

    async def _all_faults(self) -> None:
        until_at = time.monotonic() + self._seconds_max
        async with asyncio.TaskGroup() as group:
            for name, fault in self._harm.faults().items():
                count = getattr(self.size, name)
                hands = HANDS.get(name, 1) if self.size.servers > 3 else 1
                for hand in range(hands):
                    chance = random.Random(self._random.randrange(1 << 32))
                    turns = len(range(hand, count, hands))
                    group.create_task(self._again_and_again(name, fault, chance, turns, until_at))

    async def _again_and_again(
        self, name: str, fault: Fault, chance: random.Random, turns: int, until_at: float
    ) -> None:
        """
        One fault after the other, spread over the runs that have to complete: a slow machine takes longer, and
        proves the same.
        """
        for turn in range(turns):
            await self._completed_at_least((turn + chance.random()) / turns * self.size.runs_min, until_at)
            # The one wait that is meant: a fault comes at any moment.
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))
            if time.monotonic() > until_at:
                return
            is_hit = await fault(chance)
            self.done[name] += 1
            self.hits[name] += is_hit

    async def _completed_at_least(self, count: float, until_at: float) -> None:
        """Until so many runs completed; no longer than until_at, nor when nothing completes any more."""
        seen, deadline = -1, until_at
        while self.completed < count and time.monotonic() < deadline:
            if self.completed != seen:
                seen, deadline = self.completed, min(until_at, time.monotonic() + 1.5 * self._ended_seconds_max)
            await asyncio.sleep(0.02)

    # Callers

    async def _call(self, number: int) -> None:
        count = 0
        while not self._is_over and len(self.runs) < self._runs_max:
            run = await self._start_run(f"run-{number}-{count}", self._agents[(number + count) % len(self._agents)])
            await self._read(run)
            self.completed += run.first.types[-1:] == ["complete"]
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
        """All elsewhere than where the run began; where it goes on after a take-over, nobody knows."""
        first, *elsewhere = [Door(self._cluster, but=run.started_at) for _ in range(self.size.readers)]
        run.readings = [Reading(first, run.run_id)]
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
                task = asyncio.create_task(self._answer(run, interrupt["interrupt_id"], answer))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer(self, run: Tracked, interrupt_id: str, answer: Any) -> None:
        door = Door(self._cluster)
        path = f"/runs/{run.run_id}/interrupts/{interrupt_id}"
        given = await door.insist("POST", path, {"answer": answer}, seconds=CALL_SECONDS_MAX)
        if given.status == 200:
            run.won[interrupt_id].append(answer)
        elif given.status != 409:
            run.first.faults.append(f"answer {answer}: {given.status} {given.body!r}")
