"""The resilient stream: whatever happens to the connection, the caller gets each event once, in order, up to the last."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import httpx2
import pytest

from holdfast.client.errors import (
    AgentFailed,
    ClientClosed,
    ConnectionFailed,
    DeadlineExceeded,
    ForeignAnswer,
    NotFound,
    RunCancelled,
    ServiceUnavailable,
    StreamInterrupted,
    TooManySubscribers,
)
from holdfast.client.portal import Portal
from holdfast.client.runtime import AsyncRunsClient, Complete, Restarted, RunEvent, Token, UnknownEvent
from holdfast.client.skills import AsyncSkillsClient
from holdfast.client.streams import EventStream
from tests.support.wire import End, HeldClock, Reply, Unreachable, Wire, answer, stream

OPENING = b"retry: 1500\n\n"


def event(sequence: int, kind: str = "token", *, epoch: int = 0, **fields: Any) -> bytes:
    data = {
        "id": f"evt_{sequence}",
        "type": kind,
        "run_id": "q-1",
        "sequence": sequence,
        "timestamp": f"2026-11-20T23:59:19.{sequence:06}Z",
        **({"content": f"é{sequence}"} if kind == "token" else {}),
        **fields,
    }
    place = f"{sequence}@{epoch}" if epoch else str(sequence)
    return f"id: {place}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


JOURNAL = [event(0, "started", agent_name="a", attempt=1), event(1), event(2), event(3, "complete", output={"n": 2})]


def behind(request: httpx2.Request, journal: Iterable[bytes] = JOURNAL) -> bytes:
    """What a server sends to this request."""
    cursor = int((request.headers.get("last-event-id") or "-1").partition("@")[0])
    return OPENING + b"".join(list(journal)[cursor + 1 :])


def client_of(wire: Wire, **arguments: Any) -> tuple[AsyncRunsClient, HeldClock]:
    client, clock = AsyncRunsClient("http://server", "key", transport=wire, **arguments), HeldClock()
    client._http.clock, client._http.sleep = clock, clock.sleep
    return client, clock


def numbers(events: Iterable[RunEvent]) -> list[int | None]:
    return [event.sequence for event in events]


async def read(client: AsyncRunsClient) -> list[RunEvent]:
    return [event async for event in client.events("q-1")]


@pytest.mark.parametrize("end", [End.BROKEN, End.PROPERLY, End.SILENT])
async def test_where_the_connection_is_cut_changes_nothing(end: End) -> None:
    """At every byte of the stream, and again at the same number of bytes of the next connection."""
    whole = OPENING + b"".join(JOURNAL)
    cut = 0

    def reply(request: httpx2.Request) -> Reply:
        sent = behind(request)
        is_late = len(wire.asked) > 2
        return stream(sent) if is_late else stream(sent[:cut], end=end)

    wire = Wire(otherwise=reply)
    client, _ = client_of(wire)
    expected = await read(client)
    for cut in range(len(whole)):  # noqa: B007  # `reply` reads it
        wire.asked.clear()
        assert await read(client) == expected
        assert wire.open == 0
    assert numbers(expected) == [0, 1, 2, 3]


async def test_a_stream_that_ends_before_its_last_event_is_opened_again_behind_what_came() -> None:
    wire = Wire(stream(OPENING + JOURNAL[0] + JOURNAL[1]), stream(OPENING + JOURNAL[2] + JOURNAL[3]))
    client, clock = client_of(wire)

    events = await read(client)

    assert numbers(events) == [0, 1, 2, 3]
    assert wire.headers("last-event-id") == [None, "1"]
    assert clock.slept == [1.5], "the server's retry: is waited for"


async def test_repeated_events_do_not_reach_the_caller() -> None:
    wire = Wire(stream(OPENING, *JOURNAL[:3], end=End.BROKEN), stream(OPENING, *JOURNAL))
    client, _ = client_of(wire)

    assert numbers(await read(client)) == [0, 1, 2, 3]


async def test_a_start_is_repeated_under_one_key_until_the_run_is_known_and_read_then() -> None:
    wire = Wire(
        Unreachable(),
        Reply(502, {"content-type": "text/html"}, [b"<html>bad gateway</html>"]),
        answer({"code": "SERVICE_UNAVAILABLE", "detail": "stopping", "status": 503}, 503, retry_after="7"),
        stream(OPENING, *JOURNAL[:2], end=End.BROKEN),
        stream(OPENING, *JOURNAL[2:]),
    )
    client, clock = client_of(wire)

    events = [event async for event in client.stream({"n": 2}, agent="a", preset="chat")]

    assert numbers(events) == [0, 1, 2, 3]
    assert [request.url.path for request in wire.asked] == ["/invoke/stream"] * 4 + ["/runs/q-1/events"]
    assert len(set(wire.headers("idempotency-key")[:4])) == 1
    assert wire.asked[-1].url.query == b"preset=chat"
    assert clock.slept[2] == 7.0, "Retry-After is waited for"


async def test_a_server_that_is_away_for_too_long_is_reported() -> None:
    wire = Wire(stream(OPENING, JOURNAL[0], end=End.BROKEN), otherwise=lambda _: Unreachable())
    client, clock = client_of(wire, reconnect_seconds=20.0)

    with pytest.raises(ConnectionFailed, match="nobody listens"):
        await read(client)

    assert 10 < clock.now <= 20


async def test_an_end_by_the_server_for_now_is_waited_for_and_a_final_one_is_not() -> None:
    busy = answer({"code": "TOO_MANY_SUBSCRIBERS", "detail": "full"}, 429, retry_after="3")
    client, clock = client_of(Wire(busy, stream(OPENING, *JOURNAL)))
    assert numbers(await read(client)) == [0, 1, 2, 3]
    assert clock.slept == [3.0]

    client, clock = client_of(Wire(answer({"code": "NOT_FOUND", "detail": "no run"}, 404)))
    with pytest.raises(NotFound):
        await read(client)
    assert clock.slept == []

    client, _ = client_of(Wire(otherwise=lambda _: busy), reconnect_seconds=10.0)
    with pytest.raises(TooManySubscribers):
        await read(client)


async def test_a_half_open_connection_is_found_within_two_heartbeats() -> None:
    wire = Wire(stream(OPENING, *JOURNAL[:2], end=End.SILENT), stream(OPENING, *JOURNAL[2:]))
    client, _ = client_of(wire, heartbeat_seconds=4.0)

    assert numbers(await read(client)) == [0, 1, 2, 3]
    assert 4.0 < wire.asked[0].extensions["timeout"]["read"] < 8.0


async def test_a_day_without_an_event_ends_nothing() -> None:
    """Heartbeats only, on connections that a proxy ends every hour, and a server that is away now and then."""
    hours = 0

    def pieces() -> Iterable[bytes]:
        for _ in range(240):
            clock.now += 15.0
            yield b": heartbeat\n\n"

    def reply(request: httpx2.Request) -> Reply | Unreachable:
        nonlocal hours
        hours += 1
        if hours > 24 * 2:
            return stream(OPENING + JOURNAL[3])
        return Unreachable() if hours % 2 else Reply(200, {"content-type": "text/event-stream"}, pieces(), End.BROKEN)

    wire = Wire(stream(OPENING, *JOURNAL[:3]), otherwise=reply)
    client, clock = client_of(wire)

    assert numbers(await read(client)) == [0, 1, 2, 3]
    assert clock.now > 24 * 3600
    assert max(clock.slept) < 10.0, "a connection that lived for long is opened again at once"


async def test_the_last_event_is_given_when_the_connection_is_closed() -> None:
    wire = Wire(stream(OPENING + b"".join(JOURNAL)))
    client, _ = client_of(wire)

    async for seen in client.events("q-1"):
        if isinstance(seen, Complete):
            assert wire.open == 0
            break


async def test_nothing_is_read_before_it_is_asked_for() -> None:
    taken = 0

    def pieces() -> Iterable[bytes]:
        nonlocal taken
        for piece in [OPENING, *JOURNAL]:
            taken += 1
            yield piece

    wire = Wire(Reply(200, {"content-type": "text/event-stream"}, pieces()))
    client, _ = client_of(wire)
    async with client.events("q-1") as events:
        assert wire.asked == []
        await anext(events)
        assert taken == 2, "a slow reader leaves the rest on the network"

    assert wire.open == 0


async def stuck() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


class Hanging(Wire):
    """A wire whose first body brings one event, and then nothing for ever."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if len(self.asked) == 1:
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            body: httpx2.AsyncByteStream = response.stream

            class Stuck(httpx2.AsyncByteStream):
                async def __aiter__(self) -> AsyncIterator[bytes]:
                    async for piece in body:
                        yield piece
                    async for piece in stuck():
                        yield piece

                async def aclose(self) -> None:
                    await body.aclose()

            response.stream = Stuck()
        return response


