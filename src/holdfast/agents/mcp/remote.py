"""
The tools of MCP servers as tools of the assistant: `<server>.<action>`.

Which there are is recorded with the turn, which keeps the definitions with which it began. Providers take no dots in
names, so that the model knows a tool as `<server>__<action>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents.tools import Call, Tool, ToolError
from holdfast.agents.tools.described import DescribedTool, model_name
from holdfast.errors import McpConnectionFailed, McpTokenExpired

if TYPE_CHECKING:
    from holdfast.agents.mcp.connections import Mcp
    from holdfast.execution.context import Context

KEY: Final = "mcp_tools"


class RemoteTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool of a connected server. `may_repeat`: the server says that it only reads, or may be called twice."""

    ref_id: str
    server: str
    action: str
    description: str
    schema: dict[str, Any]
    may_repeat: bool = False

    @property
    def name(self) -> str:
        return f"{self.server}.{self.action}"

    @property
    def model_name(self) -> str:
        return model_name(f"{self.server}__{self.action}")


async def remote_tools_of(context: Context, mcp: Mcp | None) -> Mapping[str, Tool[Any]]:
    """By the names that the model knows. A server that cannot be reached has none in this turn."""
    if mcp is None:
        return {}
    if context.recorded(KEY) is None and not await context.execution.insist(lambda: mcp.is_used(context.tenant)):
        return {}

    async def found() -> Any:
        return msgspec.to_builtins(await mcp.tools(context.tenant))

    recorded = await context.step(KEY, found, key=KEY, side_effects=False, visible=False)
    tools: dict[str, Tool[Any]] = {}
    for remote in msgspec.convert(recorded, list[RemoteTool]):
        tools.setdefault(remote.model_name, remote_tool(mcp, remote))
    return tools


def remote_tool(mcp: Mcp, remote: RemoteTool) -> Tool[Any]:
    """An action as a tool."""

    async def call(call: Call, arguments: Any) -> Any:
        try:
            return await mcp.call(call.context.tenant, remote.ref_id, remote.action, arguments)
        except (McpConnectionFailed, McpTokenExpired) as exc:
            raise ToolError(exc.code, exc.message) from None

    return DescribedTool(
        name=remote.name,
        description=remote.description,
        input=dict,
        function=call,
        guard=lambda _, __: mcp.egress_reason(remote.server),
        at_most_once=not remote.may_repeat,
        schema=remote.schema,
    )
