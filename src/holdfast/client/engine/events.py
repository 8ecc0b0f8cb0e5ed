"""
The frames of the Engine API, one class for each name. `EngineEvent` is their union, for `match`:

    match event:
        case TextDelta(text=text):
            print(text, end="")
        case ThreadLifecycle(phase="completed", output=output):
            ...
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from holdfast.client.events import Event, EventDecoder, TypedEvent


class EngineEventBase(TypedEvent, frozen=True, kw_only=True):
    """The fields that every frame has. `timestamp`: Unix milliseconds, with up to three decimals; it grows in a task."""

    task_id: str
    turn_id: str
    sequence: int
    timestamp: float


class ThreadLifecycle(EngineEventBase, frozen=True, kw_only=True, tag="thread_lifecycle"):
    """
    A turn `started` (its first frame), `completed` or `errored` (its last one). Which fields are there depends on the phase.

    `reason` of `errored` is "failed", with the code in `error`, or "cancelled".
    """

    phase: Literal["started", "completed", "errored"]
    time: str | None = None
    agent: str | None = None
    attempt: int | None = None
    user_message_id: str | None = None
    supersedes: tuple[str, ...] | None = None
    stop_reason: str | None = None
    message_id: str | None = None
    latency_seconds: float | None = None
    output: Any = None
    usage: dict[str, Any] | None = None
    reason: str | None = None
    error: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether the turn is over."""
        return self.phase != "started"


class EngineError(EngineEventBase, frozen=True, kw_only=True, tag="error"):
    """Why a turn failed. It stands right before its `ThreadLifecycle`, with the same sequence."""

    error: str
    message: str
    details: dict[str, Any] | None = None


class TextDelta(EngineEventBase, frozen=True, kw_only=True, tag="text_delta"):
    """A piece of the answer."""

    text: str


class ThinkingDelta(EngineEventBase, frozen=True, kw_only=True, tag="thinking_delta"):
    """A piece of what the model thinks before it answers."""

    text: str
    agent: str | None = None
    parent_tool_call_id: str | None = None


class ContentBlockStart(EngineEventBase, frozen=True, kw_only=True, tag="content_block_start"):
    """A block of the answer begins."""

    block_index: int
    block_type: str


class ContentBlockStop(EngineEventBase, frozen=True, kw_only=True, tag="content_block_stop"):
    """A block of the answer is complete."""

    block_index: int
    block_type: str


class ToolCall(EngineEventBase, frozen=True, kw_only=True, tag="tool_call"):
    """A tool is called."""

    tool: str
    tool_call_id: str
    input: dict[str, Any]
    agent: str | None = None
    parent_tool_call_id: str | None = None


class ToolResult(EngineEventBase, frozen=True, kw_only=True, tag="tool_result"):
    """What a tool gave: always a text. A failed call has `error`, a code, and `message`."""

    tool: str
    tool_call_id: str
    output: str = ""
    truncated: bool = False
    error: str | None = None
    message: str | None = None
    agent: str | None = None
    parent_tool_call_id: str | None = None


class Usage(EngineEventBase, frozen=True, kw_only=True, tag="usage"):
    """What one request to a model used. `cache_hit_tokens` are part of `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_hit_tokens: int = 0
    model: str | None = None


class HitlRequest(EngineEventBase, frozen=True, kw_only=True, tag="hitl_request"):
    """The turn waits for a person: answer with `hitl_respond`. A permission names the tool and what it is called with."""

    request_id: str
    kind: Literal["question", "permission"]
    question: str | None = None
    choices: tuple[str, ...] | None = None
    default: str | None = None
    expires_at: str | None = None
    tool: str | None = None
    tool_call_id: str | None = None
    input: Any = None
    rule: str | None = None
    input_hash: str | None = None


class HitlResolved(EngineEventBase, frozen=True, kw_only=True, tag="hitl_resolved"):
    """The answer that stands, `by` a caller or the expiry."""

    request_id: str
    kind: str
    answer: Any = None
    by: str | None = None
    feedback: str | None = None


class WorkingMemoryUpdate(EngineEventBase, frozen=True, kw_only=True, tag="working_memory_update"):
    """A key of the task's working memory has another value; None: it was removed."""

    key: str
    value: Any = None


class MemoryUpdate(EngineEventBase, frozen=True, kw_only=True, tag="memory_update"):
    """The agent wrote or deleted an item of its long-term memory."""

    store: str
    action: str
    item: Any = None


class CompactionEvent(EngineEventBase, frozen=True, kw_only=True, tag="compaction_event"):
    """The conversation was made shorter to fit into the model's context."""

    messages_collapsed: int
    tokens_before: int | None = None
    tokens_after: int | None = None


class Restarted(EngineEventBase, frozen=True, kw_only=True, tag="restarted"):
    """Work is done again: drop the text of frames from `discard_from` up to this one."""

    attempt: int
    discard_from: int
    reason: str | None = None


class SubAgentDelta(EngineEventBase, frozen=True, kw_only=True, tag="sub_agent_delta"):
    """A piece of what a sub-agent says."""

    content: str
    agent: str | None = None
    parent_tool_call_id: str | None = None


class ReplayGap(TypedEvent, frozen=True, kw_only=True, tag="replay_gap"):
    """
    No frame of a turn: history behind `lost_from` is gone, and the stream goes on behind `timestamp`. After
    `rolled_back`, what the reader has from there on is void.
    """

    timestamp: float
    reason: Literal["pruned", "rolled_back", "ahead"]
    lost_from: int | float | str | None = None
    task_id: str | None = None
    turn_id: str | None = None
    sequence: int | None = None


class UnknownEvent(Event, frozen=True, kw_only=True):
    """An agent's own event, or one of a newer server. `fields` are all of it, as they came."""

    type: str
    turn_id: str
    sequence: int
    timestamp: float
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as it came."""
        return dict(self.fields)


_Known: TypeAlias = (
    ThreadLifecycle
    | EngineError
    | TextDelta
    | ThinkingDelta
    | ContentBlockStart
    | ContentBlockStop
    | ToolCall
    | ToolResult
    | Usage
    | HitlRequest
    | HitlResolved
    | WorkingMemoryUpdate
    | MemoryUpdate
    | CompactionEvent
    | Restarted
    | SubAgentDelta
    | ReplayGap
)
EngineEvent: TypeAlias = _Known | UnknownEvent
"""Every frame of the Engine API but heartbeats."""


def _unknown(fields: dict[str, Any]) -> EngineEvent:
    sequence, timestamp = fields.get("sequence"), fields.get("timestamp")
    return UnknownEvent(
        type=str(fields.get("type", "")),
        turn_id=str(fields.get("turn_id") or ""),
        sequence=sequence if isinstance(sequence, int) else -1,
        timestamp=timestamp if isinstance(timestamp, int | float) else 0.0,
        fields=fields,
    )


decoder: EventDecoder[EngineEvent] = EventDecoder(_Known, _unknown)