async def test_a_cancelled_iteration_leaves_nothing_open_and_the_next_goes_on() -> None:
    wire = Hanging(stream(OPENING, JOURNAL[0]), stream(OPENING, *JOURNAL[1:]))
    client, _ = client_of(wire)
    events = client.events("q-1")
    first = await anext(events)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)

    assert wire.open == 0
    assert numbers([first, *[event async for event in events]]) == [0, 1, 2, 3]


async def test_the_deadline_holds_whatever_the_connection_does() -> None:
    wire = Hanging(stream(OPENING, JOURNAL[0]))
    client, _ = client_of(wire)
    events = client.events("q-1", timeout=0.02)

    with pytest.raises(DeadlineExceeded):
        async for _ in events:
            pass

    assert wire.open == 0


@pytest.mark.parametrize("pieces", ["one by one", "all at once"])
async def test_what_a_restart_makes_void_is_told_behind_it_and_before_the_restart(pieces: str) -> None:
    told: list[Any] = []
    restarted = event(3, "restarted", attempt=2, discard_from=2, discard=[[1, 1], [2, 2]], reason="takeover")
    frames = [OPENING, *JOURNAL[:3], restarted, event(4), event(5, "complete", output={})]
    client, _ = client_of(Wire(stream(*frames) if pieces == "one by one" else stream(b"".join(frames))))

    async for seen in client.events("q-1", on_discard=lambda *what: told.append(what)):
        told.append(type(seen).__name__)  # noqa: PERF401  # in one order with what the callback is told

    assert told[2:6] == ["Token", ("q-1", 1, 1), ("q-1", 2, 2), Restarted.__name__]


