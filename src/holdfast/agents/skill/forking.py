"""
What a fork of a skill's run takes over: the results of all steps that do not depend on the one it begins with.

Other than a fork in front of an event, it keeps what ran beside that step and ended after it. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from holdfast.agents.skill.model import Capability, Definition, Gate, Skill, Step
from holdfast.errors import ConflictError
from holdfast.model import Step as Row

_ENDS_WELL: Final = ("completed", "skipped", "degraded")


class ForkConflict(ConflictError):
    """A step (`step_id`) that a fork would keep has no result, or is another one now. No run was started."""

    code = "fork_conflict"


def kept_steps(step_id: str, before: Definition, after: Definition, rows: Sequence[Row]) -> list[str]:
    """
    The steps whose results a fork from this step keeps: all but it and what depends on it, in the order of the file.

    Args:
        before: what the old run went by; `after`: what the new one will.
        rows: what is on record of the old run.

    Raises:
        ForkConflict
    """
    skill = skill_of(after)
    again = with_descendants(skill, step_id)
    ended = {row.key for row in rows if row.status in _ENDS_WELL}
    kept = [step.id for step in skill.steps if step.id not in again]
    for name in kept:
        if name not in ended:
            raise ForkConflict(f"step {name!r} has no result that could be kept", step_id=name)
        if not is_same(name, before, after):
            raise ForkConflict(f"step {name!r} is not what it was in the old run", step_id=name)
    return kept


def taken_over(kept: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """What is on record of the kept steps and inside of them, as rows of a new run."""
    names = set(kept)
    return [
        msgspec.structs.replace(row, number=0, sequence=0, reused=True)
        for row in rows
        if row.is_recorded and row.key.partition("/")[0] in names
    ]


def with_descendants(skill: Skill, step_id: str) -> set[str]:
    """A step and all steps that depend on it, directly or through others."""
    found = {step_id}
    while more := {step.id for step in skill.steps if found & set(step.depends_on)} - found:
        found |= more
    return found


def is_same(step_id: str, before: Definition, after: Definition) -> bool:
    """Whether a step, and everything that it reaches, is the same in two definitions of a skill."""
    return _reached(step_id, before) == _reached(step_id, after)


def skill_of(definition: Definition) -> Skill:
    """The skill that a definition executes."""
    return definition.skills[definition.target.removeprefix("skill:")]


def _reached(step_id: str, definition: Definition) -> list[bytes] | None:
    step = next((step for step in skill_of(definition).steps if step.id == step_id), None)
    if step is None:
        return None
    return [msgspec.json.encode(item, order="deterministic") for item in _all_of(step, definition)]


def _all_of(step: Step, definition: Definition) -> Iterator[Step | Skill | Capability]:
    yield step
    if step.skill is not None:
        nested = definition.skills[step.skill]
        yield nested
        for inner in nested.steps:
            yield from _all_of(inner, definition)
        return
    gates = [*step.pre_gates, *step.post_gates]
    names = [step.uses]
    if step.router is not None:
        names += [*step.router.cases.values(), *([step.router.default] if step.router.default else [])]
    if step.scatter is not None:
        names += step.scatter.capabilities
    for name in dict.fromkeys(names):
        capability = definition.capabilities.get(name)
        if capability is not None:
            yield capability
            gates += [*capability.safety.mandatory_pre_gates, *capability.safety.mandatory_post_gates]
    yield from _gates(gates, definition)


def _gates(gates: list[Gate], definition: Definition) -> Iterator[Capability]:
    for name in dict.fromkeys(gate.capability for gate in gates):
        if name in definition.capabilities:
            yield definition.capabilities[name]
