"""
The skills and capabilities of a library as agents of a server, under names that come and go with the files.

A run goes on with the definition that it began with. So an agent whose files are gone still executes its runs, but starts
none, and no list shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from holdfast.agents.skill.program import CAPABILITY, SKILL, SkillProgram, spec_of_inputs
from holdfast.errors import AgentNotFound

if TYPE_CHECKING:
    from holdfast.agents.skill.bindings import Bindings
    from holdfast.agents.skill.lookup import Lookup
    from holdfast.agents.skill.model import Capability, Definition, Skill
    from holdfast.execution.program import Program


class SkillAgents:
    """Finds agents by name; a `Finder` of the registry."""

    def __init__(self, library: Lookup, bindings: Bindings) -> None:
        self._library = library
        self._bindings = bindings
        self._made: dict[str, tuple[Skill | Capability, SkillProgram]] = {}
        self._former: dict[str, SkillProgram] = {}

    def knew(self, names: Iterable[str]) -> None:
        """Runs of these are not over: they are executed here, whatever became of their files."""
        for name in names:
            if name.startswith((SKILL, CAPABILITY)) and self.get(name) is None:
                self._former[name] = self._gone(name)

    def get(self, name: str) -> Program | None:
        declared = self._declared(name)
        if declared is None:
            if name in self._made:
                del self._made[name]
                self._former[name] = self._gone(name)
            return self._former.get(name)
        known = self._made.get(name)
        if known is None or known[0] is not declared:
            known = self._made[name] = declared, self._program(name, declared)
        return known[1]

    def names(self) -> list[str]:
        """Of all agents that can start runs or have some that are not over."""
        current = [f"{SKILL}{skill.id}" for skill in self._library.skills()]
        current += [f"{CAPABILITY}{capability.id}" for capability in self._library.capabilities()]
        return list(dict.fromkeys([*current, *self._made, *self._former]))

    def listed(self) -> list[str]:
        """Of the skills."""
        return [f"{SKILL}{skill.id}" for skill in self._library.skills()]

    def _declared(self, name: str) -> Skill | Capability | None:
        if name.startswith(SKILL):
            return self._library.skill(name.removeprefix(SKILL))
        if name.startswith(CAPABILITY):
            return self._library.capability(name.removeprefix(CAPABILITY))
        return None

    def _program(self, name: str, declared: Skill | Capability) -> SkillProgram:
        is_skill = name.startswith(SKILL)
        return SkillProgram(
            name,
            lambda: self._library.definition(name),
            self._bindings,
            description=declared.description,
            spec=spec_of_inputs(declared.version, declared.description, declared.inputs, is_strict=is_skill),
            is_internal=not is_skill,
        )

    def _gone(self, name: str) -> SkillProgram:
        def define() -> Definition:
            raise AgentNotFound(f"this server serves no agent {name!r} any more", agent=name)

        return SkillProgram(name, define, self._bindings, is_internal=True)