async def test_history_that_was_rolled_back_is_told_and_read_anew() -> None:
    told: list[Any] = []
    gap = {"type": "gap", "run_id": "q-1", "requested": 3, "first_sequence": 2, "tail_sequence": 2, "epoch": 1}
    wire = Wire(
        stream(OPENING, *JOURNAL[:3], end=End.BROKEN),
        stream(
            OPENING,
            b"event: gap\ndata: " + json.dumps({**gap, "reason": "rolled_back"}).encode() + b"\n\n",
            event(2, epoch=1),
            end=End.BROKEN,
        ),
        stream(OPENING, event(3, "complete", epoch=1, output={})),
    )
    client, _ = client_of(wire)

    events = [event async for event in client.events("q-1", on_discard=lambda *what: told.append(what))]

    assert numbers(events) == [0, 1, 2, None, 2, 3]
    assert told == [("q-1", 2, 2)]
    assert wire.headers("last-event-id") == [None, "2", "2@1"]


async def test_a_reader_that_has_the_last_event_is_told_so() -> None:
    wire = Wire(Reply(204))
    client, _ = client_of(wire)
    events = client.events("q-1", after="3")

    assert [event async for event in events] == []
    assert wire.headers("last-event-id") == ["3"]
    with pytest.raises(StreamInterrupted, match="ask for its row"):
        await events.result()


async def test_events_that_are_not_known_are_kept_as_they_came() -> None:
    wire = Wire(stream(OPENING, JOURNAL[0], event(1, "mood", level=3), event(2, "token", content=5), JOURNAL[3]))
    client, _ = client_of(wire)

    _, own, misfit, _ = await read(client)

    assert isinstance(own, UnknownEvent)
    assert (own.type, own.sequence, own["level"], own.fields["level"]) == ("mood", 1, 3, 3)
    assert isinstance(misfit, UnknownEvent), "a known type with other fields stops no stream"
    assert misfit["content"] == 5


async def test_the_result_of_a_stream_is_the_output_or_the_error_of_its_code() -> None:
    client, _ = client_of(Wire(stream(*JOURNAL)))
    assert await client.events("q-1").result() == {"n": 2}

    failed = event(1, "error", error="ValueError: no", code="AGENT_EXECUTION_ERROR", details={"a": 1})
    client, _ = client_of(Wire(stream(JOURNAL[0], failed)))
    with pytest.raises(AgentFailed, match="no") as told:
        await client.events("q-1").result()
    assert (told.value.run_id, told.value.details, told.value.status_code) == ("q-1", {"a": 1}, None)

    client, _ = client_of(Wire(stream(JOURNAL[0], event(1, "cancelled", reason="left"))))
    with pytest.raises(RunCancelled, match="left"):
        await client.events("q-1").result()


