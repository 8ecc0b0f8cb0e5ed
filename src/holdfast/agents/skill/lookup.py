"""
How skills and capabilities are looked up: what others ask of the library, and what it refuses.
"""

from __future__ import annotations

from typing import Protocol

from holdfast.agents.skill.model import Capability, Definition, Problem, Skill
from holdfast.errors import ConflictError, NotFound


class SkillNotFound(NotFound):
    """No file declares a skill or capability of that id."""

    code = "skill_not_found"


class SkillInvalid(ConflictError):
    """The files of the skill or capability have errors (`problems`), so it cannot run. Correct them."""

    code = "skill_invalid"

    def __init__(self, message: str, problems: list[Problem] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class Lookup(Protocol):
    """The skills and capabilities as the files on disk have them now."""

    def skill(self, id: str) -> Skill | None:
        """The skill, if it can be executed."""
        ...

    def skills(self) -> list[Skill]:
        """All that can be executed, by id."""
        ...

    def capability(self, id: str) -> Capability | None: ...

    def capabilities(self) -> list[Capability]: ...

    def problems(self, skill_id: str | None = None) -> list[Problem]:
        """What is wrong with files: with all of them, or with those of one skill."""
        ...

    def definition(self, target: str) -> Definition:
        """
        All that a run of `skill:<id>` or `capability:<id>` needs.

        Raises:
            SkillNotFound, SkillInvalid
        """
        ...
