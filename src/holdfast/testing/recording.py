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
from urllib.parse import quote

import httpx2
import msgspec

from holdfast.caller import Caller
from holdfast.client.addressing import shown_url
from holdfast.clock import SystemClock
from holdfast.errors import RunFinished
from holdfast.execution.answers import ToolOutput
from holdfast.execution.execution import Execution
from holdfast.execution.forking import Inherited
from holdfast.execution.program import Program
from holdfast.execution.requests import StartRequest
from holdfast.execution.worker import Worker, WorkerSettings
from holdfast.ids import RandomIds
from holdfast.journal import END, Journal, Signal
from holdfast.model import Failure, Run, Step
from holdfast.model.encoding import decode_event, parse_canonical_time
from holdfast.runs import Runs
from holdfast.shutdown import Shutdown
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing.differences import UNCOMPARED, Difference, Expected, expected_of, missing, step_on

FORMAT: Final = "holdfast-recording"
VERSION: Final = 1
REPLAY_SECONDS: Final = 60.0

_CALLER: Final = Caller("replay")
# The error of a tool call that nobody answered in time.
_UNANSWERED: Final = "tool_response_timeout"


class _Kind(msgspec.Struct, frozen=True):
    """What a file says that it is."""

    format: str
    version: int


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
    version: int = VERSION
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
        data = Path(path).read_bytes()
        try:
            # Before anything else: what another version has in it, is its own affair.
            kind = msgspec.json.decode(data, type=_Kind)
            if (kind.format, kind.version) != (FORMAT, VERSION):
                raise ValueError(
                    f"{path}: expected {FORMAT} in version {VERSION}, found {kind.format} in version {kind.version}:"
                    " record the run anew, or take the release that wrote it"
                )
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as exc:
            raise ValueError(f"{path}: this is no recording of a run: {exc}") from None


async def record(
    url: str, run_id: str, *, api_key: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
) -> Recording:
    """
    The recording of a run that is over.

    Args:
        transport: that of a `FakeServer`, for tests of tests.

    Raises:
        ValueError: the server does not give it, or it is not over; the message says why.
        ConnectionError: the server could not be reached, or its answer did not come.
    """
    path = f"/runs/{quote(run_id, safe='')}"
    headers = {} if api_key is None else {"X-API-Key": api_key}
    async with httpx2.AsyncClient(base_url=url, headers=headers, transport=transport, timeout=60) as client:
        run = (await _read(client, path)).json()
        if run["status"] not in ("completed", "failed", "cancelled"):
            raise ValueError(f"run {run_id} is {run['status']}; only one that is over can be recorded")
        steps = (await _read(client, f"{path}/steps")).json()["steps"]
        journal = await _read(client, f"{path}/export")
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
    not executed: it ends the replay, and is told as the difference (`replay_diverged`); so is one that is on record and is
    not asked for any more, and a question that was not asked then, which nobody answers. Waiting takes no time: what expired
    then expires at once. A run that was cancelled is compared up to there.

    Args:
        seconds: how long it may take.

    Raises:
        TimeoutError: it took longer.
    """
    expected = _expected(recording)
    known = {step.key for step in recording.steps}
    was_cancelled = recording.events[-1]["type"] == "cancelled"
    clock = _Clock()
    place = 0
    async with asyncio.timeout(seconds), _kernel(agent, clock) as (runs, worker):
        given = Inherited(steps=tuple(_step(step) for step in recording.steps if not _is_call(step)))
        request = StartRequest(agent=agent.name, input=recording.input, inherited=given)
        run = (await runs.start(_CALLER, request)).run
        answers = _Answers(recording, clock)
        reader = runs.follow(run, after=-1)
        with contextlib.closing(reader):
            while not _is_cut_here(was_cancelled, expected, place) and (chunk := await reader.next()) is not END:
                assert not isinstance(chunk, Signal)
                for line in chunk.lines:
                    found = decode_event(line)
                    if found["type"] in UNCOMPARED or found.get("step") in known:
                        continue
                    if _is_cut_here(was_cancelled, expected, place):
                        break
                    place, difference = step_on(expected, place, found)
                    if difference is not None:
                        await _cancelled(runs, run)
                        return difference
                    await answers.give(runs, run.run_id, found)
        await _cancelled(runs, run)
    return missing(expected, place) or (None if was_cancelled else _unused(recording, worker.unused))


def _is_cut_here(was_cancelled: bool, expected: Sequence[Expected], place: int) -> bool:
    """The run was cancelled when it had done this. What it does now goes on where nothing is on record."""
    return was_cancelled and missing(expected, place) is None


async def _cancelled(runs: Runs, run: Run) -> None:
    with contextlib.suppress(RunFinished):
        await runs.cancel(_CALLER, run.run_id)


def _unused(recording: Recording, keys: Sequence[str]) -> Difference | None:
    """The first step that the agent shows no more. Those that it never showed are its own affair, or the server's."""
    for place, event in enumerate(recording.events):
        if event.get("step") in keys:
            return Difference(place=place, sequence=event["sequence"], expected=event, found=None)
    return None


