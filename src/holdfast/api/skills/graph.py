"""The order of a skill's steps, as far as a fork needs it: what comes after a step, and what of it changed. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from holdfast.agents.skill.model import Capability, Definition, Gate, Skill, Step


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
