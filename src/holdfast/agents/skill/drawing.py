"""
The graph of a skill as a Mermaid flowchart: a node for each step, an arrow for each dependency. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.agents.skill.model import Skill, Step


def mermaid(skill: Skill) -> str:
    """
    The flowchart, which begins with its direction and ends with a line end.

    A skill inside is a box with double sides, a step with a condition hangs on dashed arrows, and what a person must approve
    is drawn as a rhombus on the way.
    """
    names = {step.id: f"s{index}" for index, step in enumerate(skill.steps)}
    lines = [f"%% {skill.id} {skill.version}", "flowchart TD"]
    for step in skill.steps:
        lines += _node(names[step.id], step)
    for step in skill.steps:
        entrance = f"{names[step.id]}_confirm" if step.confirm is not None else names[step.id]
        arrow = "-->" if step.condition is None else "-.->"
        lines += [f"    {names[name]} {arrow} {entrance}" for name in step.depends_on]
    return "\n".join(lines) + "\n"


def _node(name: str, step: Step) -> Iterator[str]:
    label = "<br/>".join(_escaped(line) for line in _label(step))
    left, right = ("[[", "]]") if step.skill is not None else ("[", "]")
    yield f'    {name}{left}"{label}"{right}'
    if step.confirm is not None:
        yield f'    {name}_confirm{{"{_escaped(step.confirm.question or f"Confirm {step.id}?")}"}}'
        yield f"    {name}_confirm -- approve --> {name}"


def _label(step: Step) -> Iterator[str]:
    yield step.id
    yield step.uses if step.router is None and step.scatter is None else _chosen(step)
    if step.condition is not None:
        yield f"if {step.condition}"
    if step.foreach is not None:
        yield f"for each {step.foreach.name} of {step.foreach.items}"
    if step.while_ is not None:
        yield f"while {step.while_.condition}"
    for phase, gates in (("before", step.pre_gates), ("after", step.post_gates)):
        if gates:
            yield f"gates {phase}: {', '.join(gate.capability for gate in gates)}"


def _chosen(step: Step) -> str:
    if step.router is not None:
        names = [*step.router.cases.values(), *([step.router.default] if step.router.default else [])]
        return f"one of {', '.join(dict.fromkeys(names))} by {step.router.on}"
    assert step.scatter is not None
    return f"all of {', '.join(step.scatter.capabilities)}"


def _escaped(text: str) -> str:
    """Inside of a quoted label; `#` begins the names of characters there."""
    for character, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " "), ("`", "#96;")):
        text = text.replace(character, name)
    return text
