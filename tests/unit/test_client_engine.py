"""Streams of the Engine API's client: turns through cuts, replays to their end, people in the loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from typing import Any

import httpx2
import pytest

from holdfast.client.engine import (
    AsyncEngineClient,
    EngineEvent,
    ReplayGap,
    TextDelta,
    ThreadLifecycle,
    UnknownEvent,
)
from holdfast.client.errors import (
    AgentFailed,
    HitlAlreadyAnswered,
    InvalidKey,
    RunCancelled,
    StreamInterrupted,
    TaskBusy,
)
from tests.support.wire import End, HeldClock, Reply, Unreachable, Wire, answer, stream

OPENING = b"retry: 1000\n\n"
START = 1795219159987.0


def frame(sequence: int, kind: str = "text_delta", *, turn: str = "t1", by_time: bool = False, **fields: Any) -> bytes:
    timestamp = fields.pop("timestamp", START + sequence)
    data = {"type": kind, "task_id": "demo", "turn_id": turn, "sequence": sequence, "timestamp": timestamp, **fields}
    if kind == "text_delta":
        data["text"] = f"é{sequence} "
    place = "" if kind == "error" else f"id: {timestamp if by_time else sequence}\n"
    return f"{place}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def started(*, turn: str = "t1", by_time: bool = False, sequence: int = 0, **fields: Any) -> bytes:
    return frame(sequence, "thread_lifecycle", turn=turn, by_time=by_time, phase="started", agent="a", **fields)


def completed(sequence: int, *, turn: str = "t1", by_time: bool = False, **fields: Any) -> bytes:
    own = {"phase": "completed", "output": "é1 é2 "} | fields
    return frame(sequence, "thread_lifecycle", turn=turn, by_time=by_time, **own)


TURN = [started(), frame(1), frame(2), completed(3)]
FAILED = [
    started(),
    frame(1, "error", timestamp=START + 0.999, error="AGENT_EXECUTION_ERROR", message="no", details={"a": 1}),
    frame(1, "thread_lifecycle", phase="errored", reason="failed", error="AGENT_EXECUTION_ERROR"),
]


def client_of(wire: Wire, **arguments: Any) -> tuple[AsyncEngineClient, HeldClock]:
    client, clock = AsyncEngineClient("http://server", "key", transport=wire, **arguments), HeldClock()
    client._http.clock, client._http.sleep = clock, clock.sleep
    return client, clock


async def sequences(events: AsyncIterable[EngineEvent]) -> list[int | None]:
    return [event.sequence async for event in events]


@pytest.mark.parametrize("turn", [TURN, FAILED], ids=["completed", "failed"])
async def test_where_a_turns_stream_is_cut_changes_nothing(turn: list[bytes]) -> None:
    cut = 0
    last = {b"0": 0, b"1": 1, b"2": 2}

    def reply(request: httpx2.Request) -> Reply:
        cursor = request.headers.get("last-event-id")
        behind = last[cursor.encode()] if cursor else -1
        numbered = [(int(json.loads(piece.split(b"data: ")[1])["sequence"]), piece) for piece in turn]
        sent = OPENING + b"".join(piece for number, piece in numbered if number > behind)
        return stream(sent) if len(wire.asked) > 2 else stream(sent[:cut], end=End.BROKEN)

    wire = Wire(otherwise=reply)
    client, _ = client_of(wire)
    whole = [event async for event in client.stream("Hello", "demo")]
    for cut in range(len(OPENING + b"".join(turn))):  # noqa: B007  # `reply` reads it
        wire.asked.clear()
        assert [event async for event in client.stream("Hello", "demo")] == whole
        posts = [request for request in wire.asked if request.method == "POST"]
        assert len({request.headers["idempotency-key"] for request in posts}) == 1
    assert len(whole) == len(turn)


async def test_a_turn_is_started_once_and_read_by_its_id_then() -> None:
    wire = Wire(stream(OPENING, *TURN[:2], end=End.BROKEN), Unreachable(), stream(OPENING, *TURN[2:]))
    client, _ = client_of(wire)

    events = client.stream("Hello", "demo/é", agent="a")
    assert await events.result() == "é1 é2 "

    assert (events.run_id, events.cursor) == ("t1", "3")
    assert [request.method for request in wire.asked] == ["POST", "GET", "GET"]
    assert wire.asked[0].headers["x-engine-key"] == "key"
    assert json.loads(wire.asked[0].content) == {"message": "Hello", "task_id": "demo/é", "agent": "a"}
    assert dict(wire.asked[2].url.params) == {"task_id": "demo/é", "turn_id": "t1"}
    assert wire.headers("last-event-id") == [None, "1", "1"]


@pytest.mark.parametrize("end", [End.BROKEN, End.PROPERLY, End.SILENT])
async def test_execute_raises_a_connection_error_for_any_end_before_the_last_frame(end: End) -> None:
    wire = Wire(stream(OPENING, *TURN[:2], end=end))
    client, _ = client_of(wire)
    seen: list[int | None] = []

    with pytest.raises(ConnectionError):  # noqa: PT012  # what came before the error counts
        async for event in client.execute("Hello", "demo"):
            seen.append(event.sequence)  # noqa: PERF401

    assert seen == [0, 1]
    assert wire.open == 0


async def test_the_documented_loop_goes_on_by_timestamp() -> None:
    rest = [frame(2, by_time=True), completed(3, by_time=True)]
    wire = Wire(stream(OPENING, *TURN[:2], end=End.BROKEN), Unreachable(), stream(OPENING, *rest), Reply(204))
    client, clock = client_of(wire)
    texts, last = [], 0.0
    try:
        async for event in client.execute("Hello", "demo"):
            last = event["timestamp"]
            texts.append(event.get("text", ""))
    except ConnectionError:
        texts += [event.get("text", "") async for event in client.replay("demo", after=last)]

    assert "".join(texts) == "é1 é2 "
    assert wire.asked[1].url.params["after"] == str(START + 1)
    assert len(clock.slept) == 1, "behind its last frame, an end is taken for one after asking once, at once"


async def test_a_replay_that_a_stopping_server_ends_goes_on() -> None:
    wire = Wire(
        stream(OPENING, started(by_time=True), frame(1, by_time=True)),
        Unreachable(),
        stream(OPENING, frame(2, by_time=True), completed(3, by_time=True)),
        Reply(204),
    )
    client, _ = client_of(wire)

    assert await sequences(client.replay("demo")) == [0, 1, 2, 3]
    assert wire.headers("last-event-id")[1:] == [str(START + 1)] * 2 + [str(START + 3)]


async def test_a_replay_that_waits_for_news_survives_a_stop_of_the_server() -> None:
    """It has seen nothing yet: only an answer that brings nothing, twice, is an end."""
    beat = b'event: heartbeat\ndata: {"type":"heartbeat","timestamp":5,"sequence":null}\n\n'
    wire = Wire(
        stream(OPENING, beat),
        stream(OPENING, beat),
        stream(OPENING),
        stream(OPENING, frame(4, by_time=True), completed(5, by_time=True)),
        stream(OPENING),
        stream(OPENING),
    )
    client, _ = client_of(wire)

    assert await sequences(client.replay("demo", after=START)) == [4, 5]
    assert wire.headers("last-event-id") == [None, *[str(START)] * 3, *[str(START + 5)] * 2]


async def test_a_replay_of_what_is_stored_ends_there() -> None:
    wire = Wire(stream(OPENING, *TURN[:2]), stream(OPENING), stream(OPENING))
    client, clock = client_of(wire)

    assert await sequences(client.replay("demo", turn_id="t1", follow=False)) == [0, 1]
    assert clock.slept == []
    assert wire.asked[0].url.params["follow"] == "0"


async def test_frames_of_several_turns_are_told_apart_by_their_time() -> None:
    def at(sequence: int, turn: str, timestamp: float) -> bytes:
        return frame(sequence, turn=turn, by_time=True, timestamp=timestamp)

    wire = Wire(
        stream(OPENING, at(7, "t1", 10.0), at(1, "t2", 11.0), at(8, "t1", 12.0), end=End.BROKEN),
        stream(OPENING, at(8, "t1", 12.0), at(2, "t2", 13.0)),
        Reply(204),
    )
    client, _ = client_of(wire)

    assert [(event.turn_id, event.sequence) async for event in client.replay()] == [
        ("t1", 7),
        ("t2", 1),
        ("t1", 8),
        ("t2", 2),
    ]
    assert wire.headers("last-event-id")[1] == "12.0"


async def test_what_was_rolled_back_is_told_and_read_anew() -> None:
    told: list[Any] = []
    gap = {"type": "replay_gap", "task_id": "demo", "turn_id": None, "sequence": None, "timestamp": START + 1}
    gap |= {"reason": "rolled_back", "lost_from": "2"}
    wire = Wire(
        stream(OPENING, *TURN[:3], end=End.BROKEN),
        stream(
            OPENING,
            f"event: replay_gap\ndata: {json.dumps(gap)}\n\n".encode(),
            frame(2, timestamp=START + 60),
            completed(3, timestamp=START + 61),
        ),
    )
    client, _ = client_of(wire)

    events = [event async for event in client.stream("Hello", "demo", on_discard=lambda *what: told.append(what))]

    assert [type(event) for event in events[3:]] == [ReplayGap, TextDelta, ThreadLifecycle]
    assert told == [("t1", 2, 2)]
    assert events[-1].timestamp == START + 61


async def test_what_a_restart_makes_void_is_told() -> None:
    told: list[Any] = []
    again = frame(3, "restarted", attempt=2, discard_from=1, reason="takeover")
    client, _ = client_of(Wire(stream(*TURN[:3], again, frame(4), completed(5))))

    await client.stream("Hello", "demo", on_discard=lambda *what: told.append(what)).result()

    assert told == [("t1", 1, 2)]


async def test_a_turn_that_failed_raises_by_its_code_and_a_cancelled_one_as_such() -> None:
    client, _ = client_of(Wire(stream(*FAILED)))
    with pytest.raises(AgentFailed, match="no") as failed:
        await client.stream("Hello", "demo").result()
    assert (failed.value.run_id, failed.value.details) == ("t1", {"a": 1})

    end = frame(1, "thread_lifecycle", phase="errored", reason="cancelled")
    client, _ = client_of(Wire(stream(started(), end)))
    with pytest.raises(RunCancelled):
        await client.stream("Hello", "demo").result()

    client, _ = client_of(Wire(Reply(204)))
    with pytest.raises(StreamInterrupted):
        await client.replay("demo", turn_id="t1").result()


async def test_frames_that_are_not_known_are_kept() -> None:
    client, _ = client_of(Wire(stream(started(), frame(1, "custom.error", data={"a": 1}), completed(2))))

    _, own, _ = [event async for event in client.stream("Hello", "demo")]

    assert isinstance(own, UnknownEvent)
    assert (own.type, own["data"], own.turn_id) == ("custom.error", {"a": 1}, "t1")


async def test_errors_are_of_the_class_of_their_code() -> None:
    busy = answer({"error": "TASK_BUSY", "message": "busy", "details": {"turn_id": "t1"}}, 409)
    other = answer({"error": "HITL_ALREADY_ANSWERED", "message": "no", "details": {"by": "expiry"}}, 409)
    client, clock = client_of(Wire(busy, answer({"error": "INVALID_KEY", "message": "?"}, 401), other))

    with pytest.raises(TaskBusy) as told:
        await client.stream("Hello", "demo").result()
    assert told.value.details == {"turn_id": "t1"}
    with pytest.raises(InvalidKey):
        await client.tasks()
    with pytest.raises(HitlAlreadyAnswered):
        await client.hitl_respond("demo", "yes")
    assert clock.slept == []
