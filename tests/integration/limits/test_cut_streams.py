"""Where the network cuts a stream changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.recorder import Frame, Parser, Stream, Target
from tests.support.server import KEY, running_server

AGENTS = Path(__file__).with_name("agents.py")


async def _bytes(stream: Stream, count: int | None = None) -> bytes:
    """The body, or its first bytes; then the connection is cut."""
    found = b""
    try:
        async for piece in stream.pieces():
            found += piece
            if count is not None and len(found) >= count:
                return found[:count]
    finally:
        stream.writer.transport.abort()
    return found


def _without_times(frames: list[Frame]) -> list[tuple[str | None, str | None, bytes]]:
    return [(frame.id, frame.event, frame.data) for frame in frames]


def test_a_parser_gets_the_same_messages_however_the_stream_comes_in_pieces() -> None:
    stream = 'retry: 1\n\n: hi\n\nid: 0\nevent: a\ndata: {"é":"😀"}\n\nid: 1\nevent: b\ndata: 2\n\n'.encode()
    whole = _without_times(Parser().feed(stream))

    for cut in range(len(stream) + 1):
        parser = Parser()
        assert _without_times(parser.feed(stream[:cut]) + parser.feed(stream[cut:])) == whole


@pytest.mark.slow
async def test_a_stream_cut_at_every_byte_and_resumed_is_the_journal(tmp_path: Path) -> None:
    """Over real connections: each byte of the body is once the last one that comes."""
    with running_server(tmp_path, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        target.up.set()
        await target.call("POST", "/agents/odd/invoke?run_id=odd", {})
        whole = await _bytes(await target.open("GET", "/runs/odd/events"))
        frames = _without_times(Parser().feed(whole))
        for cut in range(1, len(whole) + 1):
            first = _without_times(Parser().feed(await _bytes(await target.open("GET", "/runs/odd/events"), cut)))
            if cut % 2 and first:
                rest = await target.open("GET", "/runs/odd/events", headers={"Last-Event-ID": first[-1][0] or ""})
            else:
                rest = await target.open("GET", f"/runs/odd/events?from_sequence={len(first)}")
            assert first + _without_times(Parser().feed(await _bytes(rest))) == frames, cut

    assert [event for _, event, _ in frames] == ["started", *["token"] * 8, "complete"]


@pytest.mark.slow
async def test_a_stream_cut_at_a_thousand_random_bytes_and_resumed_by_either_cursor(tmp_path: Path) -> None:
    """Reading a run, and starting one: what was cut goes on at `/runs/{id}/events`, with equal bytes."""
    randomness = random.Random(20261127)
    with running_server(tmp_path, agents=AGENTS) as server:
        target = Target(server.port, KEY)
        target.up.set()
        await target.call("POST", "/agents/odd/invoke?run_id=odd", {})
        whole = await _bytes(await target.open("GET", "/runs/odd/events"))
        for number in range(1000):
            if number % 2:
                run_id, last = f"odd-{number}", b',"request_id":"r-1"}'
                path = f"/agents/odd/invoke/stream?run_id={run_id}"
                stream = await target.open("POST", path, headers={"X-Request-Id": "r-1"}, body=b"{}")
            else:
                run_id, last = "odd", b"}"
                stream = await target.open("GET", "/runs/odd/events")
            cut = randomness.randrange(1, len(whole) + 1)
            first = Parser().feed(await _bytes(stream, cut))
            if number % 4 < 2 and first:
                rest = await _rest(target, run_id, {"Last-Event-ID": first[-1].id or ""})
            else:
                rest = await _rest(target, run_id, {}, f"?from_sequence={len(first)}")
            journal = Parser().feed(whole) if run_id == "odd" else await _rest(target, run_id, {})

            assert all(frame.data.endswith(last) for frame in first)
            joined = [frame.data.removesuffix(last) + b"}" for frame in first] + [frame.data for frame in rest]
            assert joined == [frame.data for frame in journal], (number, cut)
            assert [frame.id for frame in first + rest] == [str(sequence) for sequence in range(10)]


async def _rest(target: Target, run_id: str, headers: dict[str, str], query: str = "") -> list[Frame]:
    stream = await target.open("GET", f"/runs/{run_id}/events{query}", headers=headers)
    return Parser().feed(await _bytes(stream))
