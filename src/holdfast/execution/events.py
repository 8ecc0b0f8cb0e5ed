"""
The events that the kernel writes about a run, and the segments in which facts from outside bring theirs. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import ToolCallFailed
from holdfast.journal.chunk import chain
from holdfast.model import Failure, Interrupt, Kind, Part, Run, Segment
from holdfast.model.encoding import encode_event, encode_fields, format_time
from holdfast.model.interrupt import shown_answer
from holdfast.model.lifecycle import NOTABLE_EVENTS
from holdfast.store.base import InboxRow, OutboxRow

# Of a tool call that nobody answered in time.
EXPIRED_CODE: Final = "tool_response_timeout"


def segment_of(run: Run, events: Sequence[tuple[str, str]], stamp: Callable[[], int]) -> Segment:
    """The segment that continues a run's journal with these events (type, own fields as JSON)."""
    first = run.tail_sequence + 1
    lines: list[str] = []
    first_timestamp = timestamp = 0
    for offset, (name, own) in enumerate(events):
        timestamp = stamp()
        first_timestamp = first_timestamp or timestamp
        lines.append(encode_event(run.run_id, first + offset, name, timestamp, own))
    body = ("\n".join(lines) + "\n").encode()
    return Segment(
        number=run.number,
        first=first,
        last=first + len(lines) - 1,
        first_timestamp=first_timestamp,
        last_timestamp=timestamp,
        body=body,
        hash=chain(run.head_hash, body),
    )


def outbox_of(segment: Segment | None, events: Sequence[tuple[str, str]]) -> tuple[OutboxRow, ...]:
    """The rows of the outbox that go with a segment of these events."""
    if segment is None:
        return ()
    return tuple(
        OutboxRow("", segment.number, segment.first + place, segment.last_timestamp)
        for place, (name, _) in enumerate(events)
        if name in NOTABLE_EVENTS
    )


def started_event(run: Run, framework: str, facts: dict[str, Any]) -> tuple[str, str]:
    """The first event of a run; a run without a thread shows its own id."""
    fields = {"agent_name": run.agent, "thread_id": run.thread_id or run.run_id, "attempt": run.attempt}
    return "started", encode_fields({**fields, "framework": framework, **facts})


def restarted_event(attempt: int, discard: Sequence[tuple[int, int]], reason: str, sequence: int) -> tuple[str, str]:
    """`discard_from` is the first sequence of the last range; where nothing is void, this event's own."""
    discard_from = discard[-1][0] if discard else sequence
    fields = {"attempt": attempt, "discard_from": discard_from, "discard": list(discard), "reason": reason}
    return "restarted", encode_fields(fields)


def error_event(failure: Failure) -> tuple[str, str]:
    return "error", encode_fields({"error": failure.message, "code": failure.code, "details": failure.details})


def cancelled_event(reason: str) -> tuple[str, str]:
    return "cancelled", encode_fields({"reason": reason})


def interrupt_event(interrupt: Interrupt, asker: str | None = None) -> tuple[str, str]:
    """The event that tells what a run waits for; `asker` is the step that asks all calls of a round."""
    part = interrupt.parts[0]
    fields: dict[str, Any] = {
        "interrupt_id": interrupt.interrupt_id,
        "kind": interrupt.kind.value,
        "question": interrupt.question,
        "choices": interrupt.choices,
        "expires_at": None if interrupt.expires_at is None else format_time(interrupt.expires_at),
    }
    if interrupt.kind is Kind.TOOL:
        fields["round"] = interrupt.round
        fields["tool_calls"] = [
            {"tool": tool_name(item), "tool_call_id": item.tool_call_id, "input": msgspec.Raw(item.input)}
            for item in interrupt.parts
        ]
        if asker is not None:
            fields["step"] = asker
    else:
        fields |= asking_step(interrupt)
        fields["default"] = shown_answer(interrupt.kind, part.default)
    for name in ("reason", "tool", "tool_call_id", "rule", "input_hash"):
        value = getattr(interrupt, name)
        if value is not None:
            fields[name] = value
    if interrupt.input is not None:
        fields["input"] = msgspec.Raw(interrupt.input)
    if interrupt.answer_role != "executor":
        fields["answer_role"] = interrupt.answer_role
    return "interrupt", encode_fields(fields)


