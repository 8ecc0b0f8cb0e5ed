"""
The frames of the Skills API, one class for each type. `SkillEvent` is their union, for `match`:

    match event:
        case StepStart(step_id=step):
            print(f"{step} begins")
        case Done(status="completed", outputs=outputs):
            ...

What a frame says beyond the fields of all frames is in its `data`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from holdfast.client.events import Event, EventDecoder, TypedEvent


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a frame says of its own. A field that the server left out is None, or its default."""


class StepStartData(Data, frozen=True, kw_only=True):
    """Which attempt of the step, or of one `item` of it, begins; `reason` is "restart" after a crash."""

    attempt: int = 1
    reason: str | None = None
    item: int | str | None = None


class StepCompletedData(Data, frozen=True, kw_only=True):
    """What a step made. `duration_ms` is in milliseconds; `binding` comes with `include_trace`, a list of them with `scatter`."""

    produced_output: Any = None
    duration_ms: float | None = None
    attempt: int = 1
    foreach_count: int | None = None
    while_iterations: int | None = None
    while_exhausted: bool | None = None
    scatter_succeeded: int | None = None
    scatter_failed: int | None = None
    router_matched: Any = None
    binding: dict[str, Any] | list[dict[str, Any]] | None = None


class StepFailedData(Data, frozen=True, kw_only=True):
    """Why an attempt failed. With `will_retry` another one follows at `retry_at`."""

    error: str
    code: str
    status: int
    attempt: int = 1
    will_retry: bool = False
    retry_at: datetime | None = None
    item: int | str | None = None


class StepSkippedData(Data, frozen=True, kw_only=True):
    """Why a step was skipped: its "condition", or "dependency_failed"."""

    reason: str


class GateData(Data, frozen=True, kw_only=True):
    """Which gate denied, in which phase ("pre" or "post"), and why."""

    gate: str
    phase: str
    reason: str | None = None


class ProgressData(Data, frozen=True, kw_only=True):
    """How far the step is: `progress` is 0 to 1."""

    progress: float
    item: int | str | None = None


class TokenData(Data, frozen=True, kw_only=True):
    """A piece of text."""

    content: str


class InterruptData(Data, frozen=True, kw_only=True):
    """What is asked. An approval is answered with `approve` or `deny`; `tool_calls` are executed by the caller."""

    interrupt_id: str
    kind: Literal["question", "approval", "tool", "timer"]
    reason: str | None = None
    question: str | None = None
    choices: list[Any] | None = None
    input: Any = None
    expires_at: datetime | None = None
    default: Any = None
    round: int | None = None
    tool_calls: list[dict[str, Any]] | None = None


class InterruptResolvedData(Data, frozen=True, kw_only=True):
    """The answer that stands, and whose it is: `by` a caller (with this key), the expiry, or cancelling."""

    interrupt_id: str
    kind: str
    answer: Any = None
    by: str | None = None
    caller: str | None = None
    note: str | None = None


class RestartedData(Data, frozen=True, kw_only=True):
    """The events in `discard`, ranges of first and last sequence, are void."""

    attempt: int
    discard_from: int
    discard: tuple[tuple[int, int], ...] = ()
    reason: str | None = None


class GapData(Data, frozen=True, kw_only=True):
    """What is missing: the next event is `first_sequence`."""

    reason: Literal["pruned", "rolled_back", "ahead"]
    requested: int
    first_sequence: int
    tail_sequence: int
    epoch: int


class FailureData(Data, frozen=True, kw_only=True):
    """Why a run failed: the code of the Skills API, and the status with which `execute` answers it."""

    code: str
    message: str
    type: str | None = None
    status: int | None = None


class SkillEventBase(TypedEvent, frozen=True, kw_only=True):
    """The fields that every frame has. `sequence` counts from 0 without gaps; `message` is for people, and may be ""."""

    run_id: str
    sequence: int
    timestamp: datetime
    message: str = ""
    trace_id: str | None = None
    step_id: str | None = None


class SkillStart(SkillEventBase, frozen=True, kw_only=True, tag="skill_start"):
    """The first frame."""


