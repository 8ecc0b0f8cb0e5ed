"""
The order of a skill's steps, and whether what each of them reads is written by then. No I/O.

Of any two steps that touch one place, one comes after the other by `depends_on`: so what a step reads never depends on which
of two was quicker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from graphlib import CycleError, TopologicalSorter

from holdfast.agents.skill.expressions import Lookup, parse
from holdfast.agents.skill.model import Gate, Skill, Step
from holdfast.agents.skill.reading import Report, nearest
from holdfast.agents.skill.references import (
    FLAT,
    FRAME,
    INPUTS,
    ITEM,
    NAMESPACES,
    PRODUCED,
    STEPS,
    BadReference,
    Reference,
    Target,
    names_of,
    parse_field,
    parse_reference,
    parse_target,
    texts_in,
)
from holdfast.agents.skill.yaml_text import Path, Place

Where = Callable[[], Place]
"""A place that is looked for only if something is told about it: that means reading the file once more."""


def check_graph(report: Report, skill: Skill) -> bool:
    """Whether all steps that are named exist, and none waits for itself."""
    ids = [step.id for step in skill.steps]
    known = set(ids)
    count = len(report.problems)
    for index, step in enumerate(skill.steps):
        report.step_id = step.id
        for name in step.depends_on:
            if name not in known:
                near = nearest(name, known - {step.id})
                hint = f"; the nearest is {near!r}" if near else ""
                report.error("unknown_step", _dependency(report, index, name), f"there is no step {name!r}{hint}")
    report.step_id = None
    if len(report.problems) == count:
        _check_cycle(report, skill)
    return len(report.problems) == count


def _dependency(report: Report, index: int, name: str) -> Path:
    """Where a step names one that it depends on."""
    value = report.document.value["steps"][index] if report.document else {}
    path: Path = ("steps", index, "depends_on")
    if "depends_on" not in value:
        path, value = ("steps", index, "config", "depends_on"), value.get("config", {})
    listed = value.get("depends_on", [])
    return (*path, listed.index(name)) if name in listed else ("steps", index)


def _check_cycle(report: Report, skill: Skill) -> None:
    try:
        TopologicalSorter({step.id: step.depends_on for step in skill.steps}).prepare()
    except CycleError as exc:
        circle: list[str] = exc.args[1][:0:-1]  # from who waits to what is waited for; the last one is the first again
    else:
        return
    index = {step.id: place for place, step in enumerate(skill.steps)}
    first = min(circle, key=index.__getitem__)
    start = circle.index(first)
    circle = [*circle[start:], *circle[:start], first]
    message = f"the steps wait for each other: {' → '.join(circle)}"
    report.step_id = first
    report.error("cycle", _dependency(report, index[first], circle[1]), message)
    report.step_id = None


def ancestors_of(steps: tuple[Step, ...]) -> dict[str, int]:
    """For each step the bits (by its index) of all steps that end before it begins; the graph has no cycle."""
    bit = {step.id: 1 << index for index, step in enumerate(steps)}
    waits = {step.id: step.depends_on for step in steps}
    found: dict[str, int] = {}
    for name in TopologicalSorter(waits).static_order():
        found[name] = 0
        for need in waits[name]:
            found[name] |= bit[need] | found[need]
    return found


def check_flow(report: Report, skill: Skill) -> None:
    """Tell about everything that is read and not written before, and about writers that are not in order."""
    flow = _Flow(report, skill)
    for index, step in enumerate(skill.steps):
        report.step_id = step.id
        flow.check_step(index, step)
    report.step_id = None
    flow.check_outputs()


class _Flow:
    def __init__(self, report: Report, skill: Skill) -> None:
        assert report.document is not None
        self._report = report
        self._document = report.document
        self._skill = skill
        self._names = names_of(skill)
        self._ancestors = ancestors_of(skill.steps)
        self._bits = {step.id: 1 << index for index, step in enumerate(skill.steps)}
        # By the place that is written, and by each place that this lies in or is.
        self._at: dict[Target, list[str]] = defaultdict(list)
        self._below: dict[Target, list[str]] = defaultdict(list)
        for step in skill.steps:
            for text in step.output.values():
                target = parse_target(text)
                self._at[target].append(step.id)
                for place in _way_to(target):
                    self._below[place].append(step.id)

    def _meeting(self, target: Target) -> list[str]:
        """The steps that write a place, or one inside of it, or one that it is inside of."""
        found = [name for place in _way_to(target) if place != target for name in self._at.get(place, ())]
        return list(dict.fromkeys([*found, *self._below.get(target, ())]))

    def check_step(self, index: int, step: Step) -> None:
        path: Path = ("steps", index)
        for below, text, may_be_own in _expressions(step):
            for lookup in parse(text).lookups():
                self._check_lookup(step, (*path, "config", *below), lookup, may_be_own)
        items = [step.foreach.name, step.foreach.index_as] if step.foreach else []
        names = [name for name in items if name is not None]
        for below, text in texts_in(step.input):
            self._check_text(step, (*path, "input", *below), text, names)
        is_copied = False
        for field, text in step.output.items():
            place: Path = (*path, "output", field)
            # Targets are written in their order, so that what an earlier one wrote can be copied.
            where = partial(self._document.key, place)
            self._check_read(step, parse_field(field), where, is_own_fine=is_copied)
            self._check_target(step, parse_target(text), place)
            is_copied = True
        for phase, gates in (("pre", step.pre_gates), ("post", step.post_gates)):
            for number, gate in enumerate(gates):
                check_gate_input(self._report, (*path, "config", "gates", phase, number, "input"), gate, phase)

    def _check_lookup(self, step: Step, path: Path, lookup: Lookup, is_own_fine: bool) -> None:
        where = partial(self._document.inside, path, lookup.column)
        self._check_read(step, lookup.reference, where, is_own_fine=is_own_fine)

    def _check_text(self, step: Step, path: Path, text: str, names: list[str]) -> None:
        try:
            reference = parse_reference(text, names)
        except BadReference as exc:
            self._report.error("bad_reference", path, f"{exc}; a text that is meant as it stands is {{$literal: …}}")
            return
        if reference is not None:
            self._check_read(step, reference, partial(self._document.at, path), is_own_fine=False)

    def _check_read(self, step: Step, reference: Reference, where: Where, *, is_own_fine: bool) -> None:
        if reference.namespace in (ITEM, PRODUCED, FRAME):
            return
        if reference.namespace == INPUTS:
            self._check_input(reference, where)
            return
        if reference.namespace == STEPS:
            writers = [reference.path[0]] if reference.path[0] in self._bits else []
            if not writers:
                near = nearest(reference.path[0], self._bits)
                self._report.at(where(), "unknown_step", f"{reference}: there is no such step; the nearest is {near!r}")
                return
        else:
            writers = self._writers_of(reference)
            if not writers:
                self._report.at(
                    where(), "unknown_variable", f"no step writes {reference}{self._near_target(reference)}"
                )
                return
        self._check_order(step, reference, writers, where, is_own_fine=is_own_fine)

    def _check_input(self, reference: Reference, where: Where) -> None:
        key = self._names.split(reference)[0]
        if key not in self._skill.inputs:
            near = nearest(key, self._skill.inputs)
            hint = f"; the nearest is {near!r}" if near else ""
            message = f"{reference}: the skill declares no input {key!r}{hint}; a text that is meant as it stands is {{$literal: …}}"
            self._report.at(where(), "bad_reference", message)

    def _near_target(self, reference: Reference) -> str:
        near = nearest(str(reference), (str(target) for target in self._names.targets))
        return f"; the nearest target is {near}" if near else ""

    def _writers_of(self, reference: Reference) -> list[str]:
        key = self._names.split(reference)[0]
        path = (key,) if reference.namespace in FLAT else reference.path
        return self._meeting(Target(reference.namespace, path))

    def _check_order(
        self, step: Step, reference: Reference, writers: list[str], where: Where, *, is_own_fine: bool
    ) -> None:
        before = [name for name in writers if self._is_before(name, step.id)]
        unordered = [name for name in writers if name != step.id and not self._is_ordered(name, step.id)]
        if unordered:
            message = (
                f"{reference} is written by step {unordered[0]!r}, which may run at the same time: add it to depends_on"
            )
            self._report.at(where(), "unordered_access", message)
        elif not before and not (is_own_fine and step.id in writers):
            whose = "by this step itself" if writers == [step.id] else f"only later, by step {writers[0]!r}"
            self._report.at(where(), "unordered_access", f"{reference} is written {whose}")

    def _check_target(self, step: Step, target: Target, path: Path) -> None:
        if target.namespace == "outputs" and target.path[0] not in self._skill.outputs:
            near = nearest(target.path[0], self._skill.outputs)
            hint = f"; the nearest is {near!r}" if near else ""
            message = f"the skill declares no output {target.path[0]!r}, so its caller does not get it{hint}"
            self._report.warn("unknown_output_field", path, message)
        for name in self._meeting(target):
            if name != step.id and not self._is_ordered(name, step.id):
                message = (
                    f"{target} is written by step {name!r} too, which may run at the same time: add one to depends_on"
                )
                self._report.error("unordered_access", path, message)
                return
        same = self._at[target].count(step.id)
        if same > 1 and step.merge_strategy == "overwrite":
            self._report.error("bad_target", path, f"{target} is written {same} times by this step")

    def check_outputs(self) -> None:
        for name, field in self._skill.outputs.items():
            if field.required and Target("outputs", (name,)) not in self._at:
                message = f"no step writes outputs.{name}, which is required"
                self._report.error("unknown_variable", ("outputs", name), message, on_key=True)

    def _is_before(self, one: str, other: str) -> bool:
        return bool(self._ancestors[other] & self._bits[one])

    def _is_ordered(self, one: str, other: str) -> bool:
        return self._is_before(one, other) or self._is_before(other, one)


def _way_to(target: Target) -> Iterator[Target]:
    """The places that a target lies in, outermost first, and itself."""
    for length in range(1, len(target.path) + 1):
        yield Target(target.namespace, target.path[:length])


def _expressions(step: Step) -> Iterator[tuple[Path, str, bool]]:
    """Each with its place in the config, and whether it may read what the step itself wrote."""
    if step.condition is not None:
        yield ("condition",), step.condition, False
    if step.foreach is not None:
        yield ("foreach", "items"), step.foreach.items, False
    if step.while_ is not None:
        yield ("while", "condition"), step.while_.condition, True
    if step.router is not None:
        yield ("router", "on"), step.router.on, False


def check_gate_input(report: Report, path: Path, gate: Gate, phase: str) -> None:
    """References of a gate read `input.x`, after the call `output.x` too, and nothing else."""
    for below, text in texts_in(gate.input):
        head, dot, rest = text.partition(".")
        if not dot or head not in ("input", *NAMESPACES):
            continue
        place = (*path, *below)
        if head not in ("input", "output"):
            message = (
                f"{text!r}: a gate reads input.x and output.x; a text that is meant as it stands is {{$literal: …}}"
            )
            report.error("bad_reference", place, message)
        elif not all(rest.split(".")):
            report.error("bad_reference", place, f"{text!r}: expected a name or an index after each dot")
        elif head == "output" and phase == "pre":
            report.error("bad_reference", place, f"{text!r}: before the call there is no output")
