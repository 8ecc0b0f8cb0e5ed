"""The decoder of server-sent events against a naive reading of the WHATWG's rules, and against cuts anywhere."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.client.sse import EventTooLarge, ServerSentEvent, SSEDecoder

STREAM = (
    '\ufeff: welcome\r\n\r\nretry: 1000\nid: 3\nevent: sync\ndata: {"a":\ndata:1}\r\r'
    ": hb\n\nid: 7@2\rdata\r\ndata: é—🙂\u2028\u0085x\n\nevent: only a name\n\ndata:  two spaces\n\nid:\ndata: b\n\ndata: cut off\n"
).encode()
MESSAGES = [
    ServerSentEvent("sync", '{"a":\n1}', "3"),
    ServerSentEvent("message", "\né—🙂\u2028\u0085x", "7@2"),
    ServerSentEvent("message", " two spaces", "7@2"),
    ServerSentEvent("message", "b", ""),
]


def naive(stream: bytes) -> list[ServerSentEvent]:
    """The specification, step by step, over the whole stream at once."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    events, data, kind, event_id, last_id = [], "", "", None, None
    for line in re.split(r"\r\n|\r|\n", text)[:-1]:  # the last one has no end
        if line == "":
            last_id = event_id
            if data != "":
                events.append(ServerSentEvent(kind or "message", data.removesuffix("\n"), last_id))
            data, kind = "", ""
            continue
        if line[0] == ":":
            continue
        field, value = ([*line.split(":", 1), ""])[:2]
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            event_id = value
    return events


def decoded(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_the_naive_reading_gives_what_a_person_expects() -> None:
    assert naive(STREAM) == MESSAGES


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_where_the_network_cuts_the_stream_changes_nothing(cut: int) -> None:
    assert decoded(STREAM[:cut], STREAM[cut:]) == MESSAGES


def test_bytes_one_by_one_with_empty_pieces_between_give_the_same() -> None:
    pieces = [piece for byte in STREAM for piece in (bytes([byte]), b"")]

    assert decoded(*pieces) == MESSAGES


LINES = st.sampled_from(
    [
        b"data: x",
        b"data",
        b"data:",
        b"data:  y",
        b"data: \xf0\x9f\x99\x82",
        b"data: \xff\xc3",
        b"id: 1",
        b"id: a\x00b",
        b"id",
        b"event: e",
        b"event",
        b"retry: 10",
        b"retry: 1x",
        b": c",
        b":",
        b"other: z",
        b" data: no",
        b"",
        b"",
        b"",
        b"\xef\xbb\xbfdata: bom",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(
    lines=st.lists(st.tuples(LINES, ENDS), max_size=20),
    has_bom=st.booleans(),
    rest=st.sampled_from([b"", b"data: unfinished", b"\xef\xbb"]),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_any_stream_cut_anywhere_is_read_as_the_specification_says(
    lines: list[tuple[bytes, bytes]], has_bom: bool, rest: bytes, cuts: list[int]
) -> None:
    stream = (b"\xef\xbb\xbf" if has_bom else b"") + b"".join(line + end for line, end in lines) + rest
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    assert decoded(*(stream[a:b] for a, b in itertools.pairwise(edges))) == naive(stream)


@given(noise=st.binary(max_size=60), cut=st.integers(0, 60))
def test_arbitrary_bytes_are_read_as_the_specification_says(noise: bytes, cut: int) -> None:
    stream = b"data: a\n\n" + noise + b"\n\n"

    assert decoded(stream[:cut], stream[cut:]) == naive(stream)


def test_a_lone_carriage_return_ends_an_event_without_waiting_for_more() -> None:
    assert decoded(b"data: x\r\r") == [ServerSentEvent("message", "x")]


def test_the_waiting_time_is_digits_only() -> None:
    decoder = SSEDecoder()

    decoder.feed(b"retry: 250\nretry: 1e3\nretry:\n")

    assert decoder.retry_ms == 250


def test_the_last_id_is_that_of_an_event_that_is_complete() -> None:
    decoder = SSEDecoder()

    decoder.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n")

    assert decoder.last_event_id == "1"


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 40, b"data: xxxxxxxxxxxxxxxx\n" * 3, b": " + b"x" * 40])
def test_an_event_over_the_limit_is_refused(piece: bytes) -> None:
    decoder = SSEDecoder(event_bytes_max=32)

    with pytest.raises(EventTooLarge):
        decoder.feed(piece)


def test_comments_without_end_hold_no_memory_against_the_limit() -> None:
    decoder = SSEDecoder(event_bytes_max=32)

    for _ in range(100):
        assert decoder.feed(b": heartbeat\n\n") == []
