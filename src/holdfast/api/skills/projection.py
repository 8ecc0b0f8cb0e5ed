"""
Canonical events as frames of the Skills API. Pure functions from a chunk to bytes; no I/O.

Each event is one frame, so that sequences have no gaps here either. What a frame shows is in its event, but for the
trace of the run, which does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from holdfast.api.skills.codes import CANCELLED, error_of_run
from holdfast.api.skills.runs import skill_id_of, subject_of, trace_of
from holdfast.journal import Chunk
from holdfast.model import Run
from holdfast.model.encoding import FIXED_FIELDS, decode_event, encode_text, encode_value

RETRY_MS: Final = 2000

_NAMES: Final[Mapping[str, str]] = {
    "started": "skill_start",
    "step_started": "step_start",
    "complete": "done",
    "error": "done",
    "cancelled": "done",
}
_MESSAGES: Final[Mapping[str, str]] = {
    "step_started": "Starting step '{}'.",
    "step_completed": "Step '{}' completed.",
    "step_skipped": "Step '{}' skipped.",
    "step_degraded": "Step '{}' degraded.",
    "step_failed": "Step '{}' failed.",
}
# Beside the fixed fields, what stands elsewhere in a frame.
_ELSEWHERE: Final = frozenset((*FIXED_FIELDS, "step"))
_CHOICES: Final = ("approve", "deny")
_DECISIONS: Final = {True: "approve", False: "deny"}


class Frames:
    """The projection of one run. The same run gives the same frames to all its readers, so they share them."""

    def __init__(self, run: Run) -> None:
        self.key: Hashable = ("skills", run.epoch, trace_of(run))
        self._suffix = f"@{run.epoch}" if run.epoch else ""
        self._skill_id = skill_id_of(run.agent)
        self._subject, self._id = subject_of(run.agent)
        # The members between that no event changes.
        self._middle = f',"trace_id":{encode_text(trace_of(run))},"run_id":{encode_text(run.run_id)},"sequence":'

    def of_chunk(self, chunk: Chunk) -> bytes:
        """All events of a chunk as server-sent events."""
        return "".join(map(self._event, chunk.lines)).encode()

    def data(self, line: str) -> str:
        """One canonical line as the data of its frame, JSON text."""
        return self._shown(decode_event(line))[1]

    def _event(self, line: str) -> str:
        event = decode_event(line)
        name, data = self._shown(event)
        return f"id: {event['sequence']}{self._suffix}\nevent: {name}\ndata: {data}\n\n"

    def _shown(self, event: dict[str, Any]) -> tuple[str, str]:
        """The name and the data of the frame that an event becomes."""
        kind, step = event["type"], event.get("step")
        name = _NAMES.get(kind, kind)
        message, data, beside = self._told(kind, step, event)
        return name, (
            f'{{"type":"{name}","message":{encode_text(message)},"timestamp":"{event["timestamp"]}",'
            f'"step_id":{encode_value(step)}{self._middle}{event["sequence"]},'
            f'"data":{encode_value(data) if data else "null"}{beside}}}'
        )

    def _told(self, kind: str, step: Any, event: dict[str, Any]) -> tuple[str, Mapping[str, Any] | None, str]:
        """Message, data and further members of the frame of an event."""
        if kind in _MESSAGES:
            return _MESSAGES[kind].format(step), _OF_STEP[kind](event), ""
        if kind == "started":
            return f"Executing {self._subject} '{self._id}'.", None, ""
        if kind == "skill_completed":
            return self._ended("completed"), None, ""
        if _NAMES.get(kind) == "done":
            return self._done(kind, event)
        if kind == "interrupt":
            question = event.get("question")
            return question if isinstance(question, str) else "", interrupt_data(event), ""
        data = own_fields(event)
        message = data.get("message")
        return message if isinstance(message, str) else "", data, ""

    def _done(self, kind: str, event: dict[str, Any]) -> tuple[str, None, str]:
        status = "completed" if kind == "complete" else "failed"
        members: dict[str, Any] = {"skill_id": self._skill_id, "status": status, "outputs": {}}
        if kind == "complete":
            members["outputs"] = event.get("output")
        elif kind == "cancelled":
            members["error"] = CANCELLED
        else:
            members["error"] = error_of_run(event["code"], event["error"], event.get("details") or {})
        return self._ended(status), None, "," + encode_value(members)[1:-1]

    def _ended(self, status: str) -> str:
        return f"{self._subject.capitalize()} '{self._id}' {status}."


def own_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says beside its fixed fields and its step."""
    return {name: value for name, value in event.items() if name not in _ELSEWHERE}


def _rest(event: Mapping[str, Any], *shown: str) -> dict[str, Any]:
    """What a step's event says beyond the fields that have their own place."""
    return {name: value for name, value in own_fields(event).items() if name not in shown and name != "message"}


def _step_started(event: Mapping[str, Any]) -> dict[str, Any]:
    data = _rest(event)
    return {} if data == {"attempt": 1} else data


def _step_completed(event: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"produced_output": event.get("output"), "duration_ms": event.get("duration_ms")}
    return {**shown, "attempt": event.get("attempt", 1), **_rest(event, "output", "duration_ms", "attempt")}


def _step_failed(event: Mapping[str, Any]) -> dict[str, Any]:
    code = event.get("code", "runtime_error")
    error = error_of_run(code, event["error"], {"status": event.get("status")})
    shown = {"error": event["error"], "code": error["code"], "status": error["status"]}
    facts = {"attempt": event.get("attempt", 1), "will_retry": event.get("will_retry", False)}
    return {**shown, **facts, **_rest(event, "error", "code", "status", "attempt", "will_retry")}


_OF_STEP: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "step_started": _step_started,
    "step_completed": _step_completed,
    "step_skipped": lambda event: _rest(event, "attempt"),
    "step_degraded": lambda event: _rest(event, "attempt"),
    "step_failed": _step_failed,
}


def interrupt_data(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a run waits for, as the frame `interrupt` shows it; calls of the caller's tools beside it."""
    is_approval = event["kind"] == "approval"
    default = event.get("default")
    data = {
        "interrupt_id": event["interrupt_id"],
        "kind": event["kind"],
        "reason": event.get("reason"),
        "question": event.get("question"),
        "choices": list(_CHOICES) if is_approval else event.get("choices"),
        "input": event.get("input"),
        "expires_at": event.get("expires_at"),
        "default": _DECISIONS.get(default) if is_approval and isinstance(default, bool) else default,
    }
    return data | {name: event[name] for name in ("round", "tool_calls") if name in event}


def gap_frame(run: Run, *, requested: int, first: int, reason: str, timestamp: str) -> bytes:
    """The frame that says that history is missing, rolled back, or not written yet. It has no id."""
    messages = {
        "pruned": f"Events {requested} to {first - 1} are not kept any more.",
        "rolled_back": f"History was rolled back; it goes on from event {first}.",
        "ahead": f"There is no event {requested} yet.",
    }
    frame = {
        "type": "gap",
        "message": messages[reason],
        "timestamp": timestamp,
        "step_id": None,
        "trace_id": trace_of(run),
        "run_id": run.run_id,
        "sequence": None,
        "data": {
            "reason": reason,
            "requested": requested,
            "first_sequence": first,
            "tail_sequence": run.tail_sequence,
            "epoch": run.epoch,
        },
    }
    return f"event: gap\ndata: {encode_value(frame)}\n\n".encode()
