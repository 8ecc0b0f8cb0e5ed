"""
A run as this API tells of it: the answer of an execution, and the record of a run. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.api.skills.codes import CANCELLED, error_of_run
from holdfast.api.skills.projection import interrupt_data
from holdfast.api.skills.runs import facts_of, skill_id_of, trace_of
from holdfast.model import Failure, Kind, Run, Status
from holdfast.model.encoding import format_time

STATUSES: Final = ("running", "waiting_for_human", "waiting_for_signal", "completed", "failed")
Asked = Mapping[str, Any]
"""The canonical event of an interrupt that waits for its answer."""

_ENDED: Final = {Status.COMPLETED: "completed", Status.FAILED: "failed", Status.CANCELLED: "failed"}


def status_of(run: Run, asked: Sequence[Asked]) -> str:
    """Where a run stands, in this API's words; `asked` is what waits for an answer."""
    if run.status in _ENDED:
        return _ENDED[run.status]
    if run.status is not Status.WAITING:
        return "running"
    asks_person = any(item["kind"] in (Kind.APPROVAL, Kind.QUESTION) for item in asked)
    return "waiting_for_human" if asks_person else "waiting_for_signal"


def outputs_of(run: Run) -> Any:
    """The outputs of a run that is completed."""
    return msgspec.Raw(run.output or b"{}")


def error_detail(run: Run) -> dict[str, Any] | None:
    """Why a run did not complete."""
    if run.status is Status.CANCELLED:
        return dict(CANCELLED)
    if run.status is not Status.FAILED:
        return None
    failure = run.error or Failure("The run failed.", "runtime_error")
    return error_of_run(failure.code, failure.message, failure.details)


def answer_of(run: Run, asked: Sequence[Asked]) -> dict[str, Any]:
    """The answer of an execution whose run did not fail."""
    answer: dict[str, Any] = {
        "skill_id": skill_id_of(run.agent),
        "status": status_of(run, asked),
        "outputs": outputs_of(run) if run.status is Status.COMPLETED else {},
        "trace_id": trace_of(run),
        "run_id": run.run_id,
    }
    if asked:
        answer["interrupt"] = interrupt_view(asked[0])
    return answer


def interrupt_view(event: Asked) -> dict[str, Any]:
    """What a run asks, as in the frame of its event, with the step that asks it."""
    data = interrupt_data(event)
    first = {field: data.pop(field) for field in ("interrupt_id", "kind", "reason", "question")}
    return {**first, "step_id": event.get("step"), **data}


def record_of(run: Run, asked: Sequence[Asked], version: str | None) -> dict[str, Any]:
    """The record of a run."""
    facts, error = facts_of(run), error_detail(run)
    return {
        "run_id": run.run_id,
        "skill_id": skill_id_of(run.agent),
        "skill_version": facts.get("skill_version", version),
        "status": status_of(run, asked),
        "state": run.status.value,
        "trace_id": trace_of(run),
        "created_at": format_time(run.created_at),
        "finished_at": None if run.ended_at is None else format_time(run.ended_at),
        "result": answer_of(run, ()) if run.status is Status.COMPLETED else None,
        "error": None if error is None else error["message"],
        "error_detail": error,
        "interrupts": [interrupt_view(item) for item in asked],
        "metadata": {
            "execution_channel": facts.get("channel") or channel_of(run),
            "thread_id": run.thread_id,
            "source_run_id": facts.get("source_run_id"),
        },
    }


def channel_of(run: Run) -> str:
    """The API through which a run came that this one did not start, as far as the run tells."""
    if "workflow" in run.metadata:
        return "workflow"
    return "runtime" if run.thread_id is None else "engine"
