"""Runs, interrupts and steps as the Runtime API shows them. No I/O."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.api.http.errors import InvalidQuery
from holdfast.api.runtime.problems import failure_status_and_code
from holdfast.model import Cancel, Failure, Interrupt, Kind, Run, Status, Step
from holdfast.model.encoding import format_time
from holdfast.model.interrupt import shown_answer

STATUS_NAMES: Final = {status: "accepted" if status is Status.QUEUED else status.value for status in Status}
STATUSES: Final = {name: status for status, name in STATUS_NAMES.items()}


def shown_time(microseconds: int | None) -> str | None:
    return None if microseconds is None else format_time(microseconds)


def events_url(run_id: str) -> str:
    return f"/runs/{run_id}/events"


def accepted_view(run: Run) -> dict[str, Any]:
    """The answer to a start; a repeat of the call gets the same bytes, whatever became of the run."""
    return {
        "run_id": run.run_id,
        "status": "accepted",
        "events_url": events_url(run.run_id),
        "created_at": format_time(run.created_at),
    }


def run_view(run: Run, framework: str, pending: Sequence[str], *, whole: bool) -> dict[str, Any]:
    """A run; `whole` adds what lists leave out, its input and output."""
    view: dict[str, Any] = {
        "run_id": run.run_id,
        "number": run.number,
        "status": STATUS_NAMES[run.status],
        "agent": run.agent,
        "thread_id": run.thread_id or run.run_id,
        "attempt": run.attempt,
        "epoch": run.epoch,
        "first_sequence": run.first_sequence,
        "tail_sequence": run.tail_sequence,
        "created_at": format_time(run.created_at),
        "completed_at": shown_time(run.ended_at),
    }
    if whole:
        view["input"] = msgspec.Raw(run.input)
        view["output"] = None if run.output is None else msgspec.Raw(run.output)
    return view | {
        "error": failure_view(run.error),
        "cancel": _cancel_view(run.cancel),
        "interrupts": list(pending),
        "metadata": {"agent": run.agent, "framework": framework},
        "events_url": events_url(run.run_id),
    }


def failure_view(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"message": failure.message, "code": failure_status_and_code(failure.code)[1], "details": failure.details}


def _cancel_view(cancel: Cancel | None) -> dict[str, Any] | None:
    if cancel is None:
        return None
    requested, stopped = shown_time(cancel.requested), shown_time(cancel.stopped)
    return {"reason": cancel.reason, "requested": requested, "stopped": stopped}


def receipt_view(run: Run) -> dict[str, Any]:
    """What a cancel answers; the same one however often it is asked for."""
    receipt = _cancel_view(run.cancel) or {"reason": "", "requested": None, "stopped": None}
    return {"run_id": run.run_id, "status": STATUS_NAMES[run.status], **receipt}


def interrupt_view(interrupt: Interrupt) -> dict[str, Any]:
    """An interrupt, with its calls where it is one of kind `tool`."""
    return {
        "interrupt_id": interrupt.interrupt_id,
        "kind": interrupt.kind.value,
        "question": interrupt.question,
        "choices": interrupt.choices,
        "tool_calls": _tool_calls(interrupt),
        "status": interrupt.status,
        "created_at": format_time(interrupt.created_at),
        "expires_at": shown_time(interrupt.expires_at),
        "default": shown_answer(interrupt.kind, interrupt.parts[0].default),
        "answer": answer_view(interrupt),
        "by": interrupt.parts[-1].by,
    }


def answer_view(interrupt: Interrupt) -> Any:
    """The answer as it was given; of tool calls, the list of what each came to."""
    if interrupt.kind is not Kind.TOOL:
        return shown_answer(interrupt.kind, interrupt.parts[0].answer)
    answers = []
    for part in interrupt.parts:
        if part.answer is None:
            continue
        value = msgspec.json.decode(part.answer)
        result = {"error": value["error_message"]} if value["errored"] else {"output": value["output"]}
        answers.append({"tool_call_id": part.tool_call_id, **result})
    return answers or None


def _tool_calls(interrupt: Interrupt) -> list[dict[str, Any]] | None:
    if interrupt.kind is not Kind.TOOL:
        return None
    return [
        {
            "tool": f"{part.namespace}.{part.tool}" if part.namespace else part.tool,
            "tool_call_id": part.tool_call_id,
            "input": msgspec.Raw(part.input),
        }
        for part in interrupt.parts
    ]


def step_view(step: Step) -> dict[str, Any]:
    duration = None if step.completed_at is None else max(step.completed_at - step.started_at, 0) / 1000
    return {
        "key": step.key,
        "name": step.name,
        "status": step.status,
        "attempts": step.attempts,
        "started_at": format_time(step.started_at),
        "completed_at": shown_time(step.completed_at),
        "duration_ms": duration,
        "output": None if step.output is None else msgspec.Raw(step.output),
        "error": failure_view(step.error),
        "sequence": step.sequence,
        "reused": step.reused,
    }


def encode_cursor(number: int) -> str:
    """A place in a list of runs, opaque, and with a checksum against accidents."""
    text = b"%d" % number
    return base64.urlsafe_b64encode(text + b"." + b"%08x" % zlib.crc32(text)).decode().rstrip("=")


def decode_cursor(text: str) -> int:
    """
    What `encode_cursor` made.

    Raises:
        InvalidQuery: it is damaged.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        number, _, checksum = raw.partition(b".")
        if int(checksum, 16) == zlib.crc32(number) and encode_cursor(int(number)) == text:
            return int(number)
    except (ValueError, binascii.Error):
        pass
    raise InvalidQuery("cursor is damaged: pass next_cursor as it came", field="cursor")
