"""
What a catalog declares, and what of it a run keeps. No I/O.

A run of an agent is given a `Definition` at its start: the agent with its prompt, the agents that it may delegate to, and
the tools and skills that all these name. So nothing that happens to the files afterwards reaches a run that has begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec

from holdfast.agents.mcp.servers import McpServer
from holdfast.agents.prompt_skill import SKILL, PromptSkill
from holdfast.agents.tools.policy import NO_POLICY, Policy


class AgentEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent. `tools` are names, or patterns with `*`; without a model it has that of the server."""

    name: str
    description: str
    model: str | None = None
    tools: tuple[str, ...]
    system_prompt: str
    is_default: bool = False
    sub_agents: tuple[str, ...] = ()

    def may_use(self, tool: str) -> bool:
        """Whether its tools include one of this name."""
        return is_named(tool, self.tools)


class Implementation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a declared tool does: as a built-in tool, as a prompt skill, or as an action `<server>.<action>`."""

    kind: Literal["platform", "skill", "mcp"]
    ref: str


class ToolEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tool under a name, description and schema of the catalog's own."""

    name: str
    description: str
    input_schema: dict[str, Any]
    implementation: Implementation
    requires_permission: bool = False
    high_cost: bool = False


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All of a catalog, checked. `soul` is the one that a tenant has which never changed it."""

    agents: Mapping[str, AgentEntry] = {}
    skills: Mapping[str, PromptSkill] = {}
    tools: Mapping[str, ToolEntry] = {}
    policy: Policy = NO_POLICY
    servers: Mapping[str, McpServer] = {}
    soul: Mapping[str, Any] | None = None

    @property
    def default(self) -> str | None:
        """The agent that answers where none is named."""
        return next((agent.name for agent in self.agents.values() if agent.is_default), None)


EMPTY: Final = Catalog()


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent with all that it reaches in the catalog."""

    agent: str
    agents: Mapping[str, AgentEntry]
    tools: Mapping[str, ToolEntry] = {}
    skills: Mapping[str, PromptSkill] = {}

    def encode(self) -> bytes:
        """Equal definitions are equal bytes."""
        return _encode(self)

    def of(self, agent: str) -> Definition:
        """The part that one of its agents reaches."""
        return definition_of(agent, self.agents, self.tools, self.skills)


_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decoder: Final = msgspec.json.Decoder(Definition)


def decode_definition(data: bytes) -> Definition:
    """The definition in the bytes that `encode` gave."""
    return _decoder.decode(data)


def definition_of(
    agent: str,
    agents: Mapping[str, AgentEntry],
    tools: Mapping[str, ToolEntry],
    skills: Mapping[str, PromptSkill],
) -> Definition:
    """What an agent reaches of these."""
    reached = {name: agents[name] for name in sorted(_reached(agent, agents))}
    wanted = [pattern for entry in reached.values() for pattern in entry.tools]
    own = {name: tool for name, tool in sorted(tools.items()) if is_named(name, wanted)}
    used = {tool.implementation.ref for tool in own.values() if tool.implementation.kind == "skill"}
    kept = {name: skill for name, skill in sorted(skills.items()) if name in used or is_named(f"{SKILL}{name}", wanted)}
    return Definition(agent=agent, agents=reached, tools=own, skills=kept)


def _reached(agent: str, agents: Mapping[str, AgentEntry]) -> set[str]:
    found, left = {agent}, [agent]
    while left:
        new = [name for name in agents[left.pop()].sub_agents if name not in found]
        found.update(new)
        left += new
    return found


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of these names or patterns is, or fits, the name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
