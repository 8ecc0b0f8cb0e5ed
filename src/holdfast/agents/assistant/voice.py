"""
What a model's response looks like in the journal: its text and its thinking while they arrive, its calls when it is whole.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic_ai.messages import (
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
)
from pydantic_ai.models import Model

from holdfast.agents.assistant.turn import Turn, usage_of

if TYPE_CHECKING:
    from holdfast.execution.context import Context

_BLOCK_TYPES: Final = {"text": "text", "thinking": "thinking", "tool-call": "tool_use"}


class Voice:
    """Emits what a response says, while it arrives."""

    def __init__(self, turn: Turn) -> None:
        self._context = turn.context
        self._base = turn.blocks
        self._separator = turn.separator

    async def say(self, event: ModelResponseStreamEvent) -> None:
        if isinstance(event, PartDeltaEvent):
            if isinstance(event.delta, TextPartDelta):
                await self._text(event.delta.content_delta)
            elif isinstance(event.delta, ThinkingPartDelta):
                await self._thinking(event.delta.content_delta)
        elif isinstance(event, PartStartEvent):
            await self._block("block_started", event.index, event.part)
            if isinstance(event.part, TextPart):
                await self._text(event.part.content)
            elif isinstance(event.part, ThinkingPart):
                await self._thinking(event.part.content)
        elif isinstance(event, PartEndEvent):
            await self._block("block_stopped", event.index, event.part)

    async def _text(self, content: str) -> None:
        if content:
            await self._context.token(self._separator + content if self._separator else content)
            self._separator = ""

    async def _thinking(self, content: str | None) -> None:
        if content:
            await self._context.thinking(content)

    async def _block(self, type: str, index: int, part: ModelResponsePart) -> None:
        block_type = _BLOCK_TYPES.get(part.part_kind)
        if block_type is not None:
            await self._context.event(type, block_index=self._base + index, block_type=block_type)


async def report_call(turn: Turn, part: ToolCallPart) -> None:
    """
    The `tool_call` event. It belongs to the response: it stands as long as that does, however often the call itself
    is tried. A call that cannot be carried out at all gets its result here; the agent tells the model by itself.
    """
    arguments, problem = _arguments(part)
    if problem is None and part.tool_name in turn.client_tools:
        return  # it is told when it is asked, under the id that its caller answers
    tool = turn.tool(part.tool_name)
    name = part.tool_name if tool is None else tool.name
    await turn.context.event("tool_call", tool=name, tool_call_id=part.tool_call_id, input=arguments)
    if tool is None:
        problem = ("unknown_tool", f"there is no tool {part.tool_name!r}")
    if problem is not None:
        code, message = problem
        await turn.context.event("tool_result", tool=name, tool_call_id=part.tool_call_id, error=code, message=message)


async def report_usage(context: Context, response: ModelResponse, model: Model[Any]) -> None:
    """What a request cost."""
    name = response.model_name or model.model_name
    await context.event("usage", model=name, **usage_of(response))
    # Not in the event: prices change, and what is recorded does not.
    with contextlib.suppress(LookupError, ValueError, AssertionError):  # the price is not known
        context.execution.tally.add_cost(context.agent_name, float(response.cost().total_price))


def _arguments(part: ToolCallPart) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """The arguments as an object; what is none is shown as it came, with what is wrong."""
    if isinstance(part.args, dict):
        return part.args, None
    try:
        value = msgspec.json.decode(part.args or "{}")
    except msgspec.DecodeError as exc:
        return {"text": part.args}, ("invalid_input", f"the input is no JSON: {exc}")
    if not isinstance(value, dict):
        return {"value": value}, ("invalid_input", "the input is no JSON object")
    return value, None
