"""Streams of the Skills API's client: runs through cuts and restarts, what is void, and calls that wait for a run."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx2
import pytest

from holdfast.client.errors import (
    ConnectionFailed,
    NotFound,
    RunCancelled,
    SafetyDenied,
    SkillFailed,
    StepTimeout,
    StreamInterrupted,
)
from holdfast.client.skills import AsyncSkillsClient, Done, Gap, Restarted, SkillOptions, StepStart, Token, UnknownEvent
from holdfast.client.skills.shown import ShownSteps
from tests.support.wire import End, HeldClock, Reply, Unreachable, Wire, answer, stream

OPENING = b"retry: 1000\n\n"


def frame(sequence: int | None, kind: str, step: str | None = None, data: Any = None, **more: Any) -> bytes:
    shown: dict[str, Any] = {"type": kind, "message": "é", "timestamp": "2026-03-25T12:00:00.000874Z", "step_id": step}
    shown |= {"trace_id": "t", "run_id": "r1", "sequence": sequence, "data": data, **more}
    place = b"" if sequence is None else b"id: %d\n" % sequence
    return place + f"event: {kind}\ndata: {json.dumps(shown, ensure_ascii=False)}\n\n".encode()


def done(sequence: int, code: str | None = None) -> bytes:
    if code is None:
        return frame(sequence, "done", skill_id="s", status="completed", outputs={"x": [1]})
    error = {"code": code, "message": "no", "type": "AnError", "status": 504}
    return frame(sequence, "done", skill_id="s", status="failed", outputs={}, error=error)


def token(sequence: int, step: str = "a") -> bytes:
    return frame(sequence, "token", step, {"content": f"é{sequence} "})


COMPLETED = [
    frame(0, "skill_start"),
    frame(1, "step_start", "a"),
    token(2),
    frame(3, "step_completed", "a", {"produced_output": {}, "duration_ms": 0.4, "attempt": 1}),
    frame(4, "skill_completed"),
    done(5),
]
FAILED = [frame(0, "skill_start"), frame(1, "step_start", "a"), done(2, "step_timeout")]
RESTART = {"attempt": 2, "discard_from": 1, "discard": [[1, 2]], "reason": "takeover"}
RESTARTED = [
    *COMPLETED[:3],
    frame(3, "restarted", None, RESTART),
    frame(4, "step_start", "a", {"attempt": 2, "reason": "restart"}),
    token(5),
    done(6),
]


def behind(request: httpx2.Request, run: list[bytes]) -> bytes:
    """What the server sends to the place that a request names."""
    cursor = request.headers.get("last-event-id")
    return OPENING + b"".join(run[0 if cursor is None else int(cursor) + 1 :])


def client_of(wire: Wire, **arguments: Any) -> tuple[AsyncSkillsClient, HeldClock]:
    client, clock = AsyncSkillsClient("http://server", "key", transport=wire, **arguments), HeldClock()
    client._http.clock, client._http.sleep = clock, clock.sleep
    return client, clock


@pytest.mark.parametrize(
    ("run", "end"),
    [(COMPLETED, End.BROKEN), (FAILED, End.BROKEN), (RESTARTED, End.PROPERLY)],
    ids=["completed", "failed", "restarted"],
)
async def test_where_a_stream_is_cut_changes_nothing(run: list[bytes], end: End) -> None:
    cut = 0

    def reply(request: httpx2.Request) -> Reply:
        sent = behind(request, run)
        return stream(sent) if len(wire.asked) > 1 else stream(sent[:cut], end=end)

    wire = Wire(otherwise=reply)
    client, _ = client_of(wire)
    told: list[Any] = []
    for cut in range(len(OPENING + b"".join(run))):  # noqa: B007  # `reply` reads it
        wire.asked.clear()
        told.clear()
        events = [event async for event in client.stream("s", on_discard=lambda *what: told.append(what))]
        assert [event.sequence for event in events] == list(range(len(run)))
        assert isinstance(events[-1], Done)
        assert told == ([("r1", 1, 2)] if run is RESTARTED else [])
        posts = [request for request in wire.asked if request.method == "POST"]
        assert len({request.headers["idempotency-key"] for request in posts}) == 1
    assert wire.open == 0


async def test_a_run_is_started_once_and_read_by_its_id_then() -> None:
    wire = Wire(
        Unreachable(),
        stream(OPENING, end=End.BROKEN, **{"x-run-id": "r1"}),
        stream(OPENING, *COMPLETED[:3]),
        stream(OPENING, *COMPLETED[1:]),
    )
    client, _ = client_of(wire)
    wish: SkillOptions = {
        "trace_id": "t",
        "on_confirmation": "fail",
        "frame": {"a": 1},
        "max_workers": 2,
        "fail_fast": False,
    }

    events = client.stream("a/s", {"text": "é"}, **wish)
    assert [event.sequence async for event in events] == [0, 1, 2, 3, 4, 5]

    assert await events.result() == {"x": [1]}
    assert (events.run_id, events.cursor) == ("r1", "5")
    assert [request.url.raw_path.decode() for request in wire.asked] == [
        *["/v1/skills/a%2Fs/execute/stream"] * 2,
        *["/v1/runs/r1/stream"] * 2,
    ]
    assert json.loads(wire.asked[0].content) == {
        "inputs": {"text": "é"},
        "trace_id": "t",
        "on_confirmation": "fail",
        "frame": {"a": 1},
        "options": {"max_workers": 2, "fail_fast": False},
    }
    assert wire.headers("last-event-id") == [None, None, None, "2"]
    assert set(wire.headers("x-api-key")) == {"key"}


async def test_a_run_of_which_nothing_is_left_is_over() -> None:
    client, _ = client_of(Wire(Reply(204)))
    events = client.events("r1", after="5")

    assert [event async for event in events] == []
    with pytest.raises(StreamInterrupted):
        await events.result()


async def test_what_a_retried_step_showed_is_void_and_that_of_its_neighbours_is_not() -> None:
    again = {"error": "no", "code": "upstream_failure", "status": 502, "attempt": 1, "will_retry": True}
    wire = Wire(
        stream(
            *COMPLETED[:2],
            frame(2, "step_start", "b"),
            token(3),
            token(4, "b"),
            token(5),
            frame(6, "step_failed", "a", again),
            frame(7, "step_start", "a", {"attempt": 2}),
            frame(8, "progress", "b", {"progress": 0.5, "item": 3}),
            frame(9, "step_failed", "b", again | {"item": 3}),
            frame(10, "step_start", "b", {"attempt": 2, "item": 3}),
            done(11),
        )
    )
    client, _ = client_of(wire)
    told: list[Any] = []

    events = client.stream("s", on_discard=lambda *what: told.append(what))
    seen = [(event.sequence, len(told)) async for event in events]

    assert told == [("r1", 1, 1), ("r1", 3, 3), ("r1", 5, 6), ("r1", 8, 9)]
    assert [count for _, count in seen] == [0] * 7 + [3] * 3 + [4] * 2


def test_what_steps_showed_agrees_with_a_list_of_all_events() -> None:
    """Against the naive way: every event is kept, with whose it is."""
    choose = random.Random(7)
    for _ in range(200):
        shown, kept = ShownSteps(), list[tuple[str, int | None, int]]()
        for sequence in range(60):
            step, item, what = choose.choice("abc"), choose.choice([None, 1, 2]), choose.random()
            if what < 0.7:
                shown.add(step, item, sequence)
                kept.append((step, item, sequence))
                continue
            if what < 0.85:
                gone = [one for one in kept if one[0] == step and item in (None, one[1])]
                taken = shown.take(step, item)
                assert [one for first, last in taken for one in range(first, last + 1)] == [one[2] for one in gone]
            else:
                first, last = sorted(choose.sample(range(sequence + 1), 2)) if sequence else (0, 0)
                gone = [one for one in kept if first <= one[2] <= last]
                shown.forget(first, last)
            kept = [one for one in kept if one not in gone]


@pytest.mark.parametrize(
    ("reason", "first", "told"), [("rolled_back", 2, [("r1", 2, 2)]), ("pruned", 9, []), ("ahead", 3, [])]
)
async def test_history_that_is_gone_is_told_and_read_on_from_there(reason: str, first: int, told: list[Any]) -> None:
    gap = {"reason": reason, "requested": 3, "first_sequence": first, "tail_sequence": first + 1, "epoch": 1}
    wire = Wire(
        stream(OPENING, *COMPLETED[:3], end=End.BROKEN),
        stream(OPENING, frame(None, "gap", None, gap), token(first), done(first + 1)),
    )
    client, _ = client_of(wire)
    void: list[Any] = []

    events = [event async for event in client.stream("s", on_discard=lambda *what: void.append(what))]

    assert [type(event) for event in events[3:]] == [Gap, Token, Done]
    assert [event.sequence for event in events[3:]] == [None, first, first + 1]
    assert void == told


async def test_frames_that_are_not_known_are_kept_as_they_came() -> None:
    odd = frame(2, "step_completed", "a", "no object")
    other_end = frame(3, "done", skill_id="s", status="postponed")
    client, _ = client_of(
        Wire(stream(frame(0, "skill_start"), frame(1, "tool_call", "a", {"tool": "x"}), odd, other_end))
    )

    _, own, broken, last = [event async for event in client.stream("s")]

    assert isinstance(own, UnknownEvent)
    assert (own.type, own.step_id, own["data"]) == ("tool_call", "a", {"tool": "x"})
    assert isinstance(broken, UnknownEvent)
    assert isinstance(last, UnknownEvent)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("step_timeout", StepTimeout),
        ("cancelled", RunCancelled),
        ("safety_denied", SafetyDenied),
        ("runtime_error", SkillFailed),
    ],
)
async def test_a_run_that_failed_raises_by_its_code(code: str, kind: type[Exception]) -> None:
    client, _ = client_of(Wire(stream(*FAILED[:2], done(2, code))))

    with pytest.raises(kind, match="no") as failed:
        await client.stream("s").result()

    assert failed.type is kind
    assert (failed.value.run_id, failed.value.details["status"]) == ("r1", 504)  # type: ignore[attr-defined]


async def test_execute_waits_for_as_long_as_its_run_takes_under_one_key() -> None:
    shown = {"skill_id": "s", "outputs": {}, "trace_id": "t", "run_id": "r1"}
    stops = {"error": {"code": "shutting_down", "message": "?", "type": "E", "status": 503}, "trace_id": "t"}
    wire = Wire(
        answer(shown | {"status": "running"}, 202),
        answer(stops, 503, retry_after="1"),
        Unreachable(),
        answer(shown | {"status": "completed", "outputs": {"x": 1}}),
    )
    client, clock = client_of(wire)

    assert (await client.execute("s", {"a": 1}, max_workers=1)).outputs == {"x": 1}

    assert len(set(wire.headers("idempotency-key"))) == 1
    assert len({request.content for request in wire.asked}) == 1
    assert json.loads(wire.asked[0].content)["options"] == {"max_workers": 1, "wait_seconds": 40}
    assert len(clock.slept) == 2


async def test_a_server_that_is_away_for_too_long_is_reported_by_execute() -> None:
    client, clock = client_of(Wire(otherwise=lambda _: Unreachable()), reconnect_seconds=10)

    with pytest.raises(ConnectionFailed):
        await client.execute("s")

    assert clock.now <= 10


async def test_errors_that_are_answered_with_200_are_raised_all_the_same() -> None:
    error = {"code": "not_found", "message": "There is no skill 's'.", "type": "NotFoundError", "status": 404}
    client, _ = client_of(Wire(otherwise=lambda _: answer({"error": error, "trace_id": "t"})))

    for call in (
        client.execute("s"),
        client.describe("s"),
        client.execute_capability("s"),
        client.explain_capability("s"),
    ):
        with pytest.raises(NotFound, match="There is no skill") as told:
            await call
        assert told.value.status_code == 404


async def test_a_restart_is_an_event_with_what_is_void() -> None:
    client, _ = client_of(Wire(stream(*RESTARTED)))

    events = [event async for event in client.stream("s")]

    assert isinstance(events[3], Restarted)
    assert events[3].data.discard == ((1, 2),)
    assert isinstance(events[4], StepStart)
    assert (events[4].attempt, events[4].data and events[4].data.reason) == (2, "restart")
