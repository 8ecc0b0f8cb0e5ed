"""
One skill while it is executed: which of its steps may start, what they share, and what comes of them all.

A step is ready when all steps that it depends on are over. Ready steps run together; where only one is ready and none
runs, it runs right here, for a task costs as much as a small step. A skill inside of a skill is a level of its own:
the same run, its own data.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.contract import input_problems, is_of, with_defaults
from holdfast.agents.skill.data import Data
from holdfast.agents.skill.expressions import parse
from holdfast.agents.skill.failures import (
    InvalidConfigurationError,
    InvalidInputError,
    StepCancelledError,
    error_from,
)
from holdfast.agents.skill.model import Skill, Step
from holdfast.agents.skill.references import Names
from holdfast.agents.skill.references import names_of as _names_of
from holdfast.agents.skill.steps import Outcome, StepRun
from holdfast.agents.skill.undertaking import Undertaking

Json = Any

_known_names: dict[int, tuple[Skill, Names]] = {}


def _names(skill: Skill) -> Names:
    """The names of a skill; those of the skills that were used last are kept."""
    known = _known_names.get(id(skill))
    if known is None:
        if len(_known_names) >= 1024:
            _known_names.clear()
        known = _known_names[id(skill)] = skill, _names_of(skill)
    return known[1]


class Level:
    """A skill, its data and its steps."""

    def __init__(
        self,
        work: Undertaking,
        skill: Skill,
        inputs: Mapping[str, Json],
        *,
        key_prefix: str = "",
        shown_prefix: str = "",
        owner: StepAtWork | None = None,
    ) -> None:
        self.work, self.skill, self.owner = work, skill, owner
        self.key_prefix, self.shown_prefix = key_prefix, shown_prefix
        self.data = Data(_names(skill), work.options.frame)
        self._given = inputs
        self._outcomes: dict[str, Outcome] = {}
        self._left = {step.id: len(set(step.depends_on)) for step in skill.steps}
        self._dependants: dict[str, list[Step]] = {step.id: [] for step in skill.steps}
        for step in skill.steps:
            for name in dict.fromkeys(step.depends_on):
                self._dependants[name].append(step)
        self._ready = deque(step for step in skill.steps if not step.depends_on)
        self._is_failing = False

    def inside(self, owner: StepAtWork, skill: Skill, inputs: Mapping[str, Json], key_prefix: str) -> Level:
        """The level of a skill that is a step of this one."""
        return Level(self.work, skill, inputs, key_prefix=key_prefix, shown_prefix=f"{owner.shown}/", owner=owner)

    @property
    def is_cut_off(self) -> bool:
        """Whether steps that are stopped now end for good; else the run is let go, and they will go on later."""
        if self._is_failing or self.work.execution.is_cancelled:
            return True
        return self.owner is not None and self.owner.level.is_cut_off

    def evaluate(self, expression: str) -> Json:
        """What an expression of the skill gives with the data of this moment."""
        return parse(expression).evaluate(self.data.read)

    async def run(self) -> dict[str, Json]:
        """
        Run what is not on record yet; the outputs of the skill.

        Raises:
            SkillError: its inputs do not fit, a step failed, or a required output is missing.
        """
        self._take_inputs()
        self._fail_as_recorded()
        tasks: dict[asyncio.Task[Outcome], Step] = {}
        try:
            while self._ready or tasks:
                if len(self._ready) == 1 and not tasks:
                    step = self._ready.popleft()
                    self._over(step, await self._run_step(step))
                    continue
                while self._ready:
                    step = self._ready.popleft()
                    tasks[asyncio.create_task(self._run_step(step))] = step
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                # Of failures that come together the first one counts, as it does where the run is executed again.
                ended = [(task.result(), tasks.pop(task)) for task in done]
                for outcome, step in sorted(ended, key=lambda item: item[0].at):
                    self._over(step, outcome)
        except BaseException as exc:
            self._is_failing = isinstance(exc, Exception)  # else stopped from outside
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return self._outputs()

    def _take_inputs(self) -> None:
        problems = input_problems(self.skill.inputs, self._given)
        if problems:
            name, message = problems[0]
            raise InvalidInputError(f"Input '{name}' of skill '{self.skill.id}': {message}.", field=name)
        self.data.take_inputs(with_defaults(self.skill.inputs, self._given))

    def _fail_as_recorded(self) -> None:
        """Where an earlier execution saw a failure that ends all, nothing more may start."""
        if not self.work.options.fail_fast:
            return
        rows = [self.work.record.step(self.key_prefix + step.id) for step in self.skill.steps]
        failed = [row for row in rows if row is not None and row.is_recorded and row.error is not None]
        # Those that it cut off ended with it; it was the first.
        failed.sort(
            key=lambda row: (row.error is not None and row.error.code == StepCancelledError.code, row.sequence or 0)
        )
        if failed and failed[0].error is not None:
            raise error_from(failed[0].error)

    async def _run_step(self, step: Step) -> Outcome:
        is_blocked = any(self._is_blocking(name) for name in step.depends_on)
        return await StepRun(self, step).run(is_blocked=is_blocked)

    def _is_blocking(self, step_id: str) -> bool:
        outcome = self._outcomes[step_id]
        return outcome.status == "failed" or outcome.is_blocked

    def _over(self, step: Step, outcome: Outcome) -> None:
        self._outcomes[step.id] = outcome
        if outcome.error is not None and self.work.options.fail_fast:
            raise outcome.error
        for dependant in self._dependants[step.id]:
            self._left[dependant.id] -= 1
            if not self._left[dependant.id]:
                self._ready.append(dependant)

    def _outputs(self) -> dict[str, Json]:
        outputs = {name: self.data.outputs.get(name) for name in self.skill.outputs}
        missing = [name for name, field in self.skill.outputs.items() if field.required and outputs[name] is None]
        failures = [(outcome.at, outcome.error) for outcome in self._outcomes.values() if outcome.error is not None]
        if missing and failures:
            raise min(failures, key=lambda failure: failure[0])[1]
        if missing:
            raise InvalidConfigurationError(f"Skill '{self.skill.id}': the required output '{missing[0]}' is null.")
        for name, value in outputs.items():
            if value is not None and not is_of(self.skill.outputs[name].type, value):
                raise InvalidConfigurationError(
                    f"Skill '{self.skill.id}': the output '{name}' is not of its type {self.skill.outputs[name].type}."
                )
        return outputs
