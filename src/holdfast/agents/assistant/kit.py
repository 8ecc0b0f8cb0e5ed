"""What an agent of the catalog has beside the assistant's own: which tools it may use, its prompt skills."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """
    It follows from the agent's definition alone. `names` are those of tools that are found with each turn, say of MCP
    servers; they may be patterns.
    """

    names: Sequence[str] = ("*",)

    def may_use(self, tool: str) -> bool:
        """Whether a tool that was found may be used under this name."""
        return any(fnmatchcase(tool, name) for name in self.names)


ALL: Final = Kit()
