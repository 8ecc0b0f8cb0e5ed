"""
The assistant's loop: a pydantic-ai agent whose model requests and tool calls are steps.

The loop itself keeps no state outside of the record. Executed again it goes the same way: the same messages lead to
the same recorded responses, these to the same recorded tool results, and so on to where the record ends.

This module loads the model library, which takes more than a second: import it off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from pydantic_ai import Agent, TextOutput, capture_run_messages
from pydantic_ai.exceptions import AgentRunError, ContentFilterError, OutputTokenLimitExceeded
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings

from holdfast.agents.assistant.attempts import Sleep
from holdfast.agents.assistant.callers_tools import client_tools_of
from holdfast.agents.assistant.calls import RETRIES_MAX, RecordedTools
from holdfast.agents.assistant.compaction import kept_with
from holdfast.agents.assistant.history import detail_of, model_messages, refused_block, user_content
from holdfast.agents.assistant.kit import ALL, Kit
from holdfast.agents.assistant.limits import STANDARD, Limits
from holdfast.agents.assistant.providers import SILENCE_SECONDS, counts_bytes
from holdfast.agents.assistant.recalling import recall
from holdfast.agents.assistant.requests import IterationsExhausted, RecordedModel
from holdfast.agents.assistant.structured import Shape
from holdfast.agents.assistant.turn import Turn
from holdfast.agents.mcp import Mcp, remote_tools_of
from holdfast.agents.models.failures import ModelFailed
from holdfast.agents.tools import Tools
from holdfast.agents.tools.gate import Gate
from holdfast.execution.context import Context
from holdfast.execution.given import OUTPUT_SCHEMA
from holdfast.execution.program import Result
from holdfast.memory import Memory

_STOP_REASONS: Final = {"length": "max_tokens", "content_filter": "refusal"}

# How often an answer without any content goes back to the model.
EMPTY_ANSWERS_MAX = 3


class Loop:
    """Answers messages with one model and one set of tools; any number of turns at once."""

    def __init__(
        self,
        model: Model[Any],
        tools: Tools,
        *,
        instructions: str,
        max_tokens: int | None,
        limits: Limits = STANDARD,
        fallback: Model[Any] | None = None,
        client_tools: Sequence[str] = (),
        memory: Memory | None = None,
        mcp: Mcp | None = None,
        gate: Gate | None = None,
        kit: Kit = ALL,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._model = model
        self._fallback = fallback
        self._tools = tools
        self._client_tools = client_tools
        self._memory = memory
        self._mcp = mcp
        self._gate = gate or Gate()
        self._kit = kit
        self._toolset = RecordedTools(tools)
        self._settings = _settings(model, max_tokens)
        self._limits = limits
        self._sleep = sleep
        self._agent: Agent[Turn, str] = Agent(
            deps_type=Turn,
            instructions=instructions,
            name="assistant",
            retries={"tools": RETRIES_MAX, "output": EMPTY_ANSWERS_MAX},
        )

    def refused_media(self, blocks: Sequence[Any]) -> tuple[int, str] | None:
        """The first block that the model cannot take, and what it is."""
        return refused_block(blocks, self._model)

    async def answer(self, context: Context, text: str, media: Sequence[Any]) -> Result:
        """
        Answer one message of a thread, with what was said before.

        Raises:
            ModelFailed: the provider did not answer.
        """
        client_tools = await client_tools_of(context, self._client_tools)
        remote_tools = await remote_tools_of(context, self._mcp)
        remote_tools = {name: tool for name, tool in remote_tools.items() if self._kit.may_use(tool.name)}
        turn = Turn(context, self._tools, client_tools, remote_tools, self._limits, self._gate)
        history = model_messages(await context.history())
        recalled = await recall(context, self._memory, text)
        wanted = context.given(OUTPUT_SCHEMA)
        shape = None if wanted is None else Shape(wanted)
        model = RecordedModel(
            self._model, turn, fallback=self._fallback, notes=recalled.notes, shape=shape, sleep=self._sleep
        )
        with capture_run_messages() as messages:
            try:
                result: AgentRunResult[Any] = await self._agent.run(
                    user_content(text, media),
                    deps=turn,
                    message_history=history or None,
                    output_type=str if shape is None else TextOutput(shape.read),
                    model=model,
                    instructions=_instructions(recalled.instructions, shape),
                    model_settings=self._settings,
                    toolsets=[self._toolset],
                    usage_limits=None,
                    run_id=context.run_id,
                    conversation_id=context.thread_id or context.run_id,
                    infer_name=False,
                )
            except IterationsExhausted:
                return _result(turn, model, messages, "max_iterations")
            except OutputTokenLimitExceeded:
                return _result(turn, model, messages, "max_tokens")
            except ContentFilterError:
                return _result(turn, model, messages, "refusal")
            except AgentRunError as exc:
                raise ModelFailed(f"the model's answer cannot be used: {exc}") from exc
        ended = _result(turn, model, result.all_messages(), _STOP_REASONS.get(turn.finish_reason or "", "end_turn"))
        if shape is None:
            return ended
        return msgspec.structs.replace(ended, output=result.output, text=turn.last_text)


def _result(turn: Turn, model: RecordedModel, messages: Sequence[ModelMessage], stop_reason: str) -> Result:
    """`messages` are all that the agent knows, those of earlier turns included."""
    detail = detail_of(kept_with(model.compaction, messages, turn.context.run_id))
    return Result(output=turn.text, text=turn.text, stop_reason=stop_reason, usage=dict(turn.usage), detail=detail)


def _instructions(recalled: str | None, shape: Shape | None) -> str | None:
    parts = [recalled, None if shape is None else shape.instructions]
    return "\n\n".join(part for part in parts if part) or None


def _settings(model: Model[Any], max_tokens: int | None) -> ModelSettings:
    settings = ModelSettings()
    if max_tokens is not None:
        settings["max_tokens"] = max_tokens
    # The providers' own libraries repeat requests in silence; ours are counted and told.
    if "max_retries" not in model.unsupported_settings:
        settings["max_retries"] = 0
    if counts_bytes(model):
        settings["timeout"] = SILENCE_SECONDS  # between two pieces of a stream
    return settings
