"""
A campaign of kills: a server that dies at random moments, runs that are under way all the time, readers that come
back each time, and the books of what everybody saw. `check` compares them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tests.crash.texts import TEXTS
from tests.support.forks import Nursery
from tests.support.ledger import Fact, facts
from tests.support.recorder import Frame, Reading, Replaying, Target
from tests.support.server import KEY, ServerProcess, spawn_server, start_server
from tests.support.until import until

AGENTS: Final = Path(__file__).with_name("agents.py")
SLOTS: Final = 10
RECOVERY_SECONDS: Final = 2.0  # of the embedded store; on Postgres, others take over within
TAKE_OVER_SECONDS: Final = 10.0
LEASE_SECONDS: Final = 0.4  # on Postgres: a new process has to wait for the lease of the dead one
SIGN_SECONDS_MAX: Final = 60.0  # for a sign of life, before the next kill; not what is proven
FINAL: Final = frozenset({"completed", "failed", "cancelled"})
REWRITTEN: Final = frozenset({"step", "error"})  # by the Runtime API, on their way out
KINDS: Final = ("tale", "tale", "sync", "fan", "tale", "sync", "fan", "tale", "fragile", "tale")


class Tracked:
    """A run that the server acknowledged, and who read it."""

    def __init__(self, run_id: str, agent: str, thread_id: str) -> None:
        self.run_id, self.agent, self.thread_id = run_id, agent, thread_id
        self.readings: list[Reading] = []
        self.answers: dict[str, Any] = {}  # by interrupt, as they were acknowledged
        self.is_left_waiting = False

    @property
    def first(self) -> Reading:
        return self.readings[0]

    def is_executing(self) -> bool:
        """By what its first reader saw last."""
        for frame in reversed(self.first.frames):
            if frame.event == "interrupt":
                return False
            if frame.event != "token":
                break
        return bool(self.first.frames) and not self.first.is_finished


class Life(msgspec.Struct):
    """One server process, from its start to its death; monotonic nanoseconds."""

    spawned_at: int
    up_at: int
    recovered_seconds: float | None = None  # from listening to all runs going on
    is_hit: bool = False  # a run was executing when it died


class Report(msgspec.Struct, kw_only=True):
    """What a campaign came to."""

    seed: int
    seconds: float
    kills: int
    kills_while_starting: int
    hits: int
    runs: int
    statuses: Mapping[str, int]
    events: int
    frames_read: int
    connections: int
    takeovers: int
    steps: int
    steps_begun: int
    payments_asked: int
    recovery_median: float  # seconds from the process's first instruction
    recovery_max: float
    recovery_listening_max: float  # seconds from when it listens

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"seed {self.seed}, {self.seconds:.0f} s",
            f"kills: {self.kills}, {self.hits} of them while a run executed",
            f"kills while the server started: {self.kills_while_starting} more",
            f"runs: {self.runs} ({', '.join(f'{count} {name}' for name, count in sorted(self.statuses.items()))})",
            f"events: {self.events}; read {self.frames_read} times over {self.connections} connections",
            f"executed again after a death: {self.takeovers} times",
            f"recorded steps: {self.steps}, begun {self.steps_begun} times",
            f"payments whose outcome was unknown, so that a person was asked: {self.payments_asked}",
            f"from the start of the process to all runs going on: median {self.recovery_median:.2f} s",
            f"the same, longest: {self.recovery_max:.2f} s",
            f"from listening to all runs going on, longest: {self.recovery_listening_max * 1000:.0f} ms",
        ]


class Campaign:
    """
    Runs one. `kills` many times the server dies; every fifth new one already while it starts.

    Args:
        store: a database; by default an embedded store.
        nursery: what forks the server processes; without one each is a new Python, and takes its second to start.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kills: int,
        seed: int,
        port: int,
        mutant: str = "",
        store: str | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self.kills, self.seed = kills, seed
        self.recovery_seconds = RECOVERY_SECONDS if store is None else TAKE_OVER_SECONDS
        self._nursery = nursery
        self.random = random.Random(seed)
        self.target = Target(port, KEY)
        self.runs: dict[str, Tracked] = {}
        self.lives: list[Life] = []
        self.kills_while_starting = 0
        self.problems: list[str] = []
        self._data = directory / "data"
        self._ledger = directory / "ledger"
        self._environment = {"HOLDFAST_PORT": str(port), "CRASH_LEDGER": str(self._ledger), "CRASH_MUTANT": mutant}
        if store is not None:
            self._environment |= {"HOLDFAST_STORE": store, "CRASH_LEASE_SECONDS": str(LEASE_SECONDS)}
        self._server: ServerProcess | None = None
        self._is_over = False
        self._is_approved: Callable[[], bool] = lambda: self.random.random() < 0.5
        self._answering: set[asyncio.Task[None]] = set()

    async def carry_out(self) -> Report:
        """Kill, wait for the end of all runs, compare all books."""
        began = time.monotonic()
        slots: list[asyncio.Task[None]] = []
        try:
            await self._start()
            slots = [asyncio.create_task(self._slot(number)) for number in range(SLOTS)]
            await self._kill_again_and_again()
            self._is_over = True
            await self._all_over(slots)
            return await self._check(time.monotonic() - began)
        finally:
            for task in (*slots, *self._answering):
                task.cancel()
            await asyncio.gather(*slots, *self._answering, return_exceptions=True)
            if self._server is not None:
                self._server.kill()

    async def die_at(self, agent: str, points: Sequence[str]) -> None:
        """One run through processes that die at these points, one after the other, and a last one that lives."""
        calling: asyncio.Task[None] | None = None
        self._is_approved = lambda: True
        try:
            for point in points:
                await self._start(point)
                calling = calling or asyncio.create_task(self._call_once(agent))
                assert self._server is not None
                if await asyncio.to_thread(self._left, self._server, 20):
                    raise AssertionError(f"{point} was not reached: {await self._seen()}")
                self.target.up.clear()
            self._is_over = True
            await self._start()
            assert calling is not None
            done, _ = await asyncio.wait([calling], timeout=20)
            if not done:
                raise AssertionError(f"the run did not end: {await self._seen()}")
            await calling
            await self._check(0)
        finally:
            if calling is not None:
                calling.cancel()
                await asyncio.gather(calling, *self._answering, return_exceptions=True)
            if self._server is not None:
                self._server.kill()

    @staticmethod
    def _left(server: ServerProcess, seconds: float) -> bool:
        """Whether the process is still there after so long."""
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    async def _seen(self) -> str:
        """How far the runs came, for people."""
        rows = [(await self.target.insist("GET", f"/runs/{run_id}")).body.decode() for run_id in self.runs]
        last = [reading.lines[-3:] for run in self.runs.values() for reading in run.readings]
        return f"{rows}, read {last}, problems {self.problems}"

    async def _call_once(self, agent: str) -> None:
        await self._read(await self._start_run("run-0", agent))

    async def _all_over(self, slots: list[asyncio.Task[None]]) -> None:
        """Wait for the last runs; whoever is not through in time is named."""
        _, left = await asyncio.wait(slots, timeout=60)
        for task in (*left, *self._answering):
            task.cancel()
        for run in self.runs.values():
            for reading in run.readings:
                if not reading.is_finished and not run.is_left_waiting:
                    last = reading.frames[-1].data.decode() if reading.frames else "nothing"
                    row = (await self.target.insist("GET", f"/runs/{run.run_id}")).json()
                    self.problems.append(
                        f"{run.run_id} ({run.agent}): {type(reading).__name__} is not through; it read {last} last, "
                        f"the run is {row['status']} at {row['tail_sequence']}, attempt {row['attempt']}"
                    )

    # The server

    async def _start(self, crash_at: str = "") -> None:
        spawned_at = time.monotonic_ns()
        environment = {**self._environment, "CRASH_AT": crash_at}
        self._server = await asyncio.to_thread(
            start_server, self._data, agents=AGENTS, environment=environment, nursery=self._nursery
        )
        self.lives.append(Life(spawned_at, time.monotonic_ns()))
        self.target.up.set()

    async def _kill_again_and_again(self) -> None:
        for number in range(self.kills):
            life = self.lives[-1]
            if number % 3:
                life.recovered_seconds = await self._recovered(life)
                # The one wait that is meant: a death comes at any moment.
                await asyncio.sleep(self.random.uniform(0.02, 0.6))
            # Every third one comes at the first sign of life, while the other runs are still being taken up.
            await until(lambda: self._executes(life), seconds=SIGN_SECONDS_MAX)  # noqa: B023  awaited at once
            self._kill(life)
            if number % 5 == 4:
                await self._start_and_kill_at_once()
            await self._start()
        life = self.lives[-1]
        life.recovered_seconds = await self._recovered(life)

    def _kill(self, life: Life) -> None:
        assert self._server is not None
        assert self._server.popen.poll() is None, self._server.log()
        life.is_hit = self._executes(life)
        self.target.up.clear()
        self._server.kill()

    def _executes(self, life: Life) -> bool:
        """Whether a run goes on in this life, as far as was seen."""
        return any(run.is_executing() and run.first.frames[-1].at > life.up_at for run in self.runs.values())

    async def _start_and_kill_at_once(self) -> None:
        """A death while the server starts: somewhere between its first instruction and the runs that go on."""
        starting, told = await asyncio.to_thread(
            spawn_server, self._data, agents=AGENTS, environment=self._environment, nursery=self._nursery
        )
        await asyncio.sleep(self.random.uniform(*((0.2, 1.5) if self._nursery is None else (0.0, 0.15))))
        starting.kill()
        starting.wait()
        os.close(told)
        self.kills_while_starting += 1

    async def _recovered(self, life: Life) -> float:
        """Seconds until every run that can execute does."""
        while True:
            answer = await self.target.insist("GET", "/runs?status=accepted,running&limit=200")
            waiting = [
                row["run_id"]
                for row in answer.json()["runs"]
                if (run := self.runs.get(row["run_id"])) is not None
                and not any(reading.frames and reading.frames[-1].at > life.up_at for reading in run.readings)
            ]
            seconds = (time.monotonic_ns() - life.up_at) / 1e9
            if not waiting:
                return seconds
            if seconds > 3 * self.recovery_seconds:
                self.problems.append(f"{waiting} did not go on within {seconds:.1f} s of a start")
                return seconds
            await asyncio.sleep(0.01)

    # The callers

    async def _slot(self, number: int) -> None:
        count = 0
        while not self._is_over:
            agent = KINDS[(number + count) % len(KINDS)]
            run = await self._start_run(f"run-{number}-{count}", agent)
            run.is_left_waiting = number == 0 and count == 1
            await self._read(run)
            count += 1

    async def _start_run(self, run_id: str, agent: str) -> Tracked:
        thread_id = f"{run_id}/ü 😀"
        path = f"/runs?agent={agent}&run_id={run_id}&thread_id={quote(thread_id, safe='')}"
        answer = await self.target.insist("POST", path, {"message": "go"}, headers={"Idempotency-Key": f"key-{run_id}"})
        if answer.status != 202 or answer.json()["run_id"] != run_id:
            self.problems.append(f"start of {run_id}: {answer.status} {answer.body!r}")
        run = self.runs[run_id] = Tracked(run_id, agent, thread_id)
        return run

    async def _read(self, run: Tracked) -> None:
        """Two readers of a run: one by header, the other by query or over the Engine API."""
        second: Reading
        if len(self.runs) % 2:
            second = Replaying(self.target, run.thread_id, run.run_id)
        else:
            second = Reading(self.target, run.run_id, by_header=False)
        run.readings = [Reading(self.target, run.run_id), second]
        run.first.on_frame = lambda frame: self._on_frame(run, frame)
        if not run.is_left_waiting:
            await asyncio.gather(*(reading.read() for reading in run.readings))
            return
        reading = [asyncio.create_task(item.read()) for item in run.readings]
        await until(lambda: "interrupt" in run.first.types or run.first.is_finished, seconds=120)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def _on_frame(self, run: Tracked, frame: Frame) -> None:
        if frame.event == "interrupt":
            interrupt = frame.json()
            is_left = run.is_left_waiting and interrupt["kind"] == "question"
            if not is_left:
                task = asyncio.create_task(self._answer(run, interrupt))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer(self, run: Tracked, interrupt: dict[str, Any]) -> None:
        """Answer at once, or only after the next death."""
        if self.random.random() < 0.3 and not self._is_over:
            lives = len(self.lives)
            await until(lambda: len(self.lives) > lives or self._is_over, seconds=120)
        answer: Any = self._is_approved() if interrupt["kind"] == "approval" else "yes"
        path = f"/runs/{run.run_id}/interrupts/{interrupt['interrupt_id']}"
        given = await self.target.insist("POST", path, {"answer": answer})
        if given.status == 200:
            run.answers[interrupt["interrupt_id"]] = answer
        elif given.status != 409 or given.json()["code"] != "RUN_FINISHED" or run.agent != "fragile":
            self.problems.append(f"answer to {run.run_id}: {given.status} {given.body!r}")

    # The books

    async def _check(self, seconds: float) -> Report:
        written = facts(self._ledger)
        by_step: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in written:
            by_step[fact.run_id, fact.key].append(fact)
        statuses: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for run in self.runs.values():
            statuses[await self._check_run(run, by_step, totals)] += 1
        after_listening = [life.recovered_seconds for life in self.lives if life.recovered_seconds is not None]
        recoveries = sorted(
            life.recovered_seconds + (life.up_at - life.spawned_at) / 1e9
            for life in self.lives
            if life.recovered_seconds is not None
        )
        return Report(
            seed=self.seed,
            seconds=seconds,
            kills=self.kills,
            kills_while_starting=self.kills_while_starting,
            hits=sum(life.is_hit for life in self.lives),
            runs=len(self.runs),
            statuses=dict(statuses),
            events=totals["events"],
            frames_read=sum(len(reading.frames) for run in self.runs.values() for reading in run.readings),
            connections=sum(reading.connects for run in self.runs.values() for reading in run.readings),
            takeovers=totals["takeovers"],
            steps=totals["steps"],
            steps_begun=sum(fact.what == "begin" for fact in written),
            payments_asked=totals["payments_asked"],
            recovery_median=recoveries[len(recoveries) // 2] if recoveries else 0.0,
            recovery_max=max(recoveries, default=0.0),
            recovery_listening_max=max(after_listening, default=0.0),
        )

    async def _check_run(
        self, run: Tracked, by_step: Mapping[tuple[str, str], list[Fact]], totals: Counter[str]
    ) -> str:
        """Compare everything that is known of one run; its status is returned."""
        found = await self.target.insist("GET", f"/runs/{run.run_id}")
        if found.status != 200:
            self.problems.append(f"{run.run_id} was acknowledged and is lost: {found.status}")
            return "lost"
        row = found.json()
        exported = await self.target.insist("GET", f"/runs/{run.run_id}/export")
        lines = [line for line in exported.body.splitlines() if line.startswith(b'{"id"')]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        totals["events"] += len(events)
        totals["takeovers"] += sum(event["type"] == "restarted" for event in events)
        problems = [
            *self._wrong_ends(run, row, events),
            *await self._wrong_readings(run, lines),
            *await self._wrong_replay(run),
            *self._wrong_text(run, row, events),
            *await self._wrong_steps(run, row, by_step, totals),
            *await self._wrong_answers(run, by_step, totals),
        ]
        verified = (await self.target.insist("GET", f"/runs/{run.run_id}/verify")).json()
        if not verified["ok"] or verified["events"] != len(events):
            problems.append(f"verify says {verified}")
        self.problems += [f"{run.run_id} ({run.agent}): {problem}" for problem in problems]
        return str(row["status"])

    def _wrong_ends(self, run: Tracked, row: Any, events: list[dict[str, Any]]) -> Iterator[str]:
        if [event["sequence"] for event in events] != list(range(len(events))):
            yield "the journal has a gap"
        terminal = [event["type"] for event in events if event["type"] in ("complete", "error", "cancelled")]
        if run.is_left_waiting:
            if row["status"] not in ("waiting", "failed") or (row["status"] == "waiting" and terminal):
                yield f"it was left waiting and is {row['status']}"
        elif row["status"] not in FINAL or len(terminal) != 1 or events[-1]["type"] != terminal[0]:
            yield f"it is {row['status']} with terminal events {terminal}"
        if row["status"] == "failed" and (run.agent != "fragile" or row["error"]["code"] != "INTERRUPTED"):
            yield f"it failed: {row['error']}"
        restarts = [event["attempt"] for event in events if event["type"] == "restarted"]
        if restarts != list(range(2, row["attempt"] + 1)):
            yield f"attempt {row['attempt']}, but restarted {restarts}"

    async def _wrong_readings(self, run: Tracked, lines: list[bytes]) -> list[str]:
        """Every reader has what one reads who comes only now, and that is the journal (but for what the API rewrites)."""
        wrong: list[str] = []
        now = Reading(self.target, run.run_id)
        stream = await self.target.open("GET", now.request()[0])
        async for frame in stream.frames():
            now.take(frame)
            if len(now.frames) == len(lines):
                break
        stream.close()
        shown = [(a, b) for a, b, name in zip(now.lines, lines, now.types, strict=False) if name not in REWRITTEN]
        if len(now.frames) != len(lines) or any(a != b for a, b in shown):
            wrong.append("what is streamed is not what is stored")
        for reading in run.readings:
            wrong += reading.faults
            if isinstance(reading, Replaying):
                continue
            if reading.lines != now.lines[: len(reading.lines)]:
                wrong.append("a reader saw events that are lost or differ now")
            if reading.is_finished and len(reading.lines) != len(lines):
                wrong.append(f"a reader has {len(reading.lines)} of {len(lines)} events")
        return wrong

    async def _wrong_replay(self, run: Tracked) -> list[str]:
        replayed = [reading for reading in run.readings if isinstance(reading, Replaying)]
        if not replayed:
            return []
        again = Replaying(self.target, run.thread_id, run.run_id)
        stream = await self.target.open("GET", f"{again.request()[0]}&follow=0")
        async for frame in stream.frames():
            again.take(frame)
        stream.close()
        wrong = list(again.faults)
        for reading in replayed:
            if reading.lines != again.lines[: len(reading.lines)]:
                wrong.append("a replaying reader saw frames that are lost or differ now")
            if reading.is_finished and len(reading.lines) != len(again.lines):
                wrong.append(f"a replaying reader has {len(reading.lines)} of {len(again.lines)} frames")
        return wrong

    def _wrong_text(self, run: Tracked, row: Any, events: list[dict[str, Any]]) -> Iterator[str]:
        void: set[int] = set()
        for event in events:
            if event["type"] == "restarted":
                for first, last in event["discard"]:
                    void.update(range(first, last + 1))
        text = "".join(e["content"] for e in events if e["type"] == "token" and e["sequence"] not in void)
        wanted = TEXTS[run.agent]
        if text != wanted if row["status"] == "completed" else not wanted.startswith(text):
            yield f"its text is {text!r}"

    async def _wrong_steps(
        self, run: Tracked, row: Any, by_step: Mapping[tuple[str, str], list[Fact]], totals: Counter[str]
    ) -> list[str]:
        wrong: list[str] = []
        steps = (await self.target.insist("GET", f"/runs/{run.run_id}/steps")).json()["steps"]
        recorded = {step["key"]: step["output"] for step in steps if step["status"] == "completed"}
        totals["steps"] += len(recorded)
        for key, token in recorded.items():
            noted = by_step[run.run_id, key]
            begun = [fact.token for fact in noted if fact.what == "begin"]
            ended = [fact.token for fact in noted if fact.what == "end"]
            if ended.count(token) != 1 or begun[-1] != token:
                wrong.append(f"step {key} is recorded as {token}, the ledger has {begun} and {ended}")
        output = row["output"] or {}
        for key, token in {**output.get("steps", {}), "pay": output.get("paid")}.items():
            if token not in (None, "unknown") and recorded.get(key) != token:
                wrong.append(f"step {key} gave {token} and is recorded as {recorded.get(key)}")
        for frame in run.first.frames:
            if frame.event == "step":
                key = frame.json()["node_name"]
                late = [f for f in by_step[run.run_id, key] if f.what == "begin" and f.at > frame.at]
                if late:
                    wrong.append(f"step {key} was begun again after a reader had seen it completed")
        return wrong

    async def _wrong_answers(
        self, run: Tracked, by_step: Mapping[tuple[str, str], list[Fact]], totals: Counter[str]
    ) -> list[str]:
        wrong: list[str] = []
        answer = await self.target.insist("GET", f"/runs/{run.run_id}/interrupts?status=all")
        interrupts = {item["interrupt_id"]: item for item in answer.json()["interrupts"]}
        for interrupt_id, given in run.answers.items():
            if interrupts[interrupt_id]["status"] != "resolved":
                wrong.append(f"the answer to {interrupt_id} was acknowledged and is lost")
            elif (approved(interrupts[interrupt_id]) if isinstance(given, bool) else given) != given:
                wrong.append(f"the answer to {interrupt_id} was {given}, it is {interrupts[interrupt_id]['answer']}")
        approvals = [item for item in interrupts.values() if item["kind"] == "approval"]
        totals["payments_asked"] += len(approvals)
        allowed = 1 + sum(item["status"] == "resolved" and approved(item) for item in approvals)
        begun = sum(fact.what == "begin" for fact in by_step[run.run_id, "pay"])
        if begun > allowed:
            wrong.append(f"the payment was attempted {begun} times, allowed were {allowed}")
        return wrong


def approved(interrupt: dict[str, Any]) -> bool:
    """Whether an approval was granted, in either form in which it is shown."""
    answer = interrupt["answer"]
    return bool(answer["approved"] if isinstance(answer, dict) else answer)