class StepStart(SkillEventBase, frozen=True, kw_only=True, tag="step_start"):
    """An attempt of a step begins. What the step showed since its last `StepStart` is void."""

    data: StepStartData | None = None

    @property
    def attempt(self) -> int:
        """Which attempt, from 1 on."""
        return 1 if self.data is None else self.data.attempt


class StepCompleted(SkillEventBase, frozen=True, kw_only=True, tag="step_completed"):
    """A step is done; its result is recorded."""

    data: StepCompletedData


class StepFailed(SkillEventBase, frozen=True, kw_only=True, tag="step_failed"):
    """An attempt of a step failed."""

    data: StepFailedData


class StepSkipped(SkillEventBase, frozen=True, kw_only=True, tag="step_skipped"):
    """A step is not executed; those behind it read null."""

    data: StepSkippedData


class StepDegraded(SkillEventBase, frozen=True, kw_only=True, tag="step_degraded"):
    """A gate took the step's output away; those behind it read null."""

    data: GateData


class SafetyGateWarning(SkillEventBase, frozen=True, kw_only=True, tag="safety_gate_warning"):
    """A gate denied, and the step goes on all the same."""

    data: GateData


class Progress(SkillEventBase, frozen=True, kw_only=True, tag="progress"):
    """How far a step is."""

    data: ProgressData


class Token(SkillEventBase, frozen=True, kw_only=True, tag="token"):
    """A piece of text, while a step makes it."""

    data: TokenData

    @property
    def content(self) -> str:
        """The text."""
        return self.data.content


class Interrupt(SkillEventBase, frozen=True, kw_only=True, tag="interrupt"):
    """A step waits: for an approval, or for its tool calls' outputs. Other steps go on."""

    data: InterruptData


class InterruptResolved(SkillEventBase, frozen=True, kw_only=True, tag="interrupt_resolved"):
    """What a step waited for has come."""

    data: InterruptResolvedData


class Restarted(SkillEventBase, frozen=True, kw_only=True, tag="restarted"):
    """The run was taken over after a crash: steps that were in flight start again."""

    data: RestartedData


class SkillCompleted(SkillEventBase, frozen=True, kw_only=True, tag="skill_completed"):
    """All steps are done; `Done` follows."""


class Done(SkillEventBase, frozen=True, kw_only=True, tag="done"):
    """The last frame. A run that failed, or was cancelled, has `error`."""

    skill_id: str
    status: Literal["completed", "failed"]
    outputs: Any = None
    error: FailureData | None = None


class Gap(TypedEvent, frozen=True, kw_only=True, tag="gap"):
    """
    No event of the journal: history behind the reader's place is gone. After `rolled_back`, what the reader has from
    `data.first_sequence` on is void.
    """

    run_id: str
    data: GapData
    message: str = ""
    timestamp: datetime | None = None
    trace_id: str | None = None
    step_id: None = None
    sequence: None = None


class UnknownEvent(Event, frozen=True, kw_only=True):
    """An event of another kind, or one of a newer server. `fields` are all of it, as they came."""

    type: str
    run_id: str | None
    sequence: int | None
    step_id: str | None
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as it came."""
        return dict(self.fields)


_Known: TypeAlias = (
    SkillStart
    | StepStart
    | StepCompleted
    | StepFailed
    | StepSkipped
    | StepDegraded
    | SafetyGateWarning
    | Progress
    | Token
    | Interrupt
    | InterruptResolved
    | Restarted
    | SkillCompleted
    | Done
    | Gap
)
SkillEvent: TypeAlias = _Known | UnknownEvent
"""Every frame of the Skills API."""


def _unknown(fields: dict[str, Any]) -> SkillEvent:
    sequence, run_id, step_id = fields.get("sequence"), fields.get("run_id"), fields.get("step_id")
    return UnknownEvent(
        type=str(fields.get("type", "")),
        run_id=run_id if isinstance(run_id, str) else None,
        sequence=sequence if isinstance(sequence, int) else None,
        step_id=step_id if isinstance(step_id, str) else None,
        fields=fields,
    )


decoder: EventDecoder[SkillEvent] = EventDecoder(_Known, _unknown)
