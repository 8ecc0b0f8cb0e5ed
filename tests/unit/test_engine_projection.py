"""Canonical events as frames of the Engine API: specification section 5, row by row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.api.engine.projection import NAMES, FrameId, Projection
from holdfast.journal.chunk import Chunk
from holdfast.model.encoding import CANONICAL_TYPES, encode_event, encode_fields

RUN_ID = "0197a1b2-0000-7000-8000-000000000000"
BASE = 1_795_219_159_987_298
TIME = "2026-11-20T23:59:19.987298Z"
STAMP = 1795219159987.298

ODD_TEXTS = [
    "\x85",
    "\u2028\u2029",
    "\r",
    "\n",
    "\r\n",
    "\0",
    "🎣",
    "a\ud83cb",
    '","',
    '",',
    ",",
    '"',
    "\\",
    "\\u2028",
    "}\n\nid: 9",
]


def line(sequence: int, type: str, at: int | None = None, **fields: Any) -> str:
    return encode_event(RUN_ID, sequence, type, BASE + 2 * sequence if at is None else at, encode_fields(fields))


def chunk_of(*lines: str, first: int = 0) -> Chunk:
    return Chunk(first, list(lines))


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """The frames of a stream as the lines of a real HTTP client show them: `id`, `event` and the decoded `data`."""
    messages: list[dict[str, Any]] = []
    message: dict[str, Any] = {}
    for text in httpx.Response(200, content=stream).iter_lines():
        if not text:
            messages.append(message)
            message = {}
            continue
        name, _, value = text.partition(": ")
        assert name in ("id", "event", "data"), text
        assert name not in message, "a frame has each line once"
        message[name] = json.loads(value) if name == "data" else value
    assert not message, "the last frame is finished"
    return messages


def frames(*lines: str, first: int = 0, task: str = "demo-001", **options: Any) -> list[dict[str, Any]]:
    return parsed(Projection(task, RUN_ID, **options).frames(chunk_of(*lines, first=first)))


def own(type: str, **fields: Any) -> dict[str, Any]:
    """The single frame of one event, without the common fields but `type`."""
    (frame,) = frames(line(0, type, **fields))
    data = frame["data"]
    assert data["type"] == frame["event"]
    return {name: value for name, value in data.items() if name not in ("task_id", "turn_id", "sequence", "timestamp")}


def test_every_frame_has_the_common_fields_and_its_sequence_as_id() -> None:
    (frame,) = frames(line(7, "token", at=BASE, content="Hi"), first=7)

    assert frame["id"] == "7"
    assert frame["data"] == {
        "type": "text_delta",
        "task_id": "demo-001",
        "turn_id": RUN_ID,
        "sequence": 7,
        "timestamp": STAMP,
        "text": "Hi",
    }


@pytest.mark.parametrize(
    ("options", "id"), [({"epoch": 2}, "7@2"), ({"ids": FrameId.TIMESTAMP}, "1795219159987.298"), ({}, "7")]
)
@pytest.mark.parametrize("type", ["token", "thinking"])
def test_the_id_is_the_sequence_with_the_epoch_or_the_timestamp(type: str, options: Any, id: str) -> None:
    (frame,) = frames(line(7, type, at=BASE, content="x"), first=7, **options)

    assert frame["id"] == id


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "1795219159000"), (50, "1795219159000.05"), (977_000, "1795219159977"), (1, "1795219159000.001")],
)
@pytest.mark.parametrize("type", ["token", "thinking"])
def test_timestamps_are_milliseconds_with_as_many_decimals_as_needed(type: str, microseconds: int, text: str) -> None:
    stream = Projection("t", RUN_ID).frames(
        chunk_of(line(0, type, at=1_795_219_159_000_000 + microseconds, content=""))
    )

    assert f'"timestamp":{text},'.encode() in stream


@given(texts=st.lists(st.text(), min_size=1), task=st.text(min_size=1))
@example(texts=ODD_TEXTS, task="a/b 🎣")
def test_text_arrives_unchanged_through_a_line_reader(texts: Sequence[str], task: str) -> None:
    got = frames(*(line(i, "token", content=text) for i, text in enumerate(texts)), task=task)

    assert [frame["data"]["text"] for frame in got] == [repaired(text) for text in texts]
    assert {frame["data"]["task_id"] for frame in got} == {repaired(task)}


@given(text=st.text(), value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_the_sliced_frame_is_the_parsed_one(text: str, value: Any) -> None:
    """Whatever stands behind the content, a token is never mistaken for one without further fields."""
    sliced = own("token", content=text)
    further = own("token", content=text, note=value)
    sub_agent = own("token", content=text, agent="helper", parent_tool_call_id=repaired(text))

    assert sliced == further == {"type": "text_delta", "text": repaired(text)}
    assert sub_agent == {
        "type": "sub_agent_delta",
        "content": repaired(text),
        "agent": "helper",
        "parent_tool_call_id": repaired(text),
    }


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_raw_line_break_of_any_kind_is_in_a_stream(value: Any) -> None:
    stream = Projection("t", RUN_ID).frames(
        chunk_of(line(0, "tool_result", tool="x", tool_call_id="c", output=value), line(1, "mine", value=value))
    )

    assert not set(stream.decode()) & set("\x85\u2028\u2029\r\0\x0b\x0c\x1c\x1d\x1e")


def test_started() -> None:
    got = own(
        "started", agent_name="assistant", thread_id="demo-001", attempt=1, framework="custom", user_message_id="m1"
    )

    assert got == {
        "type": "thread_lifecycle",
        "phase": "started",
        "time": TIME,
        "agent": "assistant",
        "attempt": 1,
        "user_message_id": "m1",
    }
    assert own("started", agent_name="a", thread_id="t", attempt=1, supersedes=["t1"])["supersedes"] == ["t1"]


def test_complete() -> None:
    usage = {"input_tokens": 812, "output_tokens": 3, "cache_hit_tokens": 640}
    fields = {"output": {"a": [1.50, 12345678901234567890]}, "latency_seconds": 1.003, "stop_reason": "end_turn"}

    got = own("complete", **fields, usage=usage, message_id="m2")

    assert (
        got
        == {"type": "thread_lifecycle", "phase": "completed", "time": TIME, "message_id": "m2", "usage": usage} | fields
    )
    nothing = own("complete", output=None, latency_seconds=0, stop_reason="end_turn", usage=None)
    assert nothing["usage"] == {"input_tokens": 0, "output_tokens": 0, "cache_hit_tokens": 0}


def test_cancelled() -> None:
    assert own("cancelled", reason="by hand") == {
        "type": "thread_lifecycle",
        "phase": "errored",
        "time": TIME,
        "reason": "cancelled",
    }


def test_an_error_is_two_frames_of_one_sequence_and_a_cursor_fits_between_them() -> None:
    details = {"retry_after": 40}
    projection = Projection("t", RUN_ID)
    chunk = chunk_of(line(7, "error", at=BASE, error="refused", code="llm_rate_limited", details=details), first=7)

    error, lifecycle = parsed(projection.frames(chunk))

    assert "id" not in error
    assert error["event"] == "error"
    assert error["data"]["sequence"] == lifecycle["data"]["sequence"] == 7
    assert error["data"]["timestamp"] == 1795219159987.297
    assert {name: error["data"][name] for name in ("error", "message", "details")} == {
        "error": "LLM_RATE_LIMITED",
        "message": "refused",
        "details": details,
    }
    assert lifecycle["data"]["phase"] == "errored"
    assert (lifecycle["data"]["reason"], lifecycle["data"]["error"]) == ("failed", "LLM_RATE_LIMITED")
    assert parsed(projection.frames_after(chunk, BASE - 2)) == [error, lifecycle]
    assert parsed(projection.frames_after(chunk, BASE - 1)) == [lifecycle]
    assert parsed(projection.frames_after(chunk, BASE)) == []


def test_an_error_without_details_has_none() -> None:
    error, _ = frames(line(0, "error", error="no", code="timeout_error", details={}))

    assert "details" not in error["data"]
    assert error["data"]["error"] == "TURN_TIMEOUT"


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"output": "text\u2028"}, "text\u2028"),
        ({"output": {"n": 1.0, "s": "é\u2028"}}, '{"n":1.0,"s":"é\\u2028"}'),
        ({"output": 12345678901234567890}, "12345678901234567890"),
        ({"output": None}, "null"),
        ({"output": ""}, ""),
    ],
)
def test_the_output_of_a_tool_is_always_text(fields: Any, output: str) -> None:
    got = own("tool_result", tool="x", tool_call_id="c1", **fields)

    assert got == {"type": "tool_result", "tool": "x", "tool_call_id": "c1", "output": output, "truncated": False}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"error": "permission_denied", "message": "no"}, "permission_denied", "no"),
        ({"error": "it broke: badly", "message": None}, "tool_call_failed", "it broke: badly"),
        ({"error": "invalid_input"}, "invalid_input", "invalid_input"),
    ],
)
def test_a_failed_tool_has_a_code_and_a_message_and_still_an_output(fields: Any, error: str, message: str) -> None:
    got = own("tool_result", tool="x", tool_call_id="c1", **fields)

    assert (got["error"], got["message"], got["output"]) == (error, message, "")


def test_the_input_of_a_tool_call_is_always_an_object() -> None:
    assert own("tool_call", tool="x", tool_call_id="c", input={"a": 1})["input"] == {"a": 1}
    assert own("tool_call", tool="x", tool_call_id="c", input=None)["input"] == {}
    assert own("tool_call", tool="x", tool_call_id="c", input=[1])["input"] == {"input": [1]}


QUESTION = {"interrupt_id": "q1", "kind": "question", "question": "Which?", "choices": ["a", "b"], "expires_at": TIME}


def test_a_question() -> None:
    assert own("interrupt", **QUESTION, default="a") == {
        "type": "hitl_request",
        "request_id": "q1",
        "kind": "question",
        "question": "Which?",
        "choices": ["a", "b"],
        "default": "a",
        "expires_at": TIME,
    }


def test_a_permission() -> None:
    about = {"tool": "bash", "tool_call_id": "c4", "rule": "destructive_shell", "input_hash": "aa", "input": {"x": 1}}

    got = own("interrupt", **{**QUESTION, "kind": "approval", "choices": None}, default=False, **about)

    assert (
        got
        == {
            "type": "hitl_request",
            "request_id": "q1",
            "kind": "permission",
            "question": "Which?",
            "choices": ["yes", "no"],
            "default": "no",
            "expires_at": TIME,
        }
        | about
    )


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"answer": True}, "yes"),
        ({"answer": False}, "no"),
        ({"answer": True, "remember": True}, "always"),
        ({"answer": None}, None),
    ],
)
def test_a_resolved_permission(fields: Any, answer: Any) -> None:
    got = own("interrupt_resolved", interrupt_id="q1", kind="approval", by="caller", caller="k", note="why", **fields)

    assert got == {
        "type": "hitl_resolved",
        "request_id": "q1",
        "kind": "permission",
        "answer": answer,
        "by": "caller",
        "feedback": "why",
    }


def test_a_resolved_question() -> None:
    got = own("interrupt_resolved", interrupt_id="q1", kind="question", answer="a", by="expiry")

    assert got == {"type": "hitl_resolved", "request_id": "q1", "kind": "question", "answer": "a", "by": "expiry"}


@pytest.mark.parametrize("fields", [{"kind": "tool", "by": "caller"}, {"kind": "question", "by": "cancelled"}])
def test_other_resolutions_keep_their_own_name(fields: Any) -> None:
    got = own("interrupt_resolved", interrupt_id="q1", answer=None, **fields)

    assert got == {"type": "interrupt_resolved", "interrupt_id": "q1", "answer": None} | fields


def test_the_other_rows_of_the_table() -> None:
    assert own("thinking", content="hm") == {"type": "thinking_delta", "text": "hm"}
    assert own("block_started", block_index=0, block_type="text")["type"] == "content_block_start"
    assert own("block_stopped", block_index=0, block_type="text") == {
        "type": "content_block_stop",
        "block_index": 0,
        "block_type": "text",
    }
    counts = {"input_tokens": 1, "output_tokens": 2, "cache_hit_tokens": 0}
    assert own("usage", model="offline", **counts) == {"type": "usage", "model": "offline"} | counts
    assert own("memory", store="working", action="written", item={"key": "k", "value": 1}) == {
        "type": "working_memory_update",
        "key": "k",
        "value": 1,
    }
    assert own("memory", store="knowledge", action="deleted", item={"id": "k1"})["type"] == "memory_update"
    collapsed = {"messages_collapsed": 3, "tokens_before": 9, "tokens_after": 2}
    assert own("compaction", **collapsed) == {"type": "compaction_event"} | collapsed
    assert own("restarted", attempt=2, discard_from=3, discard=[[3, 4]], reason="takeover") == {
        "type": "restarted",
        "attempt": 2,
        "discard_from": 3,
        "reason": "takeover",
    }


def test_events_without_a_row_keep_their_name_and_fields() -> None:
    assert own("step_started", step="fetch", attempt=1, message="", text="hidden") == {
        "type": "step_started",
        "step": "fetch",
        "attempt": 1,
        "message": "",
    }


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"a": 1, "text": "t"}, {"a": 1, "text": "t"}),
        ({"data": [1]}, [1]),
        ({}, {}),
        ({"data": 1, "b": 2}, {"data": 1, "b": 2}),
    ],
)
def test_an_event_of_the_agent_has_its_fields_in_data(fields: Any, data: Any) -> None:
    assert own("plan", **fields) == {"type": "plan", "data": data}


@pytest.mark.parametrize("name", sorted(NAMES - CANONICAL_TYPES))
def test_an_event_of_the_agent_cannot_take_a_name_of_the_specification(name: str) -> None:
    assert own(name, x=1) == {"type": f"custom.{name}", "data": {"x": 1}}


def test_frames_behind_any_time_are_exactly_the_later_ones() -> None:
    projection = Projection("t", RUN_ID)
    tokens = [line(i, "token", content=str(i)) for i in range(20)]
    chunk = chunk_of(*tokens, line(20, "error", error="refused", code="llm_rate_limited"))
    all_frames = parsed(projection.frames(chunk))
    assert [frame["event"] for frame in all_frames[-2:]] == ["error", "thread_lifecycle"]

    for after in range(BASE - 3, BASE + 43):
        expected = [frame for frame in all_frames if round(frame["data"]["timestamp"] * 1000) > after]
        assert parsed(projection.frames_after(chunk, after)) == expected


def test_the_frames_of_a_chunk_are_made_once() -> None:
    chunk = chunk_of(line(0, "token", content="x"))

    assert Projection("t", RUN_ID).frames(chunk) is Projection("t", RUN_ID).frames(chunk)
    assert Projection("t", RUN_ID).frames(chunk) != Projection("t", RUN_ID, epoch=1).frames(chunk)


def repaired(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
