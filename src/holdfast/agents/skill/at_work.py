"""
A step at work, as the parts of its work see it: gates, questions, control blocks, calls, bindings. `steps.py` keeps this.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from holdfast.agents.skill.data import Data
from holdfast.agents.skill.model import Capability, Skill, Step
from holdfast.agents.skill.undertaking import Undertaking
from holdfast.agents.skill.units import Unit
from holdfast.model import Step as Row

Json = Any


class LevelAtWork(Protocol):
    """The skill that a step belongs to, while it is executed. `level.py` keeps this."""

    @property
    def work(self) -> Undertaking: ...

    @property
    def skill(self) -> Skill: ...

    @property
    def data(self) -> Data: ...

    @property
    def key_prefix(self) -> str: ...

    @property
    def shown_prefix(self) -> str: ...

    @property
    def owner(self) -> StepAtWork | None:
        """The step that this skill is, unless it is the outermost."""
        ...

    @property
    def is_cut_off(self) -> bool:
        """Whether steps that are stopped now end for good; else the run is let go, and they will go on later."""
        ...

    def evaluate(self, expression: str) -> Json:
        """What an expression of the skill gives with the data of this moment."""
        ...

    def inside(self, owner: StepAtWork, skill: Skill, inputs: Mapping[str, Json], key_prefix: str) -> LevelAtWork:
        """The level of a skill that is a step of this one."""
        ...

    async def run(self) -> dict[str, Json]:
        """Run what is not on record yet; the outputs of the skill."""
        ...


class StepAtWork(Protocol):
    """A step of one execution of a skill."""

    @property
    def level(self) -> LevelAtWork: ...

    @property
    def step(self) -> Step: ...

    @property
    def work(self) -> Undertaking: ...

    @property
    def key(self) -> str:
        """Of its record."""
        ...

    @property
    def shown(self) -> str:
        """Its name in events."""
        ...

    @property
    def unit(self) -> Unit:
        """Its only call, where it makes one."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """Further fields of its step_completed."""
        ...

    @property
    def is_shown_again(self) -> bool:
        """A crash made void what was shown of it."""
        ...

    async def call(self, unit: Unit, capability: Capability, inputs: dict[str, Json]) -> dict[str, Json]:
        """One call with its gates, tried as often as the step says; its output."""
        ...

    async def perform(self, unit: Unit, capability: Capability, inputs: dict[str, Json]) -> dict[str, Json]:
        """One attempt at a call; its output."""
        ...

    def count(self, size: int) -> None:
        """Take note of so many bytes that one of several calls made; too many raise."""
        ...

    def idle(self) -> AbstractContextManager[None]:
        """While parts of it execute, which count for themselves (`working`)."""
        ...

    def working(self) -> AbstractContextManager[None]: ...

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """While it waits for the outside: others may take its place, and the run may be let go."""
        ...

    def asked_rows(self) -> tuple[Row, ...]:
        """What is written beside a question."""
        ...

    def note_asked(self) -> None:
        """The same, where the question is written by others."""
        ...