@pytest.mark.parametrize("sent", [b"data: {\n\n", b"data: 5\n\n", b"data: [1]\n\n"])
async def test_what_is_no_such_stream_is_not_read_again(sent: bytes) -> None:
    client, _ = client_of(Wire(stream(sent)))

    with pytest.raises(ForeignAnswer):
        await read(client)


async def test_a_page_in_the_place_of_a_stream_is_a_fault() -> None:
    client, _ = client_of(Wire(answer({"a": 1}), otherwise=lambda _: answer({"a": 1})), reconnect_seconds=3.0)

    with pytest.raises(ForeignAnswer, match="no event stream"):
        await read(client)


async def test_invoke_waits_for_as_long_as_its_run_takes_under_one_key() -> None:
    late = Reply(200, {}, (), End.SILENT)
    gone = answer({"code": "SERVICE_UNAVAILABLE", "detail": "stopping", "run_id": "q-1"}, 503, retry_after="1")
    done = answer({"success": True, "output": {"n": 1}, "metadata": {"agent": "a"}}, x_run_id="q-1")
    wire = Wire(*[late] * 30, gone, done)
    client, clock = client_of(wire, reconnect_seconds=5.0)

    invocation = await client.invoke({})

    assert (invocation.output, invocation.run_id, invocation.is_waiting) == ({"n": 1}, "q-1", False)
    assert len(set(wire.headers("idempotency-key"))) == 1
    assert clock.slept == [1.0]


async def test_a_plain_call_is_tried_five_times() -> None:
    wire = Wire(otherwise=lambda _: answer({"code": "SERVICE_UNAVAILABLE", "detail": "full"}, 503))
    client, _ = client_of(wire)

    with pytest.raises(ServiceUnavailable):
        await client.start({})

    assert len(wire.asked) == 5
    assert len(set(wire.headers("idempotency-key"))) == 1


async def test_a_wait_that_nobody_expects_is_the_callers_decision() -> None:
    wire = Wire(answer({"code": "RATE_LIMIT_EXCEEDED", "detail": "100/hour"}, 429, retry_after="1800"))
    client, clock = client_of(wire)

    with pytest.raises(Exception, match="100/hour") as told:
        await client.start({})

    assert (getattr(told.value, "retry_after", None), clock.slept) == (1800.0, [])


async def test_text_of_events_by_name_and_by_key() -> None:
    client, _ = client_of(Wire(stream(*JOURNAL)))
    token = (await read(client))[1]

    assert isinstance(token, Token)
    assert (token.content, token["content"], token.type, token["type"]) == ("é1", "é1", "token", "token")
    assert (token.agent, "agent" in token, token.get("agent", "?"), token["agent"]) == (None, False, "?", None)
    with pytest.raises(KeyError):
        token["nothing"]


async def test_what_waits_to_be_tried_again_ends_with_its_client() -> None:
    """A call between two tries, and a stream between two connections: none reaches for the server again."""
    wire = Wire(otherwise=lambda _: Unreachable())
    client, _ = client_of(wire)
    waits = asyncio.Event()

    async def sleep(_: float) -> None:
        waits.set()
        await closed.wait()

    works: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: client.start({}),
        lambda: client.invoke({}),
        lambda: client.wait("q-1"),
        lambda: read(client),
    ]
    for work in works:
        closed = asyncio.Event()
        client._http.sleep = sleep
        waits.clear()
        wire.asked.clear()
        working = asyncio.ensure_future(work())
        await waits.wait()

        await client.aclose()
        closed.set()

        with pytest.raises(ClientClosed):
            await working
        assert len(wire.asked) == 1


async def test_a_stream_may_be_closed_under_its_reader_who_is_told_so() -> None:
    """Not as by its end: that is the run's."""
    wire = Hanging(stream(OPENING, JOURNAL[0]), otherwise=lambda _: Unreachable())
    client, _ = client_of(wire)
    events = client.events("q-1")
    await anext(events)
    reading = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)

    await events.aclose()

    assert wire.open == 0
    with pytest.raises(ClientClosed):
        await reading
    assert [event async for event in events] == []
    assert len(wire.asked) == 1


