"""
How often a step makes its call: once, for each item of a list (foreach), or again and again (while).
"""

from __future__ import annotations

from typing import Any

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.choosing import Chosen
from holdfast.agents.skill.failures import SkillError
from holdfast.agents.skill.model import Capability, Foreach, While
from holdfast.agents.skill.outputs import write
from holdfast.agents.skill.parts import record, together, unit_of
from holdfast.agents.skill.scattering import scattered
from holdfast.agents.skill.step_contract import checked_inputs

Json = Any
Made = dict[str, Json]


async def carry_out(step: StepAtWork, chosen: Chosen) -> Made:
    """Make the calls of a step, but for those that are on record, and return what they made together."""
    declared = step.step
    if declared.foreach is not None:
        return await _each(step, declared.foreach, chosen.capabilities[0], chosen.items or [])
    if declared.while_ is not None:
        return await _again(step, declared.while_, chosen.capabilities[0], chosen.inputs)
    if declared.scatter is not None:
        return await scattered(step, declared.scatter, chosen)
    return await step.call(step.unit, chosen.capabilities[0], chosen.inputs)


async def _each(step: StepAtWork, foreach: Foreach, capability: Capability, items: list[Json]) -> Made:
    outputs: list[Made | None] = [step.work.note(step.unit.part(f"item:{place}")) for place in range(len(items))]
    left = iter([place for place, made in enumerate(outputs) if made is None])
    done = sum(made is not None for made in outputs)

    async def one(place: int) -> None:
        nonlocal done
        names = {foreach.name: items[place]} | ({} if foreach.index_as is None else {foreach.index_as: place})
        unit = unit_of(step, f"item:{place}", place)
        try:
            inputs = checked_inputs(step, capability, step.level.data.resolve(step.step.input, names))
            made = await step.call(unit, capability, inputs)
        except SkillError as error:
            error.details["item"] = place
            raise
        outputs[place] = made
        done += 1
        record(step, unit, capability, made, (done / len(items), f"{done} of {len(items)}"))

    async def worker() -> None:
        for place in left:
            await one(place)

    await together(step, [worker] * min(foreach.parallel, len(items) - done))
    step.facts["foreach_count"] = len(items)
    names = dict.fromkeys([*capability.outputs, *(name for made in outputs for name in made or ())])
    return {name: [(made or {}).get(name) for made in outputs] for name in names}


async def _again(step: StepAtWork, loop: While, capability: Capability, inputs: Made) -> Made:
    count = 0
    while True:
        count += 1
        unit = unit_of(step, f"turn:{count}", count)
        made: Made | None = step.work.note(unit.key)
        if made is None:
            if count > 1:
                inputs = checked_inputs(step, capability, step.level.data.resolve(step.step.input))
            made = await step.call(unit, capability, inputs)
            record(step, unit, capability, made, (count / loop.max_iterations, f"turn {count}"))
        write(step, made)
        step.level.data.tell(step.step.id, "running", step.unit.attempt, made)
        goes_on = bool(step.level.evaluate(loop.condition))
        if not goes_on or count == loop.max_iterations:
            step.facts.update({"while_iterations": count, "while_exhausted": goes_on})
            return made
