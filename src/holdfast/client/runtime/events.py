"""
The events of the Runtime API, one class for each type. `RunEvent` is their union, for `match`:

    match event:
        case Token(content=text):
            print(text, end="")
        case Restarted() | Gap():
            ...
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from holdfast.client.events import Event, EventDecoder, TypedEvent


class RunEventBase(TypedEvent, frozen=True, kw_only=True):
    """The fields that every event has. `sequence` counts from 0; a hidden event leaves a hole."""

    id: str
    run_id: str
    sequence: int
    timestamp: datetime


class Started(RunEventBase, frozen=True, kw_only=True, tag="started"):
    """The first event. `thread_id` is the run's id where it is in no thread."""

    agent_name: str
    thread_id: str | None = None
    attempt: int = 1
    framework: str | None = None
    forked_from: dict[str, Any] | None = None
    user_message_id: str | None = None
    supersedes: list[str] | None = None


class Token(RunEventBase, frozen=True, kw_only=True, tag="token"):
    """A piece of text. `agent` and `parent_tool_call_id` where a sub-agent says it."""

    content: str
    finish_reason: str | None = None
    agent: str | None = None
    parent_tool_call_id: str | None = None
    first_sequence: int | None = None


class Thinking(RunEventBase, frozen=True, kw_only=True, tag="thinking"):
    """A piece of what the model thinks before it answers."""

    content: str
    agent: str | None = None
    parent_tool_call_id: str | None = None
    first_sequence: int | None = None


class BlockStarted(RunEventBase, frozen=True, kw_only=True, tag="block_started"):
    """A block of an answer begins."""

    block_index: int
    block_type: str


class BlockStopped(RunEventBase, frozen=True, kw_only=True, tag="block_stopped"):
    """A block of an answer is complete."""

    block_index: int
    block_type: str


class ToolCall(RunEventBase, frozen=True, kw_only=True, tag="tool_call"):
    """A tool is called."""

    tool: str
    tool_call_id: str
    input: Any = None


class ToolResult(RunEventBase, frozen=True, kw_only=True, tag="tool_result"):
    """What a tool gave. A failed call has `error`, a code."""

    tool: str
    tool_call_id: str
    output: Any = None
    error: str | None = None
    message: str | None = None


class StepStarted(RunEventBase, frozen=True, kw_only=True, tag="step_started"):
    """An attempt of a step begins."""

    step: str
    attempt: int = 1
    message: str | None = None


class Step(RunEventBase, frozen=True, kw_only=True, tag="step"):
    """A step is done; its result is recorded. `duration_ms` is in milliseconds."""

    node_name: str
    duration_ms: float | None = None
    input_keys: tuple[str, ...] = ()
    output_keys: tuple[str, ...] = ()
    output: Any = None


class StepFailed(RunEventBase, frozen=True, kw_only=True, tag="step_failed"):
    """An attempt of a step failed; `will_retry`: another one follows at `retry_at`."""

    step: str
    attempt: int = 1
    message: str | None = None
    error: str | None = None
    code: str | None = None
    will_retry: bool = False
    retry_at: datetime | None = None


class Progress(RunEventBase, frozen=True, kw_only=True, tag="progress"):
    """How far the run, or one of its steps, is: `progress` is 0 to 1."""

    progress: float
    message: str | None = None
    step: str | None = None


class Checkpoint(RunEventBase, frozen=True, kw_only=True, tag="checkpoint"):
    """Data that the agent shows under a name."""

    name: str
    data: Any = None


class Usage(RunEventBase, frozen=True, kw_only=True, tag="usage"):
    """What one request to a model used. `cache_hit_tokens` are part of `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_hit_tokens: int = 0
    model: str | None = None


class Interrupt(RunEventBase, frozen=True, kw_only=True, tag="interrupt"):
    """The run waits: for an answer to a question, an approval, outputs of `tool_calls`, or a timer."""

    interrupt_id: str
    kind: Literal["question", "approval", "tool", "timer"]
    question: str | None = None
    choices: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    expires_at: datetime | None = None
    default: Any = None
    reason: str | None = None
    tool: str | None = None
    tool_call_id: str | None = None
    input: Any = None
    rule: str | None = None
    input_hash: str | None = None
    round: int | None = None


class InterruptResolved(RunEventBase, frozen=True, kw_only=True, tag="interrupt_resolved"):
    """The answer that stands, and whose it is: `by` a caller (with this key), the expiry, or cancelling."""

    interrupt_id: str
    kind: str
    answer: Any = None
    by: str | None = None
    caller: str | None = None
    note: str | None = None


class Restarted(RunEventBase, frozen=True, kw_only=True, tag="restarted"):
    """The run was taken over. The events in `discard`, ranges of first and last sequence, are void; drop their text."""

    attempt: int
    discard_from: int
    discard: tuple[tuple[int, int], ...] = ()
    reason: str | None = None


class Complete(RunEventBase, frozen=True, kw_only=True, tag="complete"):
    """The last event of a run that came to its end. `latency_seconds` counts from `started`."""

    output: Any = None
    latency_seconds: float | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    message_id: str | None = None


class Error(RunEventBase, frozen=True, kw_only=True, tag="error"):
    """The last event of a run that failed."""

    error: str
    code: str
    details: dict[str, Any] | None = None


class Cancelled(RunEventBase, frozen=True, kw_only=True, tag="cancelled"):
    """The last event of a run that was cancelled."""

    reason: str | None = None


class Gap(TypedEvent, frozen=True, kw_only=True, tag="gap"):
    """
    No event of the journal: history behind the reader's place is gone. The next event is `first_sequence`. After
    `rolled_back`, what the reader has from there on is void.
    """

    run_id: str
    requested: int
    first_sequence: int
    tail_sequence: int
    epoch: int
    reason: Literal["pruned", "rolled_back", "ahead"]
    sequence: None = None


class UnknownEvent(Event, frozen=True, kw_only=True):
    """An agent's own event, or one of a newer server. `fields` are all of it, as they came."""

    type: str
    run_id: str | None
    sequence: int | None
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as it came."""
        return dict(self.fields)


_Known: TypeAlias = (
    Started
    | Token
    | Thinking
    | BlockStarted
    | BlockStopped
    | ToolCall
    | ToolResult
    | StepStarted
    | Step
    | StepFailed
    | Progress
    | Checkpoint
    | Usage
    | Interrupt
    | InterruptResolved
    | Restarted
    | Complete
    | Error
    | Cancelled
    | Gap
)
RunEvent: TypeAlias = _Known | UnknownEvent
"""Every event of the Runtime API."""


def _unknown(fields: dict[str, Any]) -> RunEvent:
    sequence, run_id = fields.get("sequence"), fields.get("run_id")
    return UnknownEvent(
        type=str(fields.get("type", "")),
        run_id=run_id if isinstance(run_id, str) else None,
        sequence=sequence if isinstance(sequence, int) else None,
        fields=fields,
    )


decoder: EventDecoder[RunEvent] = EventDecoder(_Known, _unknown)