async def test_a_closed_stream_is_not_opened_again_after_a_cancelled_iteration() -> None:
    wire = Hanging(stream(OPENING, JOURNAL[0]), otherwise=lambda _: Unreachable())
    client, _ = client_of(wire)
    events = client.events("q-1")
    await anext(events)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)

    await events.aclose()

    assert [event async for event in events] == []
    assert len(wire.asked) == 1


async def test_a_second_reader_is_refused_and_the_first_is_left_alone() -> None:
    wire = Hanging(stream(OPENING, JOURNAL[0]), otherwise=lambda _: Unreachable())
    client, _ = client_of(wire)
    events = client.events("q-1")
    await anext(events)
    reading = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="one at a time"):
        await anext(events)

    assert (wire.open, reading.done()) == (1, False)
    await client.aclose()
    with pytest.raises(ClientClosed):
        await reading


async def test_the_deadline_holds_for_a_stream_whose_bytes_are_always_there() -> None:
    def pieces() -> Iterable[bytes]:
        yield JOURNAL[0]
        for number in range(1, 50_000):  # reading them takes far longer
            yield event(number)
        yield event(50_000, "complete", output={})

    wire = Wire(Reply(200, {"content-type": "text/event-stream"}, pieces()))
    client, _ = client_of(wire)

    with pytest.raises(DeadlineExceeded):
        await client.events("q-1", timeout=0.05).result()

    assert wire.open == 0


class Interrupting(Portal):
    """Ctrl-C comes when the work is done, and before who waits for it has what it came to."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupts = False

    def call(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        found = super().call(work)
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        return found


def test_an_interrupt_between_two_events_loses_and_repeats_none() -> None:
    portal = Interrupting()
    events = EventStream(portal, portal.make(lambda: client_of(Wire(stream(OPENING, *JOURNAL)))[0].events("q-1")))
    seen = []

    for _ in range(2):
        seen.append(next(events))
        portal.interrupts = True
        with pytest.raises(KeyboardInterrupt):
            next(events)
    seen += list(events)

    assert numbers(seen) == [0, 1, 2, 3]
    portal.close()


async def test_the_waiting_time_that_a_stream_asked_for_outlives_its_connection() -> None:
    """A server that is away says nothing: what it said before still holds."""
    wire = Wire(
        stream(b"retry: 5000\n\n", JOURNAL[0], end=End.BROKEN),
        Unreachable(),
        stream(JOURNAL[1], end=End.BROKEN),
        stream(b"retry: 20\n\n", JOURNAL[2], end=End.BROKEN),
        stream(JOURNAL[3]),
    )
    client, clock = client_of(wire)

    await read(client)

    assert clock.slept[:3] == [5.0, 5.0, 5.0]
    assert clock.slept[3] < 5.0


async def test_a_stream_that_a_proxy_compresses_is_read_all_the_same() -> None:
    whole = gzip.compress(OPENING + b"".join(JOURNAL))
    pieces = [whole[:30], whole[30:]]
    wire = Wire(Reply(200, {"content-type": "Text/Event-Stream", "content-encoding": "gzip"}, pieces))
    client, _ = client_of(wire)

    assert numbers(await read(client)) == [0, 1, 2, 3]
    assert wire.headers("accept-encoding") == ["identity"]


async def test_a_compressed_stream_that_is_broken_is_read_on() -> None:
    broken = Reply(200, {"content-type": "text/event-stream", "content-encoding": "gzip"}, [b"no gzip"])
    client, _ = client_of(Wire(broken, stream(OPENING, *JOURNAL)))

    assert numbers(await read(client)) == [0, 1, 2, 3]


@pytest.mark.parametrize("after", ["evt_3", "", "3@", "3\n", "0x3"])
def test_a_place_that_is_none_is_told_as_such(after: str) -> None:
    client, _ = client_of(Wire())

    with pytest.raises(ValueError, match="expected the sequence of an event, or the cursor of a stream"):
        client.events("q-1", after=after)
    with pytest.raises(ValueError, match="expected the sequence of an event, or the cursor of a stream"):
        AsyncSkillsClient("http://server", transport=Wire()).events("q-1", after=after)