def _expected(recording: Recording) -> list[Expected]:
    windows = [
        (step.started_at, step.completed_at or step.started_at) for step in recording.steps if not _is_call(step)
    ]
    return expected_of(recording.events, windows, {step.key for step in recording.steps})


# Answering


class _Answers:
    """What people and the caller's tools answered, and what expired, in the order of the questions."""

    def __init__(self, recording: Recording, clock: _Clock) -> None:
        resolved = {e["interrupt_id"]: e for e in recording.events if e["type"] == "interrupt_resolved"}
        results = {e["tool_call_id"]: e for e in recording.events if e["type"] == "tool_result"}
        self._clock = clock
        self._given = deque(
            (resolved.get(event["interrupt_id"]), [results.get(c["tool_call_id"]) for c in event.get("tool_calls", ())])
            for event in recording.events
            if event["type"] == "interrupt"
        )

    async def give(self, runs: Runs, run_id: str, asked: dict[str, Any]) -> None:
        """Answer what was asked as it was answered then, or let the time pass after which it was not."""
        if asked["type"] != "interrupt" or not self._given:
            return
        resolved, results = self._given.popleft()
        if resolved is None or resolved["by"] == "cancelled":
            return
        is_expired = resolved["by"] == "expiry" or asked["kind"] == "timer"
        answer: Any = None
        if asked["kind"] == "tool":
            answer = _outputs(asked["tool_calls"], results, is_expired=is_expired)
        elif asked["kind"] == "approval":
            answer = {"approved": resolved["answer"], "remember": resolved.get("remember", False)}
        else:
            answer = resolved["answer"]
        if answer if asked["kind"] == "tool" else not is_expired:
            await runs.answer(
                _CALLER,
                run_id,
                answer,
                interrupt_id=asked["interrupt_id"],
                note=resolved.get("note"),
                blocks=resolved.get("blocks"),
            )
        if is_expired:
            self._clock.reach(parse_canonical_time(asked["expires_at"]))
            runs.worker.wake()


def _outputs(
    calls: Sequence[dict[str, Any]], results: Sequence[dict[str, Any] | None], *, is_expired: bool
) -> list[ToolOutput]:
    """What the caller answered. Of a round that ended by its expiry, that is all but what nobody had answered by then."""
    known = [(call, result) for call, result in zip(calls, results, strict=True) if result is not None]
    if is_expired:
        unanswered = [result for _, result in known if result.get("error") == _UNANSWERED]
        # With a default it looks like an answer; it came last.
        unanswered = unanswered or [max((result for _, result in known), key=lambda result: result["sequence"])]
        known = [(call, result) for call, result in known if result not in unanswered]
    return [
        ToolOutput(
            tool_call_id=call["tool_call_id"],
            output=str(result["output"]),
            errored="error" in result,
            error_message=result.get("message"),
        )
        for call, result in known
    ]


# Carrying out


@contextlib.asynccontextmanager
async def _kernel(agent: Program, clock: _Clock) -> AsyncIterator[tuple[Runs, _Worker]]:
    """A kernel of its own for one agent, on a store that is gone afterwards."""
    ids = RandomIds(clock)
    with tempfile.TemporaryDirectory(prefix="holdfast-replay-") as folder:
        store = SQLiteStore(Path(folder), clock=clock)
        info = await store.open()
        journal = Journal(store, clock, last_timestamp=info.last_timestamp)
        await journal.start()
        worker = _Worker(journal, _One(agent), clock, ids, WorkerSettings(recorded_only=True))
        await worker.start()
        try:
            yield Runs(journal, worker, clock, ids, Shutdown(), namespace=info.store_id), worker
        finally:
            await worker.stop()
            await journal.stop()
            await store.close()


class _Clock(SystemClock):
    """The machine's clocks; the wall clock may be put ahead. Leases, which go by the other one, do not notice."""

    def __init__(self) -> None:
        self._ahead = 0

    def now(self) -> int:
        return super().now() + self._ahead

    def reach(self, at: int) -> None:
        """Let it be this time at the least."""
        self._ahead += max(0, at - self.now() + 1)


class _Worker(Worker):
    """Knows of its run, when it is over, which steps on record the agent did not ask for."""

    unused: Sequence[str] = ()

    def forget(self, execution: Execution) -> None:
        self.unused = execution.record.unused
        super().forget(execution)


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


async def _read(client: httpx2.AsyncClient, path: str) -> httpx2.Response:
    try:
        response = await client.get(path)
    except httpx2.TransportError as exc:
        raise ConnectionError(
            f"{shown_url(str(client.base_url))}: the run was not read: {type(exc).__name__}: {exc}"
        ) from exc
    if response.status_code != 200:
        raise ValueError(
            f"{shown_url(str(response.request.url))}: the server answered {response.status_code}: {response.text[:300]}"
        )
    return response


__all__ = ["Difference", "Recording", "record", "replay"]
