"""Frames of the Runtime API."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.http.frames import messages_of
from holdfast.api.runtime.filters import EVERYTHING, EventFilter
from holdfast.api.runtime.projection import frames_for_request, gap_frame, shared_frames, shared_messages
from holdfast.journal import Chunk
from holdfast.model.encoding import encode_event, encode_fields


def chunk(*events: tuple[str, dict[str, Any]], first: int = 0) -> Chunk:
    lines = [
        encode_event("q-1", first + place, name, 1_000_000 + place, encode_fields(fields))
        for place, (name, fields) in enumerate(events)
    ]
    return Chunk(first, lines)


def test_a_frame_is_the_canonical_line_as_it_is() -> None:
    made = chunk(("token", {"content": "Quan"}), first=5)

    text = shared_frames(0)[0](made).decode()

    assert text == f"id: 5\nevent: token\ndata: {made.lines[0]}\n\n"


@given(st.lists(st.sampled_from(["token", "step_completed", "error", "progress", "mine"]), min_size=1, max_size=12))
def test_messages_are_the_data_of_the_frames(names: list[str]) -> None:
    made = chunk(*((name, {"content": "é\u2028", "code": "timeout_error", "step": "fetch"}) for name in names))
    for wanted in (EVERYTHING, EventFilter.parse({"types": "token,step"}, None)):
        frames = shared_frames(0, wanted)[0](made)

        assert shared_messages(wanted)[0](made) == messages_of(frames)


def test_after_a_rollback_ids_carry_the_epoch() -> None:
    assert shared_frames(3)[0](chunk(("token", {"content": ""}))).startswith(b"id: 0@3\n")


def test_readers_of_one_epoch_share_their_frames() -> None:
    made = chunk(("token", {"content": "x"}))
    (make, key), (other, same_key), (_, third) = shared_frames(0), shared_frames(0), shared_frames(1)

    assert made.made_once(key, make) is made.made_once(same_key, other)
    assert key != third


def test_the_requests_id_is_the_last_member() -> None:
    text = frames_for_request(0, "r-1")(chunk(("token", {"content": "x"}))).decode()

    assert list(json.loads(text.split("data: ")[1]).items())[-1] == ("request_id", "r-1")


def test_a_completed_step_is_a_step() -> None:
    done = {"step": "fetch", "attempt": 1, "message": "", "output": [1], "duration_ms": 2.5}

    text = shared_frames(0)[0](chunk(("token", {"content": "x"}), ("step_completed", done))).decode()
    event = json.loads(text.split("data: ")[2])

    assert "event: step\n" in text
    assert list(event) == [
        "id",
        "type",
        "run_id",
        "sequence",
        "timestamp",
        "node_name",
        "duration_ms",
        "input_keys",
        "output_keys",
        "output",
    ]
    assert (event["type"], event["node_name"], event["output_keys"], event["output"]) == ("step", "fetch", [], [1])


def test_codes_are_in_upper_case() -> None:
    failed = {"error": "no", "code": "timeout_error", "details": {"code": "as it is"}}

    event = json.loads(shared_frames(0)[0](chunk(("error", failed))).decode().split("data: ")[1])

    assert (event["code"], event["details"]) == ("TIMEOUT_ERROR", {"code": "as it is"})


def test_a_gap_has_no_id() -> None:
    frame = gap_frame("q-1", requested=121, first_sequence=101, tail_sequence=140, epoch=1, reason="rolled_back")

    assert frame == (
        b'event: gap\ndata: {"type":"gap","run_id":"q-1","requested":121,"first_sequence":101,'
        b'"tail_sequence":140,"epoch":1,"reason":"rolled_back"}\n\n'
    )


@given(st.text())
def test_every_text_is_one_line_for_every_line_reader(text: str) -> None:
    """`str.splitlines` cuts at more characters than SSE does, and some clients use it."""
    made = frames_for_request(0, "r-1")(chunk(("step_completed", {"step": text, "output": text}))).decode()

    lines = made.splitlines()

    assert [line[:4] for line in lines] == ["id: ", "even", "data", ""]
    assert json.loads(lines[2][6:])["node_name"] == text.encode("utf-8", "replace").decode() or max(text) >= "\ud800"
