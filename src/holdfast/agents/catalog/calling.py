"""
Calls of tools and prompt skills without a conversation: what `/rpc` does, as a run of its own.

Nobody is asked: a call about which a person would be asked is refused before the tool runs. A call that a crash cuts off
is not made again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents.assistant.kit import SkillTool
from holdfast.agents.catalog.equipping import declared_tool, skill_tool
from holdfast.agents.mcp.remote import remote_tool
from holdfast.agents.prompt_skill import SKILL, PromptSkill
from holdfast.agents.tools import Call, Tool, ToolError, Tools
from holdfast.agents.tools.described import DescribedTool, check_arguments
from holdfast.agents.tools.policy import Allowed, Ask, Denied, decide
from holdfast.errors import Forbidden, InvalidInput, InvalidRequest, MethodNotFound, PermissionDenied
from holdfast.execution.program import AgentSpec
from holdfast.model.lifecycle import Restart

if TYPE_CHECKING:
    from holdfast.agents.assistant.program import AssistantProgram
    from holdfast.agents.catalog.catalogs import Catalogs
    from holdfast.agents.catalog.prompts import PromptSkills
    from holdfast.agents.tools.gate import Gate
    from holdfast.execution.context import Context

NAME: Final = "assistant.rpc"
TOOL: Final = "tool."
CALL_ID: Final = "rpc"


class CallingProgram:
    """Its input is `{"method", "params"}`, its output `{"output"}`, or `{"error", "message"}` where the tool failed."""

    name = NAME
    framework = "assistant"
    restart = Restart.NEVER
    is_sync = False
    is_internal = True
    spec = AgentSpec(description="Calls a tool or a prompt skill, for /rpc.")

    def __init__(
        self, assistant: AssistantProgram, catalogs: Catalogs | None, skills: PromptSkills, gate: Gate
    ) -> None:
        self._assistant = assistant
        self._catalogs = catalogs
        self._skills = skills
        self._gate = gate

    async def check(self, tenant: str, method: str, params: dict[str, Any]) -> None:
        """
        Refuse what can be refused before there is a run.

        Raises:
            MethodNotFound, PromptSkillNotFound, InvalidRequest
            Forbidden: a person would be asked, or the policy denies it (`rule`).
        """
        tool = await self._find(tenant, method)
        try:
            read = tool.read(params)
            if tool.uses_files:
                return  # it is decided in the run, which knows where they are
            decision = await asyncio.to_thread(decide, tool, read, self._gate.policy)
        except ToolError as exc:
            raise InvalidRequest(f"params: {exc.message}", field="params") from None
        if not isinstance(decision, Allowed):
            raise Forbidden(_refusal(tool, decision), rule=decision.rule)

    async def execute(self, context: Context, input: Any) -> dict[str, Any]:
        """
        Call it once.

        Raises:
            PermissionDenied: a person would be asked, or the policy denies it; nothing was done.
            InvalidInput: the input is no call.
        """
        # What is imported below needs the model library, whole.
        await asyncio.to_thread(self._assistant.preload)
        from holdfast.agents.assistant.calls import call_once
        from holdfast.agents.assistant.turn import Turn

        if not isinstance(input, dict) or not isinstance(input.get("method"), str):
            raise InvalidInput("method: a text is expected", errors=[])
        params = input.get("params")
        arguments: dict[str, Any] = params if isinstance(params, dict) else {}
        tool = await self._find(context.tenant, input["method"])
        ground = await Turn(context, Tools(), gate=self._gate).ground(tool)
        try:
            read = tool.read(arguments)
            decision = await asyncio.to_thread(decide, tool, read, self._gate.policy, ground=ground)
        except ToolError as exc:
            return {"error": exc.code, "message": exc.message}
        if not isinstance(decision, Allowed):
            raise PermissionDenied(_refusal(tool, decision), rule=decision.rule)
        call = Call(context, CALL_ID, CALL_ID, ground=ground, passed=decision.reason)
        await context.event("tool_call", tool=tool.name, tool_call_id=CALL_ID, input=arguments)
        outcome = await call_once(tool, call, read, self._gate.secrets)
        if outcome.error is not None:
            return {"error": outcome.error, "message": outcome.message}
        return {"output": outcome.output}

    async def _find(self, tenant: str, method: str) -> Tool[Any]:
        """
        Raises:
            MethodNotFound, PromptSkillNotFound
        """
        if method.startswith(SKILL):
            return self._skill(await self._skills.get(tenant, method.removeprefix(SKILL)))
        found = await self._tool(tenant, method.removeprefix(TOOL)) if method.startswith(TOOL) else None
        if found is None:
            raise MethodNotFound(f"there is no method {method[:200]!r}")
        if found.asks:
            raise MethodNotFound(f"{found.name} asks a person, which takes a conversation")
        return found

    async def _tool(self, tenant: str, name: str) -> Tool[Any] | None:
        """The catalog's tools come first, then the built-in ones, then the actions of connected MCP servers."""
        assistant = self._assistant
        entry = None if self._catalogs is None else self._catalogs.current.tools.get(name)
        if entry is not None and self._catalogs is not None:
            if entry.implementation.kind == "skill":
                return self._declared(skill_tool(entry, self._catalogs.current.skills))
            return declared_tool(entry, assistant.tools, lambda: assistant.mcp)
        own = assistant.tools.get(name)
        if own is not None or assistant.mcp is None or "." not in name:
            return own
        remote = next((one for one in await assistant.mcp.tools(tenant) if one.name == name), None)
        return None if remote is None else remote_tool(assistant.mcp, remote)

    def _skill(self, skill: PromptSkill) -> Tool[Any]:
        async def use(call: Call, params: dict[str, Any]) -> Any:
            from holdfast.agents.assistant.skill_tools import prompted

            loop = await asyncio.to_thread(self._assistant.preload)
            return msgspec.to_builtins(await prompted(loop.prompter, call, skill.filled(params)))

        return DescribedTool(
            name=f"{SKILL}{skill.name}",
            description=skill.description,
            input=dict,
            function=use,
            schema=skill.parameters,
        )

    def _declared(self, declared: SkillTool) -> Tool[Any]:
        inner = self._skill(declared.skill)

        async def use(call: Call, params: dict[str, Any]) -> Any:
            check_arguments(declared.skill.parameters, params)
            return await inner.function(call, params)

        return DescribedTool(
            name=declared.name,
            description=declared.description,
            input=dict,
            function=use,
            requires_permission=declared.requires_permission,
            high_cost=declared.high_cost,
            schema=declared.schema,
        )


def _refusal(tool: Tool[Any], decision: Ask | Denied) -> str:
    if isinstance(decision, Denied):
        return f"the policy does not allow {tool.name} ({decision.rule})"
    return f"{tool.name} may not run like this without a person's permission ({decision.rule})"
