"""
A run of a real server as a fixture: what it was given, what its steps gave back, what it was answered, and its events.

    recording = await record("http://localhost:8000", "r-17", api_key="…")
    recording.save("tests/runs/r-17.json")

    difference = await replay(my_agent, Recording.load("tests/runs/r-17.json"))
    assert difference is None, str(difference)

`replay` executes the agent's code of today with the recorded results: no step's function, no model and no tool is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import msgspec

from holdfast.caller import Caller
from holdfast.clock import SystemClock
from holdfast.errors import RunFinished
from holdfast.execution.answers import ToolOutput
from holdfast.execution.forking import Inherited
from holdfast.execution.program import Program
from holdfast.execution.requests import StartRequest
from holdfast.execution.worker import Worker, WorkerSettings
from holdfast.ids import RandomIds
from holdfast.journal import END, Journal, Signal
from holdfast.model import Failure, Step
from holdfast.model.encoding import decode_event, parse_canonical_time
from holdfast.runs import Runs
from holdfast.shutdown import Shutdown
from holdfast.store.sqlite import SQLiteStore

FORMAT: Final = "holdfast-recording"
REPLAY_SECONDS: Final = 60.0

# What differs between two executions of the same.
_VOLATILE: Final = frozenset(
    {
        "id",
        "run_id",
        "sequence",
        "timestamp",
        "request_id",
        "interrupt_id",
        "expires_at",
        "duration_ms",
        "latency_seconds",
        "caller",
        "message_id",
        "user_message_id",
        "retry_at",
    }
)
# Facts of one process, not of the agent.
_UNCOMPARED: Final = frozenset({"started", "restarted"})
_CALLER: Final = Caller("replay")


class RecordedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step and what came of it; times are those of the server, in microseconds since 1970."""

    key: str
    name: str
    status: str
    attempts: int = 1
    started_at: int
    completed_at: int | None = None
    output: Any = None
    error: dict[str, Any] | None = None


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A run, kept to be compared with."""

    format: str = FORMAT
    version: int = 1
    agent: str
    input: Any
    steps: tuple[RecordedStep, ...]
    events: tuple[dict[str, Any], ...]

    def save(self, path: str | Path) -> None:
        """Write it as JSON, indented, so that changes can be reviewed."""
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Read one that was saved.

        Raises:
            ValueError: the file holds none.
        """
        try:
            loaded = msgspec.json.decode(Path(path).read_bytes(), type=cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as exc:
            raise ValueError(f"{path}: this is no recording of a run: {exc}") from None
        if loaded.format != FORMAT or loaded.version != 1:
            raise ValueError(f"{path}: expected {FORMAT} 1, found {loaded.format} {loaded.version}")
        return loaded


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place at which a replay is not the recording."""

    place: int  # in the recorded events that were compared
    sequence: int | None  # of the recorded event there; None: the recording has no more
    expected: dict[str, Any] | None
    found: dict[str, Any] | None

    def __str__(self) -> str:
        where = "behind the recorded end" if self.sequence is None else f"at event {self.sequence}"
        return f"{where}: expected {_told(self.expected)}, found {_told(self.found)}"


async def record(
    url: str, run_id: str, *, api_key: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
) -> Recording:
    """
    The recording of a run that is over.

    Args:
        transport: that of a `FakeServer`, for tests of tests.

    Raises:
        ValueError: the server does not give it, or it is not over; the message says why.
    """
    headers = {} if api_key is None else {"X-API-Key": api_key}
    async with httpx2.AsyncClient(base_url=url, headers=headers, transport=transport, timeout=60) as client:
        run = await _read(client, f"/runs/{run_id}")
        if run["status"] not in ("completed", "failed", "cancelled"):
            raise ValueError(f"run {run_id} is {run['status']}; only one that is over can be recorded")
        steps = (await _read(client, f"/runs/{run_id}/steps"))["steps"]
        journal = await client.get(f"/runs/{run_id}/export")
    _check(journal)
    return Recording(
        agent=run["agent"],
        input=run["input"],
        steps=tuple(_recorded(step) for step in steps),
        # Between the events stand lines of control (`{"kind": …`).
        events=tuple(event for event in map(decode_event, journal.content.splitlines()) if "type" in event),
    )


async def replay(agent: Program, recording: Recording, *, seconds: float = REPLAY_SECONDS) -> Difference | None:
    """
    Execute an agent with what was recorded, and compare what it does. None: it did the same.

    Compared are the events outside of recorded steps and the end, without ids and times. A step that is not on record is
    not executed: it ends the replay, and is told as the difference (`replay_diverged`). So is a question that was not asked
    then, which nobody answers.

    Args:
        seconds: how long it may take.

    Raises:
        TimeoutError: it took longer.
    """
    expected = _expected(recording)
    known = {step.key for step in recording.steps}
    async with asyncio.timeout(seconds), _kernel(agent) as runs:
        given = Inherited(steps=tuple(_step(step) for step in recording.steps if not _is_call(step)))
        request = StartRequest(agent=agent.name, input=recording.input, inherited=given)
        run = (await runs.start(_CALLER, request)).run
        answers = _Answers(recording)
        place = 0
        reader = runs.follow(run, after=-1)
        with contextlib.closing(reader):
            while (chunk := await reader.next()) is not END:
                assert not isinstance(chunk, Signal)
                for line in chunk.lines:
                    found = decode_event(line)
                    if found["type"] in _UNCOMPARED or found.get("step") in known:
                        continue
                    place, difference = _step_on(expected, place, found)
                    if difference is not None:
                        with contextlib.suppress(RunFinished):
                            await runs.cancel(_CALLER, run.run_id)
                        return difference
                    await answers.give(runs, run.run_id, found)
    return _missing(expected, place)


# Comparing


class _Expected(msgspec.Struct, frozen=True):
    event: dict[str, Any]
    is_optional: bool  # a step emitted it, or may have: a replay does not


def _expected(recording: Recording) -> list[_Expected]:
    """The recorded events that a replay may show, in order, without what a restart made void."""
    void: set[int] = set()
    for event in recording.events:
        for first, last in event.get("discard", ()) if event["type"] == "restarted" else ():
            void.update(range(first, last + 1))
    windows = [
        (step.started_at, step.completed_at or step.started_at) for step in recording.steps if not _is_call(step)
    ]
    keys = {step.key for step in recording.steps}
    return [
        _Expected(event, event.get("step") in keys or _is_inside(parse_canonical_time(event["timestamp"]), windows))
        for event in recording.events
        if event["type"] not in _UNCOMPARED and event["sequence"] not in void
    ]


def _is_inside(at: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(first <= at <= last for first, last in windows)


def _step_on(expected: Sequence[_Expected], place: int, found: dict[str, Any]) -> tuple[int, Difference | None]:
    """The place behind the recorded event that this one is, or the difference."""
    at = place
    while at < len(expected):
        if _is_same(expected[at].event, found):
            return at + 1, None
        if not expected[at].is_optional:
            break
        at += 1
    event = expected[at].event if at < len(expected) else None
    sequence = None if event is None else event["sequence"]
    return place, Difference(place=at, sequence=sequence, expected=event, found=found)


def _missing(expected: Sequence[_Expected], place: int) -> Difference | None:
    for at in range(place, len(expected)):
        if not expected[at].is_optional:
            event = expected[at].event
            return Difference(place=at, sequence=event["sequence"], expected=event, found=None)
    return None


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return _stable(one) == _stable(other)


def _stable(event: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name not in _VOLATILE}
    if kept["type"] in ("interrupt", "tool_result", "tool_call"):
        # Ids of calls that the server gives are new each time.
        kept.pop("tool_call_id", None)
    if "tool_calls" in kept:
        kept["tool_calls"] = [{"tool": call["tool"], "input": call["input"]} for call in kept["tool_calls"]]
    return kept


def _told(event: dict[str, Any] | None) -> str:
    if event is None:
        return "the end"
    text = msgspec.json.encode(_stable(event)).decode()
    return text if len(text) <= 300 else text[:299] + "…"


# Answering


class _Answers:
    """What people and the caller's tools answered, in the order of the questions."""

    def __init__(self, recording: Recording) -> None:
        resolved = {e["interrupt_id"]: e for e in recording.events if e["type"] == "interrupt_resolved"}
        results = {e["tool_call_id"]: e for e in recording.events if e["type"] == "tool_result"}
        self._given = deque(
            (resolved.get(event["interrupt_id"]), [results.get(c["tool_call_id"]) for c in event.get("tool_calls", ())])
            for event in recording.events
            if event["type"] == "interrupt"
        )

    async def give(self, runs: Runs, run_id: str, asked: dict[str, Any]) -> None:
        """Answer what was asked as it was answered then. A sleep is over when it is over."""
        if asked["type"] != "interrupt" or not self._given:
            return
        resolved, results = self._given.popleft()
        if resolved is None or asked["kind"] == "timer":
            return
        answer: Any
        if asked["kind"] == "tool":
            answer = [
                ToolOutput(
                    tool_call_id=call["tool_call_id"],
                    output=str(result["output"]),
                    errored="error" in result,
                    error_message=result.get("message"),
                )
                for call, result in zip(asked["tool_calls"], results, strict=True)
                if result is not None
            ]
        elif asked["kind"] == "approval":
            answer = {"approved": resolved["answer"], "remember": resolved.get("remember", False)}
        else:
            answer = resolved["answer"]
        await runs.answer(
            _CALLER,
            run_id,
            answer,
            interrupt_id=asked["interrupt_id"],
            note=resolved.get("note"),
            blocks=resolved.get("blocks"),
        )


# Carrying out


@contextlib.asynccontextmanager
async def _kernel(agent: Program) -> AsyncIterator[Runs]:
    """A kernel of its own for one agent, on a store that is gone afterwards."""
    clock = SystemClock()
    ids = RandomIds(clock)
    with tempfile.TemporaryDirectory(prefix="holdfast-replay-") as folder:
        store = SQLiteStore(Path(folder), clock=clock)
        info = await store.open()
        journal = Journal(store, clock, last_timestamp=info.last_timestamp)
        await journal.start()
        worker = Worker(journal, _One(agent), clock, ids, WorkerSettings(recorded_only=True))
        await worker.start()
        try:
            yield Runs(journal, worker, clock, ids, Shutdown(), namespace=info.store_id)
        finally:
            await worker.stop()
            await journal.stop()
            await store.close()


class _One:
    """Serves one agent, whatever name the recording says."""

    def __init__(self, agent: Program) -> None:
        self._agent = agent

    def get(self, name: str) -> Program | None:
        return self._agent if name == self._agent.name else None

    def names(self) -> list[str]:
        return [self._agent.name]


def _is_call(step: RecordedStep) -> bool:
    """Whether it stands for a call of the caller's tool, which is answered and not looked up."""
    return step.key.rpartition("/")[2].startswith("call:")


def _step(step: RecordedStep) -> Step:
    error = None
    if step.error is not None:
        error = Failure(step.error.get("message", ""), step.error.get("code", "step_failed"))
    return Step(
        number=0,
        key=step.key,
        name=step.name,
        status=step.status,
        attempts=step.attempts,
        started_at=step.started_at,
        completed_at=step.completed_at,
        output=None if step.status == "failed" else msgspec.json.encode(step.output),
        error=error,
        sequence=0,
        reused=True,
    )


def _recorded(step: dict[str, Any]) -> RecordedStep:
    return RecordedStep(
        key=step["key"],
        name=step["name"],
        status=step["status"],
        attempts=step["attempts"],
        started_at=parse_canonical_time(step["started_at"]),
        completed_at=None if step["completed_at"] is None else parse_canonical_time(step["completed_at"]),
        output=step["output"],
        error=step["error"],
    )


async def _read(client: httpx2.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    _check(response)
    return response.json()


def _check(response: httpx2.Response) -> None:
    if response.status_code != 200:
        raise ValueError(f"{response.request.url}: the server answered {response.status_code}: {response.text[:300]}")


__all__ = ["Difference", "Recording", "record", "replay"]
