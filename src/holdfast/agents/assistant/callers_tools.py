"""
The tools that the caller of a turn executes: which of the registered ones the model is told of.

They are recorded with the turn, which keeps the definitions with which it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from holdfast.execution.client_tools import ClientTool
from holdfast.execution.context import Context

KEY: Final = "client_tools"


async def client_tools_of(context: Context, patterns: Sequence[str]) -> Mapping[str, ClientTool]:
    """
    By bare name, as the model knows them; `patterns` such as `crm.*` are of full names. A registered tool hides one of the
    assistant's own of its name, for whoever registered it means it; the first of two with one name is taken: registering
    refuses such a pair.
    """
    if not patterns:
        return {}
    if context.recorded(KEY) is None:
        registered = await context.execution.client_tools()
        allowed = [tool for name, tool in registered.items() if any(fnmatchcase(name, item) for item in patterns)]
        if not allowed:
            return {}
    else:
        allowed = []

    async def found() -> Any:
        return msgspec.to_builtins(allowed)

    recorded = await context.step(KEY, found, key=KEY, visible=False)
    tools: dict[str, ClientTool] = {}
    for tool in msgspec.convert(recorded, list[ClientTool]):
        tools.setdefault(tool.name, tool)
    return tools
