"""
What a turn knows about itself while it executes. Everything here follows from the turn's input and its recorded
steps, so it is the same when the turn is executed again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

from holdfast.agents.assistant.limits import STANDARD, Limits
from holdfast.agents.tools import Tool, Tools
from holdfast.agents.tools.gate import Gate
from holdfast.agents.tools.tool import NOWHERE, Ground
from holdfast.errors import BudgetExceeded

if TYPE_CHECKING:
    from holdfast.execution.client_tools import ClientTool
    from holdfast.execution.context import Context

# Between the texts of two responses of one turn, so that they can be read as one.
PARAGRAPH = "\n\n"


class Turn:
    """The turn of a conversation that is being executed."""

    def __init__(
        self,
        context: Context,
        tools: Tools,
        client_tools: Mapping[str, ClientTool] | None = None,
        remote_tools: Mapping[str, Tool[Any]] | None = None,
        limits: Limits = STANDARD,
        gate: Gate | None = None,
        depth: int = 0,
    ) -> None:
        self.context = context
        self.depth = depth  # of a sub-agent: how many agents are above it
        self.tools = tools
        self.client_tools = client_tools or {}  # what the caller executes, by the names that the model knows
        self.remote_tools = dict(remote_tools or {})  # found with the turn, by the names that the model knows
        self.limits = limits
        self.gate = gate or Gate()
        self.slots = asyncio.Semaphore(limits.tools_at_once)
        self.requests = 0
        self.blocks = 0  # content blocks of the responses so far; the next one begins here
        self.usage = {"input_tokens": 0, "output_tokens": 0, "cache_hit_tokens": 0}
        self.finish_reason: str | None = None
        self.attached: dict[str, list[dict[str, Any]]] = {}  # by call: media for the model, beside its result
        self._texts: list[str] = []
        self._seen: Counter[str] = Counter()
        self._keys: dict[str, str] = {}
        self._ground: Ground | None = None

    @property
    def text(self) -> str:
        """All that was said in this turn: what a reader gets who joins its tokens."""
        return PARAGRAPH.join(self._texts)

    @property
    def last_text(self) -> str:
        """What was said in the last response that said anything."""
        return self._texts[-1] if self._texts else ""

    @property
    def separator(self) -> str:
        """What stands between the text so far and the next response's."""
        return PARAGRAPH if self._texts else ""

    def add(self, response: ModelResponse) -> None:
        """Take note of a response, from the provider or from the record."""
        self.requests += 1
        self.blocks += len(response.parts)
        self.finish_reason = response.finish_reason
        self.add_usage(usage_of(response))
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        if text:
            self._texts.append(text)
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                self._seen[part.tool_call_id] += 1
                count = self._seen[part.tool_call_id]
                self._keys[part.tool_call_id] = part.tool_call_id if count == 1 else f"{part.tool_call_id}#{count}"

    async def ground(self, tool: Tool[Any]) -> Ground:
        """Where this tool may read and write, if it does."""
        if not tool.uses_files:
            return NOWHERE
        if self._ground is None:
            run, gate = self.context.execution.run, self.gate
            self._ground = await self.context.execution.insist(lambda: gate.ground(run))
        return self._ground

    def add_usage(self, usage: Mapping[str, int]) -> None:
        """Count what a request cost."""
        for name, count in usage.items():
            self.usage[name] += count

    def check_budget(self) -> None:
        """
        Let a request pass.

        Raises:
            BudgetExceeded: the turn has used up its tokens.
        """
        used, most = self.usage["input_tokens"] + self.usage["output_tokens"], self.limits.tokens_max
        if most is not None and used >= most:
            raise BudgetExceeded(f"the turn has used {used:,} tokens, and may use {most:,}", used=used, limit=most)

    def tool(self, name: str) -> Tool[Any] | None:
        """One that this process executes, by the name that the model knows."""
        return self.tools.get(name) or self.remote_tools.get(name)

    def call_key(self, tool_call_id: str) -> str:
        """Names a call for ever. Some providers use the same ids in each response; ours may not be the same."""
        return self._keys.get(tool_call_id, tool_call_id)


def usage_of(response: ModelResponse) -> dict[str, int]:
    """The token counts of one request; those read from the provider's cache are part of the input."""
    usage = response.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_hit_tokens": usage.cache_read_tokens,
    }
