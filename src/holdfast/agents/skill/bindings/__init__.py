"""
What fulfils a capability: one module for each kind of `bind`.

A binding makes one call within its time, and gives what came of it unchecked. It raises the errors of `failures`, and
knows nothing of records, attempts or gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.agents.skill.bindings.builtin import BuiltinBinding, Builtins
from holdfast.agents.skill.bindings.client import ClientBinding
from holdfast.agents.skill.bindings.http import HttpBinding
from holdfast.agents.skill.bindings.mcp import McpBinding
from holdfast.agents.skill.bindings.prompt import PromptBinding
from holdfast.agents.skill.bindings.python import PythonBinding
from holdfast.agents.skill.fetching import Fetcher
from holdfast.agents.skill.generating import Generator
from holdfast.agents.skill.model import Binding, Builtin, Client, Http, Mcp, Prompt, Python
from holdfast.agents.skill.undertaking import Bound

if TYPE_CHECKING:
    from holdfast.agents.mcp import Mcp as McpService


class Bindings:
    """What the bindings of a process need. `mcp` is set once the store is open."""

    def __init__(
        self,
        *,
        builtins: Builtins | None = None,
        fetcher: Fetcher | None = None,
        generator: Generator | None = None,
        mcp: McpService | None = None,
    ) -> None:
        self.builtins: Builtins = {} if builtins is None else builtins
        self.fetcher = fetcher or Fetcher()
        self.generator = generator or Generator()
        self.mcp = mcp

    def of(self, bind: Binding) -> Bound:
        """The binding that this part of a contract stands for."""
        if isinstance(bind, Python):
            return PythonBinding(bind)
        if isinstance(bind, Builtin):
            return BuiltinBinding(bind, self.builtins)
        if isinstance(bind, Http):
            return HttpBinding(bind, self.fetcher)
        if isinstance(bind, Mcp):
            return McpBinding(bind, self.mcp)
        if isinstance(bind, Prompt):
            return PromptBinding(bind, self.generator)
        assert isinstance(bind, Client)
        return ClientBinding(bind)

    async def close(self) -> None:
        """Let go of connections."""
        await self.fetcher.close()
