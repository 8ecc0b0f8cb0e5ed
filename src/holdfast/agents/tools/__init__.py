"""What models may call, and the tools that come with the package."""

from typing import Final

from holdfast.agents.tools.arithmetic import sum_tool
from holdfast.agents.tools.asking import ASK_SECONDS, ask_human_tool
from holdfast.agents.tools.files import file_tools
from holdfast.agents.tools.now import current_time_tool
from holdfast.agents.tools.remembering import MEMORY_TOOLS, memory_tools
from holdfast.agents.tools.tool import Call, Cut, Ground, Reason, Tool, ToolError, Tools

SERVER_TOOLS: Final = ("bash", "web_fetch", "web_search")
"""What a server gives its assistants beside the built-in tools and those of the memory."""

__all__ = [
    "MEMORY_TOOLS",
    "SERVER_TOOLS",
    "Call",
    "Cut",
    "Ground",
    "Reason",
    "Tool",
    "ToolError",
    "Tools",
    "ask_human_tool",
    "builtin_tools",
    "current_time_tool",
    "file_tools",
    "memory_tools",
    "sum_tool",
]


def builtin_tools(hitl_expires_seconds: float = ASK_SECONDS) -> Tools:
    """The tools of the built-in assistant; a question of it is open for so long."""
    return Tools(current_time_tool(), sum_tool(), ask_human_tool(hitl_expires_seconds), *file_tools())
