"""Where the network cuts a stream changes nothing."""

from __future__ import annotations

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
