"""From a definition to the tools that its agent has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.agents.assistant.kit import Kit, SkillTool
from holdfast.agents.catalog.model import Definition, ToolEntry
from holdfast.agents.prompt_skill import PromptSkill
from holdfast.agents.tools import Call, Ground, Reason, Tool, ToolError, Tools
from holdfast.agents.tools.described import DescribedTool, RedeclaredTool
from holdfast.errors import AssetNotFound, McpConnectionFailed, McpTokenExpired, NotConfigured

if TYPE_CHECKING:
    from holdfast.agents.mcp import Mcp


def tools_for(definition: Definition, platform: Tools, mcp: Callable[[], Mcp | None]) -> Tools:
    """The built-in tools that an agent names, and those of the catalog; the latter win where both have a name."""
    agent = definition.agents[definition.agent]
    declared = {name: tool for name, tool in definition.tools.items() if agent.may_use(name)}
    found = [tool for tool in platform.all() if agent.may_use(tool.name) and tool.name not in declared]
    for entry in declared.values():
        made = declared_tool(entry, platform, mcp)
        if made is not None:
            found.append(made)
    return Tools(*found)


def kit_for(definition: Definition) -> Kit:
    """What it has beside these."""
    agent = definition.agents[definition.agent]
    declared = [
        skill_tool(entry, definition.skills)
        for name, entry in definition.tools.items()
        if entry.implementation.kind == "skill" and agent.may_use(name)
    ]
    return Kit(names=agent.tools, skills=definition.skills, skill_tools=declared)


def skill_tool(entry: ToolEntry, skills: Mapping[str, PromptSkill]) -> SkillTool:
    """What a declaration makes of a prompt skill."""
    return SkillTool(
        name=entry.name,
        description=entry.description,
        schema=entry.input_schema,
        skill=skills[entry.implementation.ref],
        requires_permission=entry.requires_permission,
        high_cost=entry.high_cost,
    )


def declared_tool(entry: ToolEntry, platform: Tools, mcp: Callable[[], Mcp | None]) -> Tool[Any] | None:
    """What a declaration makes of a built-in tool or of an action; None for a prompt skill, which takes a turn."""
    wanted = entry.implementation
    if wanted.kind == "mcp":
        return _action(entry, mcp)
    inner = platform.get(wanted.ref) if wanted.kind == "platform" else None
    if inner is None:
        return None
    same = {name: getattr(inner, name) for name in Tool.__struct_fields__}
    own = {
        "name": entry.name,
        "description": entry.description,
        "requires_permission": entry.requires_permission or inner.requires_permission,
        "high_cost": entry.high_cost or inner.high_cost,
    }
    return RedeclaredTool(**{**same, **own}, schema=entry.input_schema, inner=inner)


def _action(entry: ToolEntry, mcp: Callable[[], Mcp | None]) -> Tool[Any]:
    server, _, action = entry.implementation.ref.partition(".")

    async def call(call: Call, arguments: Any) -> Any:
        connections = mcp()
        if connections is None:
            raise ToolError(NotConfigured.code, "this server has no MCP connections")
        try:
            return await connections.call_server(call.context.tenant, server, action, arguments)
        except (AssetNotFound, McpConnectionFailed, McpTokenExpired, NotConfigured) as exc:
            raise ToolError(exc.code, exc.message) from None

    def guard(_: Any, __: Ground) -> Reason | None:
        connections = mcp()
        return None if connections is None else connections.egress_reason(server)

    return DescribedTool(
        name=entry.name,
        description=entry.description,
        input=dict,
        function=call,
        guard=guard,
        requires_permission=entry.requires_permission,
        high_cost=entry.high_cost,
        at_most_once=True,  # nothing is known of what it does
        schema=entry.input_schema,
    )
