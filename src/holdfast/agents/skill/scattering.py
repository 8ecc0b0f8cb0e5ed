"""
Several capabilities with one input. Some may fail; all of them may not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.choosing import Chosen
from holdfast.agents.skill.failures import SkillError, error_from, failure_from
from holdfast.agents.skill.gates import Degraded
from holdfast.agents.skill.model import Capability, Scatter
from holdfast.agents.skill.parts import Work, cut_off, part, progress_of, record, together, unit_of
from holdfast.agents.skill.step_contract import checked_inputs
from holdfast.agents.skill.units import Unit
from holdfast.execution.codec import decode_result

Json = Any
Made = dict[str, Json]


async def scattered(step: StepAtWork, scatter: Scatter, chosen: Chosen) -> Made:
    made: dict[str, Made] = {}
    failed: dict[str, SkillError | Degraded] = {}
    left = [one for one in chosen.capabilities if not _is_on_record(step, one, made, failed)]
    won = asyncio.Event()

    async def member(capability: Capability) -> None:
        unit = unit_of(step, f"member:{capability.id}", capability.id)
        await _member(step, unit, capability, chosen.inputs, made, failed, len(chosen.capabilities))
        if made:
            won.set()

    works = [partial(member, one) for one in left]
    if scatter.merge != "first_success":
        await together(step, works)
    elif not made:
        await _race(step, won, works)
    if not made:
        # The same at every execution: a degradation before a failure, and the first of the file.
        ordered = [failed[one.id] for one in chosen.capabilities]
        raise next((error for error in ordered if isinstance(error, Degraded)), ordered[0])
    step.facts.update({"scatter_succeeded": len(made), "scatter_failed": len(failed)})
    return _merged(scatter, [(one.id, made[one.id]) for one in chosen.capabilities if one.id in made])


def _is_on_record(
    step: StepAtWork, capability: Capability, made: dict[str, Made], failed: dict[str, SkillError | Degraded]
) -> bool:
    row = step.work.recorded(step.unit.part(f"member:{capability.id}"))
    if row is None:
        return False
    if row.error is not None:
        failed[capability.id] = error_from(row.error)
    else:
        made[capability.id] = decode_result(row.output or b"null")
    return True


async def _member(
    step: StepAtWork,
    unit: Unit,
    capability: Capability,
    given: Made,
    made: dict[str, Made],
    failed: dict[str, SkillError | Degraded],
    count: int,
) -> None:
    """One member that is not on record; a failure of it is not yet one of the step."""
    try:
        found = await step.call(unit, capability, checked_inputs(step, capability, given))
    except Degraded as verdict:  # on record by itself
        failed[capability.id] = verdict
        step.work.write(progress_of(step, *_over(made, failed, count)), mark=step.key)
        return
    except SkillError as error:
        failed[capability.id] = error
        now = step.work.now()
        row = step.work.row(
            unit.key,
            step.shown,
            "failed",
            started_at=unit.began_at or now,
            completed_at=now,
            attempt=unit.attempt,
            error=failure_from(error),
        )
        step.work.write(progress_of(step, *_over(made, failed, count)), mark=step.key, rows=(row,))
        return
    made[capability.id] = found
    record(step, unit, capability, found, _over(made, failed, count))


def _over(made: Mapping[str, Any], failed: Mapping[str, Any], count: int) -> tuple[float, str]:
    over = len(made) + len(failed)
    return over / count, f"{over} of {count}"


async def _race(step: StepAtWork, won: asyncio.Event, works: Sequence[Work]) -> None:
    """Carry all out at once until one has won, which cuts the others off."""
    with step.idle():
        tasks = [asyncio.create_task(part(step, work)) for work in works]
        try:
            pending = set(tasks)
            while pending and not won.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            await cut_off(tasks)


def _merged(scatter: Scatter, outputs: Sequence[tuple[str, Made]]) -> Made:
    if scatter.merge == "collect":
        return dict(outputs)
    if scatter.merge == "first_success":
        return outputs[0][1]
    lists: Made = {}
    for _, made in outputs:
        for name, value in made.items():
            held = lists.setdefault(name, [])
            if value is not None:
                held.extend(value if isinstance(value, list) else [value])
    return lists
