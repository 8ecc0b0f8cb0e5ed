"""What an agent of the catalog has beside the assistant's own: which tools it may use, its prompt skills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import msgspec

from holdfast.agents.prompt_skill import PromptSkill


class SkillTool(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt skill as a declared tool."""

    name: str
    description: str
    schema: dict[str, Any]
    skill: PromptSkill
    requires_permission: bool = False
    high_cost: bool = False


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """
    It follows from the agent's definition alone. `names` are those of tools that are found with each turn, say of MCP
    servers; they may be patterns. Without `skills` of its own, those of the catalog are found with the turn too.
    """

    names: Sequence[str] = ("*",)
    skills: Mapping[str, PromptSkill] | None = None
    skill_tools: Sequence[SkillTool] = ()

    def may_use(self, tool: str) -> bool:
        """Whether a tool that was found may be used under this name."""
        return any(fnmatchcase(tool, name) for name in self.names)


ALL: Final = Kit()


class Skills(Protocol):
    """The prompt skills of tenants."""

    async def usable(self, tenant: str, *, custom_only: bool) -> Sequence[PromptSkill]:
        """Those that a turn may use, by name."""
        ...

    async def get(self, tenant: str, name: str) -> PromptSkill:
        """
        Raises:
            PromptSkillNotFound
        """
        ...
