"""
What skills and capabilities reach, and what is wrong with that: the checks for which several files are needed. No I/O.

A skill or capability that reaches something broken is broken itself, at the place where it names it: whatever can be started
can be executed to its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from holdfast.agents.skill.model import Capability, Definition, Field, Gate, Json, Problem, Skill, Step
from holdfast.agents.skill.reading import Report, nearest
from holdfast.agents.skill.references import split
from holdfast.agents.skill.yaml_text import Document, Path

DEPTH_MAX: Final = 10


class File(msgspec.Struct):
    """One file as it was read; the skill or capability of a file with errors may be incomplete."""

    name: str
    document: Document | None
    is_skill: bool
    id: str | None  # of a file that is no YAML the one that it seems to have
    problems: tuple[Problem, ...]
    skill: Skill | None = None
    capability: Capability | None = None
    is_unbound: bool = False

    @property
    def is_broken(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


class Linked(msgspec.Struct):
    """What can be executed, and what was found on the way."""

    skills: dict[str, Skill]
    capabilities: dict[str, Capability]
    problems: dict[str, list[Problem]]  # by file


def link(skills: Mapping[str, File], capabilities: Mapping[str, File]) -> Linked:
    """All files together, those of one id already sorted out."""
    linker = _Linker(skills, capabilities)
    for name in capabilities:
        linker.check_capability(name)
    for name in skills:
        linker.check_skill(name)
    linker.check_nesting()
    return linker.linked()


def define(target: str, linked: Linked) -> Definition:
    """The definition of `skill:<id>` or `capability:<id>`, which must be among what is linked."""
    skills: dict[str, Skill] = {}
    capabilities: dict[str, Capability] = {}
    pending = [target]
    while pending:
        kind, _, name = pending.pop().partition(":")
        if kind == "skill" and name not in skills:
            skill = skills[name] = linked.skills[name]
            pending += [f"skill:{step.skill}" for step in skill.steps if step.skill is not None]
            pending += [f"capability:{used}" for step in skill.steps for used in _reached(step)]
        elif kind == "capability" and name not in capabilities:
            capability = capabilities[name] = linked.capabilities[name]
            pending += [f"capability:{gate.capability}" for _, gate in _mandatory(capability)]
    return Definition(target=target, skills=skills, capabilities=capabilities)


def _reached(step: Step) -> Iterator[str]:
    """The capabilities that a step names."""
    if step.skill is None:
        yield step.uses
    yield from _chosen(step)
    for gate in (*step.pre_gates, *step.post_gates):
        yield gate.capability


def _chosen(step: Step) -> Iterator[str]:
    if step.router is not None:
        yield from step.router.cases.values()
        if step.router.default is not None:
            yield step.router.default
    if step.scatter is not None:
        yield from step.scatter.capabilities


def _mandatory(capability: Capability) -> Iterator[tuple[Path, Gate]]:
    for key in ("mandatory_pre_gates", "mandatory_post_gates"):
        for index, gate in enumerate(getattr(capability.safety, key)):
            yield ("safety", key, index), gate


class _Linker:
    def __init__(self, skills: Mapping[str, File], capabilities: Mapping[str, File]) -> None:
        self._skills = skills
        self._capabilities = capabilities
        self._reports: dict[str, Report] = {}
        self._bound: dict[str, Skill] = {}
        self._broken: set[str] = {f"skill:{name}" for name, file in skills.items() if file.is_broken}
        self._broken |= {f"capability:{name}" for name, file in capabilities.items() if file.is_broken}

    def linked(self) -> Linked:
        return Linked(
            {name: self._bound[name] for name in sorted(self._bound) if f"skill:{name}" not in self._broken},
            {
                name: file.capability
                for name, file in sorted(self._capabilities.items())
                if file.capability is not None and f"capability:{name}" not in self._broken
            },
            {name: report.problems for name, report in self._reports.items() if report.problems},
        )

    def _report(self, file: File, skill_id: str | None) -> Report:
        if file.name not in self._reports:
            self._reports[file.name] = Report(file.name, file.document)
            self._reports[file.name].skill_id = skill_id
        return self._reports[file.name]

    # Capabilities

    def check_capability(self, name: str) -> None:
        """Its gates: whether they exist, and whether one of them asks itself."""
        file = self._capabilities[name]
        if file.capability is None:
            return
        for path, gate in _mandatory(file.capability):
            seen = file.capability.inputs if path[1] == "mandatory_pre_gates" else file.capability.outputs
            self._check_gate(self._report(file, None), path, gate, seen)
            if self._asks(gate.capability, name):
                message = f"the gate {gate.capability!r} asks {name!r} itself, without end"
                self._report(file, None).error("cycle", path, message)
        if self._report(file, None).has_errors:
            self._broken.add(f"capability:{name}")

    def _asks(self, start: str, wanted: str) -> bool:
        seen: set[str] = set()
        pending = [start]
        while pending:
            name = pending.pop()
            if name == wanted:
                return True
            file = self._capabilities.get(name)
            if name not in seen and file is not None and file.capability is not None:
                seen.add(name)
                pending += [gate.capability for _, gate in _mandatory(file.capability)]
        return False

    def _check_gate(self, report: Report, path: Path, gate: Gate, seen: Collection[str] | None) -> None:
        """
        Whether a gate is given what it needs: one that is not would look at nothing, and find nothing wrong with it.

        Args:
            seen: the names of the values that it looks at, where its `input` does not say; None: they are not known.
        """
        capability = self._find(report, (*path, "capability"), gate.capability)
        if capability is None:
            return
        given = seen if gate.input is None else gate.input
        for name, field in capability.inputs.items():
            if given is not None and _must_be_given(field) and name not in given:
                where = path if gate.input is None else (*path, "input")
                seen_here = (
                    f", and looks at {', '.join(given) or 'nothing'}: give it an `input`" if gate.input is None else ""
                )
                report.error("missing_input", where, f"the gate {capability.id} needs the input {name!r}{seen_here}")
        for name in gate.input or ():
            if name not in capability.inputs:
                message = f"the gate {capability.id} has no input {name!r}: it is dropped"
                report.warn("unknown_input_field", (*path, "input", name), message, on_key=True)

    def _find(self, report: Report, path: Path, name: str) -> Capability | None:
        """A capability that is named somewhere; what is wrong with that is told there."""
        file = self._capabilities.get(name)
        if file is not None and file.capability is not None:
            return file.capability
        if file is None:
            near = nearest(name, self._capabilities)
            hint = f"; the nearest is {near!r}" if near else ""
            report.error("unknown_capability", path, f"there is no capability {name!r}{hint}")
        elif file.is_unbound:
            report.error("unbound_capability", path, f"nothing fulfils the capability {name!r}: see {file.name}")
        else:
            report.error("unknown_capability", path, f"the capability {name!r} has errors: see {file.name}")
        return None

    # Skills

    def check_skill(self, name: str) -> None:
        file = self._skills[name]
        if file.skill is None:
            return
        report = self._report(file, name)
        # Of a step with errors only what it names is looked for: what it gives and takes may be what is wrong with it.
        unsound = {problem.step_id for problem in file.problems if problem.severity == "error"}
        steps = []
        for index, step in enumerate(file.skill.steps):
            report.step_id = step.id
            at = _index(file, step, index)
            if step.stream and any(map(file.skill.hides, step.output.values())):
                message = "stream excludes sensitive outputs: the text would be out"
                report.error("bad_control", ("steps", at, "config", "stream"), message)
            steps.append(self._check_step(report, at, step, is_sound=step.id not in unsound))
        report.step_id = None
        is_same = all(new is old for new, old in zip(steps, file.skill.steps, strict=True))
        self._bound[name] = file.skill if is_same else msgspec.structs.replace(file.skill, steps=tuple(steps))
        if report.has_errors:
            self._broken.add(f"skill:{name}")

    def _check_step(self, report: Report, index: int, step: Step, *, is_sound: bool) -> Step:
        path: Path = ("steps", index)
        self._check_gates(report, path, step, is_sound=is_sound)
        if step.skill is not None:
            return self._check_nested(report, path, step, is_sound=is_sound)
        if not step.uses:
            return step
        own = self._find(report, (*path, "uses"), step.uses)
        called = [(step.uses, own)]
        if step.router is not None or step.scatter is not None:
            called = [(name, self._find(report, place, name)) for place, name in _places(path, step)]
        if not is_sound:
            return step
        capabilities = [capability for _, capability in called if capability is not None]
        for capability in {one.id: one for one in capabilities}.values():
            self._check_call(report, path, step, capability)
        if len(capabilities) < len(called):
            return step  # an input may be that of the one that is missing
        _check_outputs(report, path, step, capabilities)
        return _without_unknown(report, path, step, [capability.inputs for capability in capabilities])

    def _check_gates(self, report: Report, path: Path, step: Step, *, is_sound: bool) -> None:
        for phase, gates in (("pre", step.pre_gates), ("post", step.post_gates)):
            for number, gate in enumerate(gates):
                place: Path = (*path, "config", "gates", phase, number)
                if is_sound:
                    self._check_gate(report, place, gate, self._seen_by_gates(step, phase))
                else:
                    self._find(report, (*place, "capability"), gate.capability)

    def _seen_by_gates(self, step: Step, phase: str) -> set[str] | None:
        """The names of the values that all calls of a step have; None where one of them is not known."""
        contracts: list[Skill | Capability | None] = []
        if step.skill is not None:
            contracts = [file.skill if (file := self._skills.get(step.skill)) else None]
        elif step.scatter is not None and phase == "post":
            return None  # what the members gave is put together in one way or another
        else:
            names = list(_chosen(step)) or [step.uses]
            contracts = [file.capability if (file := self._capabilities.get(name)) else None for name in names]
        found = [set(one.inputs if phase == "pre" else one.outputs) for one in contracts if one is not None]
        return set.intersection(*found) if found and len(found) == len(contracts) else None

    def _check_call(self, report: Report, path: Path, step: Step, capability: Capability) -> None:
        _check_given(report, path, step, capability.inputs, capability.id)
        is_once = capability.at_most_once if step.at_most_once is None else step.at_most_once
        if is_once and step.retry is not None and step.retry.max_attempts > 1:
            message = f"{capability.id} is called at most once, which excludes max_attempts above 1"
            report.error("bad_control", (*path, "config", "retry"), message)
        is_withheld = any(field.sensitive for field in capability.outputs.values())
        if step.stream and (capability.safety.mandatory_post_gates or is_withheld):
            what = "sensitive outputs" if is_withheld else "post gates"
            report.error(
                "bad_control", (*path, "config", "stream"), f"{capability.id} has {what}, which excludes stream"
            )

    def _check_nested(self, report: Report, path: Path, step: Step, *, is_sound: bool) -> Step:
        name = step.skill or ""
        file = self._skills.get(name)
        if file is None:
            near = nearest(name, self._skills)
            hint = f"; the nearest is {near!r}" if near else ""
            report.error("unknown_skill", (*path, "uses"), f"there is no skill {name!r}{hint}")
            return step
        if file.skill is None or file.is_broken:
            report.error("unknown_skill", (*path, "uses"), f"the skill {name!r} has errors: see {file.name}")
        if file.skill is None or not is_sound:
            return step
        _check_given(report, path, step, file.skill.inputs, step.uses)
        _warn_of_outputs(report, path, step, set(file.skill.outputs), step.uses)
        return _without_unknown(report, path, step, [file.skill.inputs])

    # Skills inside of skills

    def check_nesting(self) -> None:
        """Circles, depth, and what reaches something that only linking found to be broken."""
        depths: dict[str, int] = {}
        for name in self._bound:
            self._measure(name, depths)
        is_open = True
        while is_open:
            is_open = False
            for name, skill in self._bound.items():
                if f"skill:{name}" not in self._broken:
                    is_open |= self._check_reached(name, skill)

    def _measure(self, name: str, depths: dict[str, int]) -> None:
        """The depth of a skill and of all below it; 0 where there is a circle."""
        pending = [name]
        while pending:
            current = pending[-1]
            inside = [name for _, _, name in self._nested(current)]
            if current not in depths:
                depths[current] = 0  # while it is looked at; who meets it there has found a circle
                pending += [one for one in inside if one not in depths]
                continue
            pending.pop()
            if depths[current] == 0:
                self._close(current, depths)

    def _nested(self, name: str) -> Iterator[tuple[int, Step, str]]:
        for index, step in enumerate(self._bound[name].steps):
            inner = step.skill
            if inner is not None and inner in self._bound:
                yield index, step, inner

    def _close(self, name: str, depths: dict[str, int]) -> None:
        depth = 1
        for index, step, inner in self._nested(name):
            circle = self._circle(name, inner)
            if circle:
                message = f"the skills use each other without end: {' → '.join(circle)}"
                self._tell(name, index, step, "skill_cycle", message)
                continue
            depth = max(depth, depths.get(inner, 0) + 1)
            if depth > DEPTH_MAX:
                message = f"expected skills inside of each other at most {DEPTH_MAX} deep, found {depth}"
                self._tell(name, index, step, "depth_exceeded", message)
        depths[name] = depth

    def _circle(self, name: str, start: str) -> list[str]:
        """The way from a skill that is named in another back to that one, if there is one."""
        came: dict[str, str] = {start: name}
        pending = [start]
        while pending:
            current = pending.pop()
            if current == name:
                way = [name]
                while len(way) == 1 or way[-1] != name:
                    way.append(came[way[-1]])
                return way[::-1]
            for _, _, inner in self._nested(current):
                if inner not in came:
                    came[inner] = current
                    pending.append(inner)
        return []

    def _tell(self, name: str, index: int, step: Step, code: str, message: str) -> None:
        file = self._skills[name]
        report = self._report(file, name)
        report.step_id = step.id
        report.error(code, ("steps", _index(file, step, index), "uses"), message)
        report.step_id = None
        self._broken.add(f"skill:{name}")

    def _check_reached(self, name: str, skill: Skill) -> bool:
        for index, step in enumerate(skill.steps):
            if step.skill is not None and f"skill:{step.skill}" in self._broken:
                self._tell(name, index, step, "unknown_skill", f"the skill {step.skill!r} has errors")
                return True
            for used in _reached(step):
                if f"capability:{used}" in self._broken:
                    self._tell(name, index, step, "unknown_capability", f"the capability {used!r} has errors")
                    return True
        return False


def _index(file: File, step: Step, index: int) -> int:
    """Where a step stands in its file, in which others may have had no id."""
    steps = file.document.value.get("steps", []) if file.document else []
    here = steps[index] if index < len(steps) else None
    if isinstance(here, dict) and here.get("id") == step.id:
        return index
    return next((at for at, one in enumerate(steps) if isinstance(one, dict) and one.get("id") == step.id), index)


def _places(path: Path, step: Step) -> Iterator[tuple[Path, str]]:
    config: Path = (*path, "config")
    if step.router is not None:
        for value, name in step.router.cases.items():
            yield (*config, "router", "cases", value), name
        if step.router.default is not None:
            yield (*config, "router", "default"), step.router.default
    if step.scatter is not None:
        for index, name in enumerate(step.scatter.capabilities):
            yield (*config, "scatter", "capabilities", index), name


def _must_be_given(field: Field) -> bool:
    return field.required and field.default is None


def _check_given(report: Report, path: Path, step: Step, fields: Mapping[str, Field], who: str) -> None:
    for name, field in fields.items():
        if _must_be_given(field) and name not in step.input:
            report.error("missing_input", (*path, "input"), f"{who} needs the input {name!r}")


def _without_unknown(
    report: Report, path: Path, step: Step, fields: list[Mapping[str, Field]] | list[dict[str, Field]]
) -> Step:
    """The step without inputs that nothing which it calls declares."""
    known = {name for one in fields for name in one}
    unknown = [name for name in step.input if name not in known]
    for name in unknown:
        near = nearest(name, known)
        hint = f"; the nearest is {near!r}" if near else ""
        message = f"{step.uses} has no input {name!r}: it is dropped{hint}"
        report.warn("unknown_input_field", (*path, "input", name), message, on_key=True)
    if not unknown:
        return step
    given: dict[str, Json] = {name: value for name, value in step.input.items() if name in known}
    return msgspec.structs.replace(step, input=given)


def _check_outputs(report: Report, path: Path, step: Step, capabilities: list[Capability]) -> None:
    if step.scatter is not None and step.scatter.merge == "collect":
        _warn_of_outputs(report, path, step, set(step.scatter.capabilities), "the scatter")
    else:
        _warn_of_outputs(report, path, step, {name for one in capabilities for name in one.outputs}, step.uses)


def _warn_of_outputs(report: Report, path: Path, step: Step, known: set[str], who: str) -> None:
    for field in step.output:
        head, dot, _ = field.partition(".")
        if dot and head in ("vars", "inputs", "outputs"):
            continue
        if split(tuple(field.split(".")), known)[0] not in known:
            near = nearest(field, known)
            hint = f"; the nearest is {near!r}" if near else ""
            message = f"{who} has no output {field!r}: it reads null{hint}"
            report.warn("unknown_output_field", (*path, "output", field), message, on_key=True)
