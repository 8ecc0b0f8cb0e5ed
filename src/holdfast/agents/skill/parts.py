"""
The calls of a step that makes several: their records, and carrying out many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.choosing import hidden
from holdfast.agents.skill.contract import withheld
from holdfast.agents.skill.model import Capability
from holdfast.agents.skill.units import Unit
from holdfast.execution.codec import encode_result

Json = Any
Made = dict[str, Json]


def unit_of(step: StepAtWork, place: str, item: int | str) -> Unit:
    key = step.unit.part(place)
    return Unit(key, place=place, item=item).read(step.work.record.step(key))


def record(step: StepAtWork, unit: Unit, capability: Capability, made: Made, progress: tuple[float, str]) -> None:
    """
    Record what a call made, and tell how far the step is.

    Raises:
        InvalidConfigurationError: all calls of the step together made too much. This one is on record.
    """
    data = encode_result(made, what=f"the output of step {step.key}")
    row = step.work.noted(unit.key, step.shown, data, began_at=unit.began_at, attempt=unit.attempt)
    notes = step.work.withheld(unit.key, step.shown, withheld(hidden(step, capability.outputs), made))
    step.work.write(progress_of(step, *progress), mark=step.key, rows=(row, *notes))
    step.count(len(data))


def progress_of(step: StepAtWork, share: float, message: str) -> tuple[str, dict[str, Any]]:
    return "progress", {"step": step.shown, "progress": share, "message": message}


Work = Callable[[], Coroutine[Any, Any, None]]


async def together(step: StepAtWork, works: Sequence[Work]) -> None:
    """Carry all out at once; the first failure cuts the others off and goes on."""
    if len(works) == 1:
        await works[0]()
    elif works:
        with step.idle():
            tasks = [asyncio.create_task(part(step, work)) for work in works]
            try:
                await asyncio.gather(*tasks)
            finally:
                await cut_off(tasks)


async def part(step: StepAtWork, work: Work) -> None:
    with step.working():
        await work()


async def cut_off(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
