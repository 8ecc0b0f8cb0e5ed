"""
A tool of an MCP server: its structured content, or its text as the one output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.agents.skill.calling import Call, within
from holdfast.agents.tools import ToolError
from holdfast.errors import AssetNotFound, McpError, NotConfigured

if TYPE_CHECKING:
    from holdfast.agents.mcp import Mcp
    from holdfast.agents.skill.model import Mcp as Bind


class McpBinding:
    """One call of a tool, with the connection of the run's tenant."""

    def __init__(self, bind: Bind, mcp: Mcp | None) -> None:
        self._bind = bind
        self._mcp = mcp

    async def call(self, call: Call) -> Any:
        if self._mcp is None:
            raise call.failed(f"no MCP server {self._bind.server} is known here.", is_final=True)
        arguments = {name: value for name, value in call.inputs.items() if value is not None}
        tenant = call.step.work.context.tenant
        work = self._mcp.call_server(tenant, self._bind.server, self._bind.tool, arguments)
        try:
            return await within(call, work)
        except (AssetNotFound, NotConfigured) as exc:
            raise call.failed(exc.message, is_final=True) from None
        except McpError as exc:
            raise call.failed(exc.message) from None
        except ToolError as exc:
            raise call.failed(str(exc)) from None
