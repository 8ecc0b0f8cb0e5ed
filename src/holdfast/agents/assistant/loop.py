"""
The assistant's loop: a pydantic-ai agent whose model requests and tool calls are steps.

The loop itself keeps no state outside of the record. Executed again it goes the same way: the same messages lead to
the same recorded responses, these to the same recorded tool results, and so on to where the record ends.

This module loads the model library, which takes more than a second: import it off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
from holdfast.agents.assistant.delegating import DEPTH_MAX, delegate_tool
from holdfast.agents.assistant.delegating import NAME as DELEGATE
from holdfast.agents.assistant.history import detail_of, model_messages, refused_block, user_content
from holdfast.agents.assistant.kit import ALL, Kit, Skills
from holdfast.agents.assistant.limits import STANDARD, Limits
from holdfast.agents.assistant.planning import INSTRUCTIONS as PLAN
from holdfast.agents.assistant.planning import notes_of, steps_of
from holdfast.agents.assistant.prompting import Prompter
from holdfast.agents.assistant.providers import SILENCE_SECONDS, counts_bytes
from holdfast.agents.assistant.recalling import recall
from holdfast.agents.assistant.requests import IterationsExhausted, RecordedModel
from holdfast.agents.assistant.skill_tools import skill_tools_of
from holdfast.agents.assistant.structured import Shape
from holdfast.agents.assistant.turn import Turn
from holdfast.agents.mcp import Mcp, remote_tools_of
from holdfast.agents.models.failures import ModelFailed
from holdfast.agents.tools import Call, Tool, Tools
from holdfast.agents.tools.gate import Gate
from holdfast.execution.context import Context
from holdfast.execution.given import DIRECT, OUTPUT_SCHEMA, THINKING
from holdfast.execution.program import Result
from holdfast.memory import Memory

_STOP_REASONS: Final = {"length": "max_tokens", "content_filter": "refusal"}

# How often an answer without any content goes back to the model.
EMPTY_ANSWERS_MAX = 3

NO_AGENTS: Final[Mapping[str, str]] = {}


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
        planner: Model[Any] | None = None,
        sub_agents: Mapping[str, str] = NO_AGENTS,
        loop_of: Callable[[str], Loop] | None = None,
        skills: Skills | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """
        Args:
            planner: lists the steps before a turn, unless its caller wants none.
            sub_agents: whom the tool `delegate` may name, with what they are for.
            loop_of: the loop of one of these; it may take a moment to make, so it is called in a thread.
        """
        self._model = model
        self._fallback = fallback
        self._tools = tools
        self._client_tools = client_tools
        self._memory = memory
        self._mcp = mcp
        self._gate = gate or Gate()
        self._kit = kit
        self._planner = planner
        self._sub_agents = sub_agents
        self._loop_of = loop_of
        self._skills = skills
        self._toolset = RecordedTools(tools)
        self._settings = _settings(model, max_tokens)
        self._limits = limits
        models = [model] if fallback is None else [model, fallback]
        self.prompter = Prompter(models, self._settings, sleep=sleep)
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
        turn = Turn(context, self._tools, client_tools, await self._found_tools(context), self._limits, self._gate)
        turn.remote_tools |= await skill_tools_of(turn, self._kit, self._skills, self.prompter)
        self._add_delegate(turn)
        history = model_messages(await context.history())
        recalled = await recall(context, self._memory, text)
        plan = await self._plan(turn, text)
        wanted = context.given(OUTPUT_SCHEMA)
        return await self._respond(
            turn,
            user_content(text, media),
            history=history,
            notes=_joined(recalled.notes, plan),
            instructions=recalled.instructions,
            shape=None if wanted is None else Shape(wanted),
        )

    async def answer_part(self, above: Turn, task: str) -> tuple[Result, dict[str, int]]:
        """
        Do a part of the work of another agent's turn, which knows nothing of the conversation: the result, and its cost.

        Raises:
            ModelFailed: the provider did not answer.
        """
        found = await self._found_tools(above.context)
        turn = Turn(above.context, self._tools, {}, found, self._limits, self._gate, above.depth + 1)
        turn.remote_tools |= await skill_tools_of(turn, self._kit, self._skills, self.prompter)
        self._add_delegate(turn)
        result = await self._respond(turn, task)
        return result, dict(turn.usage)

    async def _respond(
        self,
        turn: Turn,
        content: Any,
        *,
        history: Sequence[ModelMessage] = (),
        notes: str | None = None,
        instructions: str | None = None,
        shape: Shape | None = None,
    ) -> Result:
        context = turn.context
        model = RecordedModel(self._model, turn, fallback=self._fallback, notes=notes, shape=shape, sleep=self._sleep)
        with capture_run_messages() as messages:
            try:
                result: AgentRunResult[Any] = await self._agent.run(
                    content,
                    deps=turn,
                    message_history=list(history) or None,
                    output_type=str if shape is None else TextOutput(shape.read),
                    model=model,
                    instructions=_joined(instructions, None if shape is None else shape.instructions),
                    model_settings=_settings_of(turn, self._settings),
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

    async def _found_tools(self, context: Context) -> dict[str, Tool[Any]]:
        """Those that are found with the turn, by the names that the model knows."""
        remote_tools = await remote_tools_of(context, self._mcp)
        return {name: tool for name, tool in remote_tools.items() if self._kit.may_use(tool.name)}

    def _add_delegate(self, turn: Turn) -> None:
        if not self._sub_agents or turn.depth >= DEPTH_MAX:
            return

        async def run(call: Call, agent: str, task: str) -> Any:
            assert self._loop_of is not None
            loop = await asyncio.to_thread(self._loop_of, agent)
            with turn.context.speaking_as(agent, call.tool_call_id):
                result, usage = await loop.answer_part(turn, task)
            return {"output": result.text or "", "usage": usage}

        turn.remote_tools[DELEGATE] = delegate_tool(self._sub_agents, run)

    async def _plan(self, turn: Turn, text: str) -> str | None:
        """The planner's steps, for the model that works; None where there are none."""
        planner, context = self._planner, turn.context
        if planner is None or not text or context.given(DIRECT):
            return None
        prompter = Prompter([planner], self._settings, sleep=self._sleep)
        try:
            made = await prompter.ask(context, text, key="plan", instructions=PLAN)
        except ModelFailed:
            return None  # without a plan the work is done all the same
        turn.add_usage(made.usage)
        steps = steps_of(made.output)
        await context.emit("plan", {"steps": steps})
        return notes_of(steps)


def _result(turn: Turn, model: RecordedModel, messages: Sequence[ModelMessage], stop_reason: str) -> Result:
    """`messages` are all that the agent knows, those of earlier turns included."""
    detail = detail_of(kept_with(model.compaction, messages, turn.context.run_id))
    return Result(output=turn.text, text=turn.text, stop_reason=stop_reason, usage=dict(turn.usage), detail=detail)


def _joined(*parts: str | None) -> str | None:
    return "\n\n".join(part for part in parts if part) or None


def _settings_of(turn: Turn, settings: ModelSettings) -> ModelSettings:
    """The settings of a turn's requests: where its caller asked for it, the model thinks at length."""
    if turn.depth or not turn.context.given(THINKING):
        return settings
    return ModelSettings(**settings, thinking="high")


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
