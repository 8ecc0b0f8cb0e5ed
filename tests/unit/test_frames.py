"""WebSocket frames as we make them, read by the library that clients have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol, State

from holdfast.api.http.frames import (
    FRAGMENT_BYTES_MAX,
    SLICE_BYTES_MAX,
    MessageRate,
    messages_of,
    slices,
    text_frames,
    text_messages,
)

SIZES = [0, 1, 125, 126, 65535, 65536, FRAGMENT_BYTES_MAX, FRAGMENT_BYTES_MAX + 1, 3 * FRAGMENT_BYTES_MAX, 1_000_000]


def frames_in(data: bytes) -> list[Frame]:
    reader = Protocol(CLIENT, state=State.OPEN, max_size=None)
    reader.receive_data(data)
    assert reader.parser_exc is None
    return [frame for frame in reader.events_received() if isinstance(frame, Frame)]


def texts_in(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    for frame in frames_in(data):
        if frame.opcode is Opcode.TEXT:
            found.append(b"")
        found[-1] += bytes(frame.data)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_text_of_any_size_is_read_again(size: int) -> None:
    payload = b"x" * size

    frames = frames_in(text_frames(payload))

    assert b"".join(bytes(frame.data) for frame in frames) == payload
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[0].opcode is Opcode.TEXT
    assert all(frame.opcode is Opcode.CONT for frame in frames[1:])
    assert all(len(frame.data) <= FRAGMENT_BYTES_MAX for frame in frames)


@given(st.lists(st.integers(0, 100_000), max_size=12))
def test_no_slice_ends_within_a_frame(sizes: list[int]) -> None:
    payloads = [b"%d" % number * size for number, size in enumerate(sizes)]
    data = b"".join(map(text_frames, payloads))

    pieces = [bytes(piece) for piece in slices(data)]

    assert b"".join(pieces) == data
    assert all(len(piece) <= SLICE_BYTES_MAX for piece in pieces)
    # Each piece is whole frames: a reader that starts anew with it understands all of it.
    assert sum(len(frames_of(piece)) for piece in pieces) == len(frames_in(data))


def frames_of(piece: bytes) -> list[int]:
    """The sizes of the frames of a piece, read without any state, so that fragments may stand first."""
    found, place = [], 0
    while place < len(piece):
        size, place = piece[place + 1], place + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, place = int.from_bytes(piece[place : place + width], "big"), place + width
        found.append(size)
        place += size
    assert place == len(piece)
    return found


def test_the_message_is_what_stands_behind_data() -> None:
    stream = 'id: 1\nevent: token\ndata: {"content":"data: é"}\n\nevent: gap\ndata: {"type":"gap"}\n\n: comment\n\n'

    assert texts_in(messages_of(stream.encode())) == ['{"content":"data: é"}'.encode(), b'{"type":"gap"}']


def test_many_messages_are_read_one_by_one() -> None:
    payloads = [b"x" * size for size in (0, 1, 125, 126, 1023, 1024, 1025, FRAGMENT_BYTES_MAX + 1)]

    assert texts_in(text_messages(payloads)) == payloads


def test_a_burst_and_then_so_many_a_second() -> None:
    rate = MessageRate(20, 100, now=0.0)

    assert [rate.take(0.0) for _ in range(101)] == [True] * 100 + [False]
    assert [rate.take(0.1) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(1000.0) for _ in range(200)) == 100
