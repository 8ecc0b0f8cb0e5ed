"""
Agents of pydantic-ai as they are: their model requests and tool calls become steps, as those of the assistant are.

The agent object is not changed; for the time of a run its model and its toolsets are overridden by ones that record.
Executed again, the same messages lead to the same recorded responses, these to the same recorded tool results.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_ai import ModelRetry
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import AgentRunError, ToolFailed
from pydantic_ai.models import infer_model
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, WrapperToolset
from pydantic_ai.toolsets.abstract import ToolsetTool

from holdfast.agents.assistant.history import detail_of, model_messages, refused_block, user_content
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.program import message_of
from holdfast.agents.assistant.requests import RecordedModel
from holdfast.agents.assistant.turn import Turn
from holdfast.agents.models.failures import ModelFailed
from holdfast.agents.tools import Tools
from holdfast.errors import ToolDenied
from holdfast.execution.codec import encode_result
from holdfast.execution.context import Context
from holdfast.execution.program import EMPTY_SPEC, AgentSpec, Result
from holdfast.model.lifecycle import Restart

FRAMEWORK: Final = "pydantic-ai"
# Such an agent has limits of its own.
UNLIMITED: Final = Limits(iterations_max=sys.maxsize, compaction=False)


class PydanticAgentProgram:
    """
    Answers the message in the input, with what was said in the thread before. The output is the agent's.

    Its own limits hold (`UsageLimits`, retries). It gets no dependencies. A tool that the agent defers (approval,
    external) is the agent's own business: its output type has to take it.
    """

    framework = FRAMEWORK
    restart = Restart.ALWAYS
    is_sync = False

    def __init__(
        self, agent: AbstractAgent[Any, Any], name: str, *, spec: AgentSpec = EMPTY_SPEC, restart: str | None = None
    ) -> None:
        self.agent = agent
        self.name = name
        self.spec = spec
        self.description = spec.description
        if restart is not None:
            self.restart = Restart(restart)

    async def refused_media(self, blocks: Sequence[Any]) -> tuple[int, str] | None:
        """Which of these blocks its model cannot take, the first one and what it is; None: it takes all."""
        return None if self.agent.model is None else refused_block(blocks, infer_model(self.agent.model))

    async def execute(self, context: Context, input: Any) -> Result:
        """
        Answer; model messages of the turn are kept for the next one.

        Raises:
            ModelFailed: the provider did not answer, or its answer cannot be used.
        """
        agent, turn = self.agent, Turn(context, _AnyTools(), limits=UNLIMITED)
        if agent.model is None:
            raise ModelFailed(f"the agent {self.name!r} has no model")
        model = RecordedModel(infer_model(agent.model), turn)
        toolsets = [RecordedToolset(toolset, turn) for toolset in agent.toolsets]
        text, media = message_of(input)
        history = model_messages(await context.history())
        try:
            with agent.override(model=model, toolsets=toolsets, tools=[]):
                result = await agent.run(
                    user_content(text, media),
                    message_history=history or None,
                    run_id=context.run_id,
                    conversation_id=context.thread_id or context.run_id,
                    infer_name=False,
                )
        except AgentRunError as exc:
            raise ModelFailed(f"the model's answer cannot be used: {exc}") from exc
        return Result(
            output=result.output,
            usage=dict(turn.usage),
            text=result.output if isinstance(result.output, str) else None,
            detail=detail_of(result.new_messages()),
        )


class _Named(NamedTuple):
    name: str


class _AnyTools(Tools):
    """The agent knows its own tools; none is unknown here."""

    def get(self, name: str) -> Any:
        return _Named(name)


@dataclass
class RecordedToolset(WrapperToolset[Any]):
    """A toolset whose calls are steps of one turn."""

    turn: Turn

    def __init__(self, wrapped: AbstractToolset[Any], turn: Turn) -> None:
        self.wrapped = wrapped
        self.turn = turn

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """What the tool gave, now or at an earlier execution; it is made JSON and back, so it is the same."""
        context, call_id = self.turn.context, ctx.tool_call_id or name
        key = f"tool:{self.turn.call_key(call_id)}"

        async def work() -> dict[str, Any]:
            outcome: dict[str, Any]
            if not context.is_tool_allowed(name):
                outcome = {"error": ToolDenied.code, "message": f"the policy does not allow {name}"}
            else:
                try:
                    value = await self.wrapped.call_tool(name, tool_args, ctx, tool)
                    encode_result(value, what=f"the result of {name}")
                    outcome = {"output": value}
                except ModelRetry as exc:
                    outcome = {"error": "retry", "message": exc.message}
                except ToolFailed as exc:
                    outcome = {"error": "tool_failed", "message": str(exc)}
            await context.event("tool_result", tool=name, tool_call_id=call_id, **outcome)
            return outcome

        outcome = await context.step(name, work, key=key, visible=False)
        if outcome.get("error") == "retry":
            raise ModelRetry(outcome["message"])
        if "error" in outcome:
            raise ToolFailed(f"{outcome['error']}: {outcome['message']}")
        return outcome["output"]
