"""
Where the outputs of a step go.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.data import field_of
from holdfast.agents.skill.failures import InvalidConfigurationError
from holdfast.agents.skill.references import PRODUCED
from holdfast.agents.skill.references import parse_field as _parse_field

parse_field = lru_cache(4096)(_parse_field)

Json = Any
Made = dict[str, Json]


def write_outputs(step: StepAtWork, made: Made) -> None:
    """
    Write what a step made to its targets. A while step wrote after each of its turns.

    Raises:
        InvalidConfigurationError: another step wrote there already, or the values cannot be merged.
    """
    if step.step.while_ is None:
        write(step, made)


def write_again(step: StepAtWork, made: Made) -> None:
    """The same for a step that is on record."""
    if step.step.while_ is None:
        write(step, made)
        return
    count = 1
    while (turn := step.work.note(step.unit.part(f"turn:{count}"))) is not None:
        write(step, turn)
        count += 1


def write(step: StepAtWork, made: Made) -> None:
    data = step.level.data
    for name, target in step.step.output.items():
        source = parse_field(name)
        value = _field(step, made, name) if source.namespace == PRODUCED else data.read(source)
        try:
            data.write(target, value, step.step.merge_strategy, step.step.id)
        except InvalidConfigurationError as error:
            raise InvalidConfigurationError(f"Step '{step.shown}': {error.message}.") from None


def _field(step: StepAtWork, made: Made, path: str) -> Json:
    if step.step.foreach is None:
        return field_of(made, path)
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        values = made.get(".".join(parts[:end]))
        if isinstance(values, list):
            rest = ".".join(parts[end:])
            return [field_of(value, rest) if rest else value for value in values]
    return None
