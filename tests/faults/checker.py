"""
The one judge. It reads what readers were shown, what the agents wrote into their ledger, and the tables of the database
itself; it asks no server. What it counts must be nothing:

    lost      acknowledged or seen, and not there (any more), or different
    gaps      a journal or a reader that lacks an event
    repeats   a reader that got an event twice, a step that was done again, a payment more often than allowed
    stale     written under a lease that somebody else had taken
    endless   a run without an end
    broken    a hash chain that does not fit, a text that is not what its agent says, two answers that both won
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.crash.texts import TEXTS as CRASH_TEXTS
from tests.faults.audit import Eye, Note, stale_writes
from tests.faults.overseer import Overseer
from tests.support.ledger import Fact, facts
from tests.support.recorder import Reading, Replaying

TEXTS: Final = {**CRASH_TEXTS, "quiet": "before after "}
REWRITTEN: Final = frozenset({"step", "error"})  # by the Runtime API, on their way out
TERMINAL: Final = frozenset({"complete", "error", "cancelled"})
FINAL: Final = frozenset({"completed", "failed", "cancelled"})

KINDS: Final = ("lost", "gaps", "repeats", "stale", "endless", "broken")


class Tracked:
    """A run that was acknowledged, and what everybody saw of it."""

    def __init__(self, run_id: str, agent: str, thread_id: str) -> None:
        self.run_id, self.agent, self.thread_id = run_id, agent, thread_id
        self.started_at: int | None = None  # the slot
        self.readings: list[Reading] = []
        self.won: dict[str, list[Any]] = defaultdict(list)  # by interrupt: the answers that got 200

    @property
    def first(self) -> Reading:
        return self.readings[0]


class Problem(msgspec.Struct, frozen=True):
    """Something that must not be."""

    kind: str
    run_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.run_id}: {self.text}"


class Findings(msgspec.Struct):
    """What it found, and how much it looked at."""

    problems: list[Problem]
    statuses: Counter[str]
    totals: Counter[str]

    def counts(self) -> dict[str, int]:
        found = Counter(problem.kind for problem in self.problems)
        return {kind: found[kind] for kind in KINDS}


async def check(eye: Eye, ledger: Path, runs: Mapping[str, Tracked], overseers: Sequence[Overseer] = ()) -> Findings:
    """Compare all books of runs that were acknowledged."""
    judge = _Judge(eye, ledger)
    for run in runs.values():
        await judge.look_at(run)
    await judge.look_at_writes()
    await judge.look_at_overseers(overseers)
    return Findings(judge.problems, judge.statuses, judge.totals)


class _Judge:
    def __init__(self, eye: Eye, ledger: Path) -> None:
        self.problems: list[Problem] = []
        self.statuses: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self._eye = eye
        self._by_step: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in facts(ledger):
            self._by_step[fact.run_id, fact.key].append(fact)
            self.totals["begun"] += fact.what == "begin"

    async def look_at_writes(self) -> None:
        rows = await self._eye.fetch(
            "SELECT writer, number, old_epoch, old_owner, new_epoch, new_owner, tail FROM audit.heads ORDER BY id"
        )
        self.totals["writes"] = len(rows)
        self.problems += [Problem("stale", "", text) for text in stale_writes([Note(*row) for row in rows])]

    async def look_at_overseers(self, overseers: Sequence[Overseer]) -> None:
        tails = await self._eye.tails()
        for overseer in overseers:
            self.totals["overseen"] += overseer.taken
            self.totals["connections"] += overseer.connects
            wrong = overseer.faults or [f"it lacks {lack}" for lack in overseer.lacks(tails)]
            self.problems += [Problem("gaps", "", f"a reader of all runs: {text}") for text in wrong]

    async def look_at(self, run: Tracked) -> None:
        rows = await self._eye.fetch(
            "SELECT r.number, r.status, r.attempt, r.error, r.output, r.prior_hash, r.first_sequence, "
            "h.tail_sequence, h.head_hash, h.is_over FROM holdfast.runs r JOIN holdfast.heads h USING (number) "
            "WHERE r.run_id = $1",
            run.run_id,
        )
        if len(rows) != 1:
            self._add("lost" if not rows else "repeats", run, f"it was acknowledged, and is there {len(rows)} times")
            return
        (row,) = rows
        segments = await self._eye.fetch(
            "SELECT first, last, hash, body FROM holdfast.segments WHERE number = $1 ORDER BY first", row["number"]
        )
        lines = [line for segment in segments for line in bytes(segment["body"]).splitlines()]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.statuses[row["status"]] += 1
        self.totals["events"] += len(events)
        self.totals["takeovers"] += sum(event["type"] == "restarted" for event in events)
        for kind, text in self._wrong(run, row, segments, lines, events):
            self._add(kind, run, text)
        await self._look_at_steps(run, row)
        await self._look_at_answers(run, row)

    def _add(self, kind: str, run: Tracked, text: str) -> None:
        self.problems.append(Problem(kind, f"{run.run_id} ({run.agent})", text))

    def _wrong(
        self, run: Tracked, row: Any, segments: Sequence[Any], lines: list[bytes], events: list[dict[str, Any]]
    ) -> Iterator[tuple[str, str]]:
        yield from _wrong_chain(row, segments, events)
        yield from _wrong_end(run, row, events)
        yield from _wrong_text(run, row, events)
        for reading in run.readings:
            self.totals["read"] += len(reading.frames)
            self.totals["connections"] += reading.connects
            for fault in reading.faults:
                yield "gaps", f"{type(reading).__name__}: {fault}"
            yield from _wrong_reading(reading, lines, events)

    async def _look_at_steps(self, run: Tracked, row: Any) -> None:
        steps = await self._eye.fetch(
            "SELECT key, output FROM holdfast.steps WHERE number = $1 AND status = 'completed'", row["number"]
        )
        recorded = {step["key"]: json.loads(bytes(step["output"])) for step in steps}
        self.totals["steps"] += len(recorded)
        for key, token in recorded.items():
            noted = self._by_step[run.run_id, key]
            if sum(fact.what == "end" and fact.token == token for fact in noted) != 1:
                self._add("broken", run, f"step {key} is recorded as {token}, which the ledger does not have once")
        output = json.loads(bytes(row["output"])) if row["output"] is not None else {}
        for key, token in {**output.get("steps", {}), "pay": output.get("paid")}.items():
            if token not in (None, "unknown") and recorded.get(key) != token:
                self._add("repeats", run, f"step {key} gave {token} and is recorded as {recorded.get(key)}")
        for frame in run.first.frames:
            if frame.event == "step":
                key = frame.json()["node_name"]
                noted = self._by_step[run.run_id, key]
                if any(fact.what == "begin" and fact.at > frame.at for fact in noted):
                    self._add("repeats", run, f"step {key} was begun again after a reader had seen it completed")

    async def _look_at_answers(self, run: Tracked, row: Any) -> None:
        found = await self._eye.fetch(
            "SELECT i.interrupt_id, i.kind, i.status, p.answer FROM holdfast.interrupts i "
            "JOIN holdfast.interrupt_parts p USING (number, interrupt_id) WHERE i.number = $1",
            row["number"],
        )
        interrupts = {item["interrupt_id"]: item for item in found}
        for interrupt_id, won in run.won.items():
            self.totals["answers"] += 1
            if len(won) > 1:
                self._add("broken", run, f"{len(won)} different answers to {interrupt_id} were accepted")
            item = interrupts.get(interrupt_id)
            if item is None or item["status"] != "resolved" or item["answer"] is None:
                self._add("lost", run, f"the answer to {interrupt_id} was acknowledged and is lost")
            elif _shown(item) not in won:
                self._add("lost", run, f"the answer to {interrupt_id} was {won}, it is {_shown(item)}")
        approvals = [item for item in found if item["kind"] == "approval"]
        self.totals["payments_asked"] += len(approvals)
        allowed = 1 + sum(item["status"] == "resolved" and bool(_shown(item)) for item in approvals)
        begun = sum(fact.what == "begin" for fact in self._by_step[run.run_id, "pay"])
        if begun > allowed:
            self._add("repeats", run, f"the payment was attempted {begun} times, allowed were {allowed}")


def _shown(item: Any) -> Any:
    answer = None if item["answer"] is None else json.loads(bytes(item["answer"]))
    if not isinstance(answer, dict):
        return answer
    return answer.get("approved") if item["kind"] == "approval" else answer.get("answer")


def _wrong_chain(row: Any, segments: Sequence[Any], events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    if [event["sequence"] for event in events] != list(range(len(events))) or row["tail_sequence"] != len(events) - 1:
        yield "gaps", f"the journal has a gap, or does not end at {row['tail_sequence']}"
    chained, following = bytes(row["prior_hash"]), row["first_sequence"]
    for segment in segments:
        chained = hashlib.sha256(chained + bytes(segment["body"])).digest()
        if chained != bytes(segment["hash"]) or segment["first"] != following:
            yield "broken", f"the segment at {segment['first']} does not continue the chain"
            return
        following = segment["last"] + 1
    if chained != bytes(row["head_hash"]):
        yield "broken", "the chain does not end in the hash of the run"


def _wrong_end(run: Tracked, row: Any, events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    terminal = [event["type"] for event in events if event["type"] in TERMINAL]
    if row["status"] not in FINAL or not terminal:
        yield "endless", f"it is {row['status']} with terminal events {terminal}"
    elif len(terminal) != 1 or events[-1]["type"] != terminal[0] or not row["is_over"]:
        yield "broken", f"terminal events {terminal} before {events[-1]['type']}"
    if row["status"] == "failed":
        code = json.loads(row["error"])["code"]
        if run.agent != "fragile" or code != "interrupted":
            yield "broken", f"it failed: {row['error']}"
    restarts = [event["attempt"] for event in events if event["type"] == "restarted"]
    if restarts != list(range(2, row["attempt"] + 1)):
        yield "broken", f"attempt {row['attempt']}, but restarted {restarts}"


def _wrong_text(run: Tracked, row: Any, events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    void: set[int] = set()
    for event in events:
        if event["type"] == "restarted":
            for first, last in event["discard"]:
                void.update(range(first, last + 1))
    text = "".join(e["content"] for e in events if e["type"] == "token" and e["sequence"] not in void)
    wanted = TEXTS[run.agent]
    if text != wanted if row["status"] == "completed" else not wanted.startswith(text):
        yield "broken", f"its text is {text!r}"


def _wrong_reading(reading: Reading, lines: list[bytes], events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    name = type(reading).__name__
    if isinstance(reading, Replaying):
        # Its frames are another projection; the recorder held their sequences and times against each other.
        if reading.last_sequence >= len(lines):
            yield "lost", f"a {name} saw {reading.last_sequence}, the journal ends at {len(lines) - 1}"
        elif reading.is_finished and reading.last_sequence != len(lines) - 1:
            yield "gaps", f"a {name} ended at {reading.last_sequence}, the journal at {len(lines) - 1}"
        said = [f.json().get("content") for f in reading.frames if f.event == "token"]
        if said and said != [e["content"] for e in events if e["type"] == "token"][: len(said)]:
            yield "lost", f"a {name} saw other tokens than are stored"
    else:
        shown = zip(reading.lines, lines, reading.types, strict=False)
        if len(reading.lines) > len(lines) or any(a != b for a, b, kind in shown if kind not in REWRITTEN):
            yield "lost", f"a {name} saw events that are lost or differ now"
        elif reading.is_finished and len(reading.lines) != len(lines):
            yield "gaps", f"a {name} has {len(reading.lines)} of {len(lines)} events"
    if not reading.is_finished:
        last = reading.frames[-1].data.decode() if reading.frames else "nothing"
        yield "endless", f"a {name} is not through; it read {last} last"
