"""Reconnecting and resuming, decided without I/O."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.client.backoff import Backoff, retry_after_seconds
from holdfast.client.workflow.following import Attempt, Following, StreamFault, StreamRefused


def frame(seq: int, *, completed: bool = False, event_id: str | None = None, **more: Any) -> bytes:
    status: dict[str, Any] = {
        "completed": completed,
        "status": "completed" if completed else "running",
        "seq": seq,
        "task_info": {},
    }
    data = json.dumps({"type": "sync", "seq": seq, "task_status": status, **more})
    return f"id: {event_id or seq}\nevent: sync\ndata: {data}\n\n".encode()


def following(since: int | str | None = None) -> Following:
    """One whose jitter is always the whole delay."""
    return Following(since, backoff=Backoff(uniform=lambda _, high: high))


def test_delays_double_from_half_a_second_to_ten() -> None:
    backoff = Backoff(uniform=lambda _, high: high)

    assert [backoff.next_seconds() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next_seconds() == 0.5


def test_jitter_takes_up_to_half_of_a_delay_and_adds_nothing() -> None:
    for _ in range(200):
        assert 0.25 <= Backoff().next_seconds() <= 0.5


def test_what_the_server_asks_for_only_lengthens_a_delay() -> None:
    backoff = Backoff(uniform=lambda _, high: high)

    assert [backoff.next_seconds(7), backoff.next_seconds(0.1)] == [7, 1]


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff()
    backoff.tries = 10_000

    assert backoff.next_seconds() <= 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        (" 0 ", 0),
        ("Sat, 21 Nov 2026 00:00:20 GMT", 20),
        ("Fri, 20 Nov 2026 00:00:00 GMT", 0),
        ("99999999", 86_400),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, now=datetime(2026, 11, 21, tzinfo=UTC)) == seconds


def test_the_first_connection_is_at_once_and_asks_for_everything() -> None:
    assert following().next_attempt() == Attempt(is_poll=False, delay_seconds=0, cursor=None)


def test_a_later_connection_asks_for_what_follows_the_newest_frame() -> None:
    reader = following()
    reader.next_attempt()

    reader.feed(frame(3) + frame(8, event_id="8@2"))
    reader.ended()

    assert reader.next_attempt() == Attempt(is_poll=False, delay_seconds=0.5, cursor="8@2")
    assert reader.last_seq == 8


def test_a_frame_that_was_cut_off_is_not_counted() -> None:
    reader = following()
    reader.next_attempt()

    assert reader.feed(frame(3) + frame(8)[:-1]) == [
        {"completed": False, "status": "running", "seq": 3, "task_info": {}}
    ]
    reader.ended()

    assert reader.next_attempt().cursor == "3"
    assert [status["seq"] for status in reader.feed(frame(8))] == [8]


@pytest.mark.parametrize("cut", range(len(frame(3) + frame(8, completed=True)) + 1))
def test_wherever_a_connection_breaks_the_next_one_goes_on(cut: int) -> None:
    """The server's rule: first the newest status, whatever the cursor, then only what is newer."""
    reader = following()
    reader.next_attempt()
    stream = frame(3) + frame(8, completed=True)

    seen = [status["seq"] for status in reader.feed(stream[:cut])]
    if not reader.is_over:
        reader.ended()
        cursor = reader.next_attempt().cursor
        assert cursor == (str(seen[-1]) if seen else None)
        seen += [status["seq"] for status in reader.feed(frame(8, completed=True))]

    assert reader.is_over
    assert seen in ([8], [3, 8])


def test_delays_grow_until_a_frame_comes() -> None:
    reader = following()
    delays = []
    for _ in range(3):
        delays.append(reader.next_attempt().delay_seconds)
        reader.ended()
    delays.append(reader.next_attempt().delay_seconds)
    reader.feed(frame(3))
    reader.ended()

    assert [*delays, reader.next_attempt().delay_seconds] == [0, 0.5, 1, 2, 0.5]


def test_a_server_that_stops_says_when_to_come_back() -> None:
    reader = following()
    reader.next_attempt()

    reader.feed(frame(3) + b'id: 3\ndata: {"type":"reconnect","seq":3,"retry_ms":730}\n\n')
    reader.ended()

    assert reader.next_attempt() == Attempt(is_poll=False, delay_seconds=0.73, cursor="3")
    reader.ended()
    assert reader.next_attempt().delay_seconds == 0.5


def test_history_that_was_rolled_back_counts_from_where_it_stands_now() -> None:
    reader = following("20")
    reader.next_attempt()

    reader.feed(frame(5, event_id="5@1", gap=True, gap_reason="rolled_back"))

    assert (reader.last_seq, reader.cursor) == (5, "5@1")


def test_two_connections_without_a_frame_lead_to_polling() -> None:
    reader = following(4)
    reader.next_attempt()
    reader.was_silent()
    assert not reader.next_attempt().is_poll

    reader.was_silent()

    assert reader.next_attempt() == Attempt(is_poll=True, delay_seconds=1, cursor="4")
    reader.polled({"seq": 6, "completed": False})
    assert reader.next_attempt() == Attempt(is_poll=True, delay_seconds=0, cursor="6")


def test_silent_connections_count_in_a_row_only() -> None:
    reader = following()
    reader.next_attempt()
    reader.was_silent()
    reader.next_attempt()
    reader.feed(frame(3))
    reader.ended()
    reader.next_attempt()
    reader.was_silent()

    assert not reader.next_attempt().is_poll


def test_a_refusal_in_the_stream_is_raised_with_its_code() -> None:
    reader = following()
    reader.next_attempt()

    with pytest.raises(StreamRefused) as raised:
        reader.feed(b'data: {"type":"error","seq":3,"code":"unauthorized","message":"the key was revoked"}\n\n')

    assert raised.value.code == "unauthorized"


@pytest.mark.parametrize("data", ["no JSON", "[]", '{"type":"sync","seq":3}'])
def test_what_is_not_the_protocol_is_a_fault_of_the_connection(data: str) -> None:
    reader = following()
    reader.next_attempt()

    with pytest.raises(StreamFault):
        reader.feed(f"event: sync\ndata: {data}\n\n".encode())


def test_unknown_frames_are_passed_over() -> None:
    reader = following()
    reader.next_attempt()

    assert reader.feed(b'data: {"type":"news"}\n\n: hb\n\n') == []
    assert not reader.has_frame
