"""Frames of the Skills API."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.skills.projection import Frames, gap_frame
from holdfast.journal import Chunk
from holdfast.model import Run, Status
from holdfast.model.encoding import encode_event, encode_fields

RUN = Run(
    number=1,
    run_id="r1",
    agent="skill:my.skill",
    agent_id="a",
    status=Status.RUNNING,
    input=b"{}",
    created_at=0,
    tail_sequence=4,
    metadata={"skills": {"trace_id": "abc-123"}},
)


def chunk(*events: tuple[str, dict[str, Any]], first: int = 0) -> Chunk:
    lines = [
        encode_event("r1", first + place, name, 1_774_440_000_000_391 + place, encode_fields(fields))
        for place, (name, fields) in enumerate(events)
    ]
    return Chunk(first, lines)


def shown(name: str, run: Run = RUN, **fields: Any) -> dict[str, Any]:
    """The frame of one event."""
    text = Frames(run).of_chunk(chunk((name, fields), first=1)).decode()
    found: dict[str, Any] = json.loads(text.split("data: ")[1])
    return found


def test_a_run_of_one_step_is_the_documented_stream() -> None:
    journal = chunk(
        ("started", {"agent_name": "skill:my.skill", "thread_id": "r1", "attempt": 1}),
        ("step_started", {"step": "analyze", "attempt": 1, "message": ""}),
        (
            "step_completed",
            {
                "step": "analyze",
                "attempt": 1,
                "message": "",
                "output": {"summary": "Hello world"},
                "duration_ms": 0.412,
            },
        ),
        ("skill_completed", {}),
        ("complete", {"output": {"result": "Hello world"}, "latency_seconds": 0.1, "stop_reason": "end_turn"}),
    )

    frames = Frames(RUN).of_chunk(journal).decode().split("\n\n")

    assert frames[1] == (
        "id: 1\nevent: step_start\n"
        'data: {"type":"step_start","message":"Starting step \'analyze\'.",'
        '"timestamp":"2026-03-25T12:00:00.000392Z","step_id":"analyze","trace_id":"abc-123","run_id":"r1",'
        '"sequence":1,"data":null}'
    )
    assert frames[2].endswith(
        '"sequence":2,"data":{"produced_output":{"summary":"Hello world"},"duration_ms":0.412,"attempt":1}}'
    )
    assert frames[4] == (
        "id: 4\nevent: done\n"
        'data: {"type":"done","message":"Skill \'my.skill\' completed.",'
        '"timestamp":"2026-03-25T12:00:00.000395Z","step_id":null,"trace_id":"abc-123","run_id":"r1","sequence":4,'
        '"data":null,"skill_id":"my.skill","status":"completed","outputs":{"result":"Hello world"}}'
    )
    first, completed = (json.loads(frames[place].split("data: ")[1]) for place in (0, 3))
    assert (first["type"], first["message"], first["data"]) == ("skill_start", "Executing skill 'my.skill'.", None)
    assert (completed["type"], completed["message"]) == ("skill_completed", "Skill 'my.skill' completed.")


def test_a_further_attempt_says_why() -> None:
    frame = shown("step_started", step="a", attempt=2, message="", reason="restart")

    assert frame["data"] == {"attempt": 2, "reason": "restart"}


def test_a_failed_attempt_shows_when_the_next_one_comes() -> None:
    frame = shown(
        "step_failed",
        step="a",
        attempt=1,
        message="",
        error="refused",
        code="upstream_failure",
        status=502,
        will_retry=True,
        retry_at="2026-03-25T12:00:01.000000Z",
    )

    assert frame["message"] == "Step 'a' failed."
    assert frame["data"] == {
        "error": "refused",
        "code": "upstream_failure",
        "status": 502,
        "attempt": 1,
        "will_retry": True,
        "retry_at": "2026-03-25T12:00:01.000000Z",
    }


@pytest.mark.parametrize(
    ("name", "fields", "data"),
    [
        ("step_skipped", {"reason": "condition"}, {"reason": "condition"}),
        (
            "step_degraded",
            {"gate": "text.pii.check", "phase": "post", "reason": "an address", "attempt": 1},
            {"gate": "text.pii.check", "phase": "post", "reason": "an address"},
        ),
        ("token", {"content": "Quan"}, {"content": "Quan"}),
        ("progress", {"progress": 0.5, "message": "half"}, {"progress": 0.5, "message": "half"}),
    ],
)
def test_an_event_of_a_step_names_it_and_shows_its_own_fields(
    name: str, fields: dict[str, Any], data: dict[str, Any]
) -> None:
    frame = shown(name, step="outer/inner", **fields)

    assert (frame["type"], frame["step_id"], frame["data"]) == (name, "outer/inner", data)


def test_an_approval_is_answered_with_approve_or_deny() -> None:
    frame = shown(
        "interrupt",
        interrupt_id="i1",
        kind="approval",
        question="Post this?",
        choices=None,
        expires_at=None,
        default=False,
        reason="confirm",
        step="post",
        input={"url": "u"},
    )

    assert frame["message"] == "Post this?"
    assert frame["data"] == {
        "interrupt_id": "i1",
        "kind": "approval",
        "reason": "confirm",
        "question": "Post this?",
        "choices": ["approve", "deny"],
        "input": {"url": "u"},
        "expires_at": None,
        "default": "deny",
    }


def test_a_failed_run_ends_with_its_error() -> None:
    frame = shown(
        "error",
        error="Step 'analyze': over 60 s.",
        code="step_timeout",
        details={"type": "StepTimeoutError", "status": 504},
    )

    assert frame["message"] == "Skill 'my.skill' failed."
    assert {name: frame[name] for name in ("skill_id", "status", "outputs", "error")} == {
        "skill_id": "my.skill",
        "status": "failed",
        "outputs": {},
        "error": {
            "code": "step_timeout",
            "message": "Step 'analyze': over 60 s.",
            "type": "StepTimeoutError",
            "status": 504,
        },
    }


def test_a_cancelled_run_failed_with_that_code() -> None:
    frame = shown("cancelled", reason="enough")

    assert (frame["status"], frame["error"]["code"], frame["error"]["status"]) == ("failed", "cancelled", 409)


def test_what_the_kernel_ends_is_a_runtime_error() -> None:
    frame = shown("error", error="the process died", code="interrupted", details={})

    assert frame["error"] == {
        "code": "runtime_error",
        "message": "the process died",
        "type": "RuntimeError",
        "status": 500,
    }


def test_a_run_of_another_api_has_its_id_as_its_trace() -> None:
    assert shown("token", msgspec.structs.replace(RUN, metadata={}), content="x")["trace_id"] == "r1"


def test_a_bare_capability_is_called_one() -> None:
    run = msgspec.structs.replace(RUN, agent="capability:text.shout")

    assert shown("started", run)["message"] == "Executing capability 'text.shout'."
    assert shown("complete", run, output={})["skill_id"] == "capability:text.shout"


def test_after_a_rollback_ids_carry_the_epoch() -> None:
    run = msgspec.structs.replace(RUN, epoch=2)

    assert Frames(run).of_chunk(chunk(("token", {"content": ""}))).startswith(b"id: 0@2\n")
    assert Frames(run).key != Frames(RUN).key


def test_a_gap_has_no_id_and_says_what_is_missing() -> None:
    text = gap_frame(RUN, requested=2, first=4, reason="pruned", timestamp="2026-03-25T12:00:00.000000Z").decode()

    frame = json.loads(text.removeprefix("event: gap\ndata: "))
    assert (frame["type"], frame["message"]) == ("gap", "Events 2 to 3 are not kept any more.")
    assert frame["data"] == {
        "reason": "pruned",
        "requested": 2,
        "first_sequence": 4,
        "tail_sequence": 4,
        "epoch": 0,
    }


_NAMES = st.sampled_from(["started", "step_started", "step_completed", "token", "restarted", "skill_completed", "mine"])


@given(st.lists(st.tuples(_NAMES, st.text(max_size=8)), min_size=1, max_size=12))
def test_each_event_is_one_frame_of_lines_that_no_reader_cuts(events: list[tuple[str, str]]) -> None:
    journal = chunk(*((name, {"step": text, "attempt": 1, "output": text, "message": text}) for name, text in events))

    text = Frames(RUN).of_chunk(journal).decode()

    assert len(text.splitlines()) == 4 * len(events)
    frames = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [frame["sequence"] for frame in frames] == list(range(len(events)))
    assert all(isinstance(frame["message"], str) and frame["type"] for frame in frames)
