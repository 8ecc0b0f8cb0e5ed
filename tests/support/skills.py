"""Skills and capabilities made in code, without files, and a kernel that runs them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.registry import Registry
from holdfast.agents.skill.agents import SkillAgents
from holdfast.agents.skill.bindings import Bindings
from holdfast.agents.skill.lookup import SkillInvalid, SkillNotFound
from holdfast.agents.skill.model import Builtin, Capability, Definition, Field, Options, Problem, Safety, Skill, Step
from holdfast.agents.skill.program import REQUEST
from holdfast.clock import SystemClock
from holdfast.execution.forking import Inherited
from holdfast.execution.given import given_step
from holdfast.model import Run, Status
from tests.support.kernel import CALLER, Kernel, kernel

_OF_BINDINGS = ("fetcher", "generator", "mcp")


def fields(text: str = "", *, required: bool = False) -> dict[str, Field]:
    """`"text:string n"` as declared inputs or outputs."""
    made = {}
    for word in text.split():
        name, _, kind = word.partition(":")
        made[name] = Field(type=kind or "any", required=required)
    return made


def capability(
    id: str, inputs: str = "", outputs: str = "out", *, safety: Safety | None = None, bind: Any = None, **facts: Any
) -> Capability:
    """A contract, fulfilled by the function of the same name unless `bind` says otherwise."""
    return Capability(
        id=id,
        version="1.0.0",
        description=id,
        inputs=fields(inputs),
        outputs=fields(outputs),
        bind=bind or Builtin(name=id),
        safety=safety or Safety(),
        **facts,
    )


def skill(id: str, *steps: dict[str, Any], inputs: str = "", outputs: str = "", required: bool = False) -> Skill:
    """A skill; steps are as in a file, but that `depends_on` is in them and the one before them is its default."""
    made: list[Step] = []
    for given in steps:
        before = (made[-1].id,) if made else ()
        made.append(msgspec.convert({"depends_on": before, **given}, Step))
    return Skill(
        id=id,
        version="1.0.0",
        name=id,
        description=id,
        inputs=fields(inputs),
        outputs=fields(outputs, required=required),
        steps=tuple(made),
    )


class Library:
    """Holds what it was given."""

    def __init__(self, skills: Iterable[Skill], capabilities: Iterable[Capability]) -> None:
        self.by_id = {skill.id: skill for skill in skills}
        self.contracts = {one.id: one for one in capabilities}
        self.wrong: list[Problem] = []
        self._made: dict[str, Definition] = {}

    def skill(self, id: str) -> Skill | None:
        return self.by_id.get(id)

    def skills(self) -> list[Skill]:
        return list(self.by_id.values())

    def capability(self, id: str) -> Capability | None:
        return self.contracts.get(id)

    def capabilities(self) -> list[Capability]:
        return list(self.contracts.values())

    def problems(self, skill_id: str | None = None) -> list[Problem]:
        return [problem for problem in self.wrong if skill_id in (None, problem.skill_id)]

    def definition(self, target: str) -> Definition:
        kind, _, name = target.partition(":")
        if problems := self.problems(name):
            raise SkillInvalid(f"{target} has errors", problems)
        if name not in (self.by_id if kind == "skill" else self.contracts):
            raise SkillNotFound(f"there is no {target}")
        if target not in self._made:
            self._made[target] = Definition(target=target, skills=self.by_id, capabilities=self.contracts)
        return self._made[target]


class Skilled:
    """A kernel with skills."""

    def __init__(self, kernel: Kernel, library: Library) -> None:
        self.kernel = kernel
        self.library = library

    async def start(self, agent: str, input: Any = None, **options: Any) -> Run:
        """Start a run of `skill:…` or `capability:…`."""
        steps = (given_step(REQUEST, Options(**options), SystemClock().now()),) if options else ()
        return await self.kernel.start(agent, input or {}, inherited=Inherited(steps))

    async def run(self, agent: str, input: Any = None, **options: Any) -> tuple[Run, list[dict[str, Any]]]:
        """The run once it is over, with its events."""
        run = await self.start(agent, input, **options)
        events = await self.kernel.events(run)
        return await self.kernel.runs.get(CALLER, run.run_id), events

    async def outputs(self, agent: str, input: Any = None, **options: Any) -> Any:
        """The outputs of a run that completes."""
        run, events = await self.run(agent, input, **options)
        assert run.status is Status.COMPLETED, events[-1]
        return events[-1]["output"]


@contextlib.asynccontextmanager
async def skilled(
    directory: Path,
    skills: Iterable[Skill] = (),
    capabilities: Iterable[Capability] = (),
    functions: dict[str, Callable[..., Any]] | None = None,
    **options: Any,
) -> AsyncIterator[Skilled]:
    """A running kernel that serves these skills and capabilities, in this process."""
    library = Library(skills, capabilities)
    programs = Registry()
    bindings = Bindings(
        builtins=functions or {}, **{name: options.pop(name) for name in _OF_BINDINGS if name in options}
    )
    programs.finders.append(SkillAgents(library, bindings))
    async with kernel(directory, programs=programs, **options) as running:
        yield Skilled(running, library)


def shown(events: Iterable[dict[str, Any]]) -> list[str]:
    """Events as short texts: `step_started a`."""
    texts = []
    for event in events:
        attempt = event.get("attempt", 1) if event["type"] == "step_started" else 1
        parts = [event["type"], event.get("step"), f"#{attempt}" if attempt > 1 else None]
        texts.append(" ".join(part for part in parts if part))
    return texts
