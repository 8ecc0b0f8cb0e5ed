"""
`delegate`: another agent does a part of the work, in the same turn. What it says is told as its own; what it comes to is
the result of the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from holdfast.agents.tools import Call, Tool, ToolError

NAME: Final = "delegate"
DEPTH_MAX: Final = 3
DELEGATE_SECONDS: Final = 3600.0


class DelegateInput(msgspec.Struct, forbid_unknown_fields=True):
    agent: Annotated[str, msgspec.Meta(description="The agent that is to do it.", min_length=1)]
    task: Annotated[
        str,
        msgspec.Meta(description="What it is to do, with all that it has to know.", min_length=1, max_length=100_000),
    ]


def delegate_tool(agents: Mapping[str, str], run: Callable[[Call, str, str], Awaitable[Any]]) -> Tool[Any]:
    """The tool for these agents (name → description); `run` carries out a call, with an agent's name and a task."""
    known = "\n".join(f"- {name}: {description}" for name, description in agents.items())

    async def function(call: Call, wanted: DelegateInput) -> Any:
        if wanted.agent not in agents:
            raise ToolError("unknown_agent", f"there is no agent {wanted.agent!r}; there are {', '.join(agents)}")
        return await run(call, wanted.agent, wanted.task)

    return Tool(
        name=NAME,
        description=f"Has another agent do a part of the work, and gives back its answer. The agents:\n{known}",
        input=DelegateInput,
        function=function,
        timeout_seconds=DELEGATE_SECONDS,
        uses_model=True,
    )