def asking_step(interrupt: Interrupt) -> dict[str, Any]:
    """
    Of an interrupt that a step asked and whose key says so, that step: the key is `<step>/ask:…`. A part of a key with a
    colon in it is no step.
    """
    path, _, asked = interrupt.step.rpartition("/")
    if not asked.startswith("ask:"):
        return {}
    return {"step": "/".join(part for part in path.split("/") if ":" not in part)}


def tool_name(part: Part) -> str:
    """`tool` or `namespace.tool`."""
    return f"{part.namespace}.{part.tool}" if part.namespace else part.tool


def answered(interrupt: Interrupt, part_id: str, answer: bytes, *, by: str, caller: str, at: int) -> Interrupt:
    """The interrupt with one part answered; resolved (or expired) with its last part."""
    parts = tuple(
        msgspec.structs.replace(part, answer=answer, by=by, caller=caller, answered_at=at)
        if part.tool_call_id == part_id
        else part
        for part in interrupt.parts
    )
    if any(part.answer is None for part in parts):
        return msgspec.structs.replace(interrupt, parts=parts)
    status = "expired" if by == "expiry" else "resolved"
    return msgspec.structs.replace(interrupt, parts=parts, status=status, resolved_at=at)


def untold(interrupt: Interrupt, inbox: Iterable[InboxRow]) -> Interrupt:
    """
    The interrupt as the journal tells of it: an answer that still waits in the inbox is none yet. Its part has it already,
    because that decided who was first.
    """
    waiting = {row.tool_call_id for row in inbox if row.kind == "answer" and row.interrupt_id == interrupt.interrupt_id}
    if not waiting or not interrupt.is_pending:
        return interrupt
    parts = tuple(
        msgspec.structs.replace(part, answer=None, by=None, caller=None, answered_at=None)
        if part.tool_call_id in waiting
        else part
        for part in interrupt.parts
    )
    return msgspec.structs.replace(interrupt, parts=parts)


def answer_events(interrupt: Interrupt, part_id: str) -> list[tuple[str, str]]:
    """What the journal gets when this part of `interrupt` was just answered."""
    part = next(part for part in interrupt.parts if part.tool_call_id == part_id)
    events: list[tuple[str, str]] = []
    if interrupt.kind is Kind.TOOL:
        value = msgspec.json.decode(part.answer or b"null")
        fields = {"tool": tool_name(part), "tool_call_id": part_id, **asking_step(interrupt)}
        fields |= {"output": value["output"]}
        if value["errored"]:
            code = EXPIRED_CODE if part.by == "expiry" else ToolCallFailed.code
            fields |= {"error": code, "message": value["error_message"] or value["output"]}
        events.append(("tool_result", encode_fields(fields)))
    if not interrupt.is_pending:
        events.append(resolved_event(interrupt, part))
    return events


def resolved_event(interrupt: Interrupt, part: Part) -> tuple[str, str]:
    fields: dict[str, Any] = {
        "interrupt_id": interrupt.interrupt_id,
        "kind": interrupt.kind.value,
        "answer": None if interrupt.kind is Kind.TOOL else shown_answer(interrupt.kind, part.answer),
        "by": part.by,
        **asking_step(interrupt),
    }
    if part.caller:
        fields["caller"] = part.caller
    value = msgspec.json.decode(part.answer or b"null")
    if isinstance(value, dict):
        for name in ("note", "remember", "blocks"):
            if value.get(name):
                fields[name] = value[name]
    return "interrupt_resolved", encode_fields(fields)


def void_interrupt(interrupt: Interrupt, now: int) -> tuple[tuple[str, str], Interrupt]:
    """The event and the head of an open interrupt whose run ends; its open parts stay without an answer."""
    part = msgspec.structs.replace(interrupt.parts[0], by="cancelled", caller=None, answer=None)
    after = msgspec.structs.replace(interrupt, status="resolved", resolved_at=now)
    return resolved_event(after, part), after
