"""
Random graphs of steps, executed and interpreted naively: the same statuses and outputs, also where the process died
on the way.

The naive interpreter does one step after the other, in the order of the file, with plain dictionaries.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.agents.skill.model import Skill
from holdfast.errors import LeaseLost
from holdfast.model import Status
from holdfast.store.postgres import PostgresStore
from tests.support.kernel import CALLER, QUICK, replace
from tests.support.postgres import PostgresServer
from tests.support.skills import capability, skill, skilled

EXAMPLES = int(os.environ.get("HOLDFAST_TEST_EXAMPLES", "60"))
PARTS = [
    capability("mix", "value", "value"),
    capability("pure", "value", "value", side_effects=False),
    capability("boom", "value", "value"),
    capability("even", "value", "allowed", side_effects=False),
    capability("flaky", "value", "value"),
]
INNER = skill(
    "inner",
    {"id": "a", "uses": "mix", "input": {"value": "inputs.value"}, "output": {"value": "vars.a"}},
    {
        "id": "b",
        "uses": "pure",
        "input": {"value": ["vars.a", "inputs.value"]},
        "output": {"value": "outputs.value"},
    },
    inputs="value",
    outputs="value",
)
KINDS = ["mix", "boom", "foreach", "pure", "flaky", "nested", "scatter", "while"]


USES = {"foreach": "mix", "nested": "skill:inner", "scatter": "mix", "while": "mix"}


class Plan(msgspec.Struct, frozen=True):
    """One random step."""

    deps: frozenset[int]
    reads: tuple[int, ...]  # ancestors, by place among them
    kind: str  # one of KINDS
    gate: str | None  # what happens where the gate says no
    phase: str
    condition: tuple[str, int] | None  # which one, on which ancestor
    appends: bool


def mixed(value: Any) -> int:
    return zlib.crc32(msgspec.json.encode(value)) % 7


def boom(value: Any) -> None:
    raise RuntimeError(f"boom {value}")


def functions(called: Callable[[Any], None] = lambda _: None) -> dict[str, Callable[..., Any]]:
    def mix(value: Any) -> dict[str, Any]:
        called(value)
        return {"value": mixed(value)}

    failed: set[str] = set()

    def flaky(value: Any, context: Any) -> dict[str, Any]:
        key = context.idempotency_key
        if key not in failed:
            failed.add(key)
            raise RuntimeError("not now")
        return {"value": mixed(value)}

    return {
        "flaky": flaky,
        "mix": mix,
        "pure": lambda value: {"value": mixed(value)},
        "boom": boom,
        "even": lambda value: {"allowed": mixed([value, "gate"]) % 2 == 0},
    }


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    count = draw(st.integers(2, 9))
    return [
        Plan(
            deps=frozenset(draw(st.sets(st.integers(max(0, place - 3), place - 1), max_size=2)))
            if place
            else frozenset(),
            reads=tuple(draw(st.lists(st.integers(0, 7), max_size=3))),
            kind=draw(st.sampled_from(KINDS)),
            gate=draw(st.sampled_from([None, None, None, "degrade", "warn", "block"])),
            phase=draw(st.sampled_from(["pre", "post"])),
            condition=draw(
                st.sampled_from([None, None]) | st.tuples(st.sampled_from(["value", "status"]), st.integers(0, 7))
            ),
            appends=draw(st.booleans()),
        )
        for place in range(count)
    ]


class Resolved(msgspec.Struct, frozen=True):
    """A plan with its ancestors known, as the skill and the interpreter both need it."""

    place: int
    plan: Plan
    reads: tuple[int, ...]
    condition: tuple[str, int] | None
    appends: bool


def resolved(all_plans: list[Plan]) -> list[Resolved]:
    ancestors: list[set[int]] = []
    made: list[Resolved] = []
    appender: int | None = None
    for place, plan in enumerate(all_plans):
        own = set(plan.deps).union(*(ancestors[dep] for dep in plan.deps))
        ancestors.append(own)
        ordered = sorted(own)
        reads = tuple(ordered[read % len(ordered)] for read in plan.reads) if ordered else ()
        condition = (
            (plan.condition[0], ordered[plan.condition[1] % len(ordered)]) if plan.condition and ordered else None
        )
        # Writers of one target are ancestor and descendant.
        appends = plan.appends and (appender is None or appender in own)
        appender = place if appends else appender
        made.append(Resolved(place, plan, reads, condition, appends))
    return made


def skill_of(name: str, steps: list[Resolved]) -> Skill:
    declared = []
    for step in steps:
        value: Any = [step.place, *(f"vars.v{read}" for read in step.reads)]
        given_step: dict[str, Any] = {
            "id": f"s{step.place}",
            "uses": USES.get(step.plan.kind, step.plan.kind),
            "depends_on": [f"s{dep}" for dep in sorted(step.plan.deps)],
            "input": {"value": value},
            "output": {"value": f"vars.v{step.place}"},
        }
        if step.plan.kind == "foreach":
            items = ", ".join([f"{step.place}", *(f"vars.v{read}" for read in step.reads)])
            given_step |= {"foreach": {"items": f"[{items}]", "parallel": 2}, "input": {"value": "item"}}
        if step.plan.kind == "flaky":
            given_step["retry"] = {"max_attempts": 2, "backoff_seconds": 0}
        if step.plan.kind == "scatter":
            given_step["scatter"] = {"capabilities": ["boom", "mix"]}
            given_step["output"] = {"mix.value": f"vars.v{step.place}"}
        if step.plan.kind == "while":
            given_step["input"] = {"value": [*value, f"steps.s{step.place}.output.value"]}
            given_step["while"] = {"condition": f"steps.s{step.place}.output.value > 2", "max_iterations": 3}
        if step.plan.gate is not None:
            given_step[f"{step.plan.phase}_gates"] = [{"capability": "even", "on_fail": step.plan.gate}]
        if step.condition is not None:
            kind, other = step.condition
            given_step["condition"] = (
                f"v{other} == 3 or v{other} == null" if kind == "value" else (f'steps.s{other}.status == "completed"')
            )
        if step.appends:
            given_step["output"] = dict.fromkeys(given_step["output"], "outputs.log")
            given_step["merge_strategy"] = "append"
        declared.append(given_step)
    return skill(name, *declared, outputs="log " + " ".join(f"v{step.place}" for step in steps))


def interpreted(steps: list[Resolved]) -> tuple[dict[str, str], Any, set[str]]:
    """Statuses, the output `log`, and the codes of failures."""
    values: dict[int, Any] = {}
    statuses: dict[int, str] = {}
    blocked: set[int] = set()
    log: list[Any] | None = None
    codes: set[str] = set()
    for step in steps:
        place, plan = step.place, step.plan
        if any(statuses[dep] == "failed" or dep in blocked for dep in plan.deps):
            blocked.add(place)
            statuses[place] = "skipped"
            continue
        if step.condition is not None:
            kind, other = step.condition
            holds = values.get(other) in (3, None) if kind == "value" else statuses[other] == "completed"
            if not holds:
                statuses[place] = "skipped"
                continue
        inputs = [place, *(values.get(read) for read in step.reads)]
        statuses[place], made, code = _called(plan, inputs)
        if code is not None:
            codes.add(code)
        if statuses[place] == "completed":
            if step.appends:
                # A loop appends after each of its turns.
                pieces = made.turns if isinstance(made, Turns) else made if isinstance(made, list) else [made]
                log = [*(log or []), *pieces]
            else:
                values[place] = made.turns[-1] if isinstance(made, Turns) else made
    return {f"s{place}": status for place, status in statuses.items()}, log, codes


class Turns(msgspec.Struct):
    turns: list[Any]


def _called(plan: Plan, inputs: list[Any]) -> tuple[str, Any, str | None]:
    if plan.kind == "while":
        return _turns(plan, inputs)
    if plan.kind == "scatter":
        # The member that always fails comes first, so its failure counts where both fail.
        ends = [_one(msgspec.structs.replace(plan, kind=kind), inputs) for kind in ("boom", "mix")]
        for status in ("completed", "degraded", "failed"):
            for end in ends:
                if end[0] == status:
                    return end
    if plan.kind != "foreach":
        return _one(plan, inputs)
    made = []
    for item in inputs:
        status, value, code = _one(plan, item)
        if status != "completed":
            return status, None, code
        made.append(value)
    return "completed", made, None


def _turns(plan: Plan, inputs: list[Any]) -> tuple[str, Any, str | None]:
    turns: list[Any] = []
    while len(turns) < 3 and (not turns or turns[-1] > 2):
        status, value, code = _one(plan, [*inputs, turns[-1] if turns else None])
        if status != "completed":
            return status, None, code
        turns.append(value)
    return "completed", Turns(turns), None


def _one(plan: Plan, value: Any) -> tuple[str, Any, str | None]:
    def passes(seen: Any) -> bool:
        return mixed([seen, "gate"]) % 2 == 0

    if plan.gate is not None and plan.phase == "pre" and not passes(value) and plan.gate != "warn":
        return ("degraded", None, None) if plan.gate == "degrade" else ("failed", None, "safety_denied")
    if plan.kind == "boom":
        return "failed", None, "upstream_failure"
    made = mixed([mixed(value), value]) if plan.kind == "nested" else mixed(value)
    if plan.gate is not None and plan.phase == "post" and not passes(made) and plan.gate != "warn":
        return ("degraded", None, None) if plan.gate == "degrade" else ("failed", None, "safety_denied")
    return "completed", made, None


def check(steps: list[Resolved], events: list[dict[str, Any]], *, fail_fast: bool) -> None:
    statuses, log, codes = interpreted(steps)
    ends = ("step_completed", "step_skipped", "step_degraded", "step_failed")
    seen = {
        event["step"]: event["type"].removeprefix("step_")
        for event in events
        if event["type"] in ends and "/" not in event["step"] and not event.get("will_retry")
    }
    if not fail_fast or not codes:
        assert seen == statuses
        assert events[-1]["type"] == "complete"
        assert events[-1]["output"]["log"] == log
    else:
        assert events[-1]["type"] == "error"
        assert events[-1]["code"] in codes
        cut = {event["step"] for event in events if event.get("code") == "cancelled"}
        assert {step: status for step, status in seen.items() if step not in cut}.items() <= statuses.items()
    assert [event["sequence"] for event in events] == list(range(len(events)))


async def test_random_graphs_give_what_the_naive_interpreter_gives(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with skilled(tmp_path, [], PARTS, functions()) as running:
        count = 0

        async def executed(steps: list[Resolved], workers: int, fail_fast: bool) -> list[dict[str, Any]]:
            nonlocal count
            count += 1
            name = f"random{count}"
            running.library.by_id = {name: skill_of(name, steps), "inner": INNER}
            _, events = await running.run(f"skill:{name}", max_workers=workers, fail_fast=fail_fast)
            return events

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(plans(), st.integers(1, 4), st.booleans())
        def examples(drawn: list[Plan], workers: int, fail_fast: bool) -> None:
            steps = resolved(drawn)
            future = asyncio.run_coroutine_threadsafe(executed(steps, workers, fail_fast), loop)
            check(steps, future.result(30), fail_fast=fail_fast)

        await asyncio.to_thread(examples)


async def test_random_graphs_give_the_same_where_the_process_died_on_the_way(tmp_path: Path) -> None:
    await check_deaths(tmp_path, lambda: no_store)


@pytest.mark.faults
async def test_random_graphs_give_the_same_on_postgres(tmp_path: Path, postgres: PostgresServer) -> None:
    quick = replace(QUICK, lease_seconds=1.0, renew_seconds=0.2)

    def database() -> Callable[[], dict[str, Any]]:
        name = asyncio.run(postgres.make_database())
        return lambda: {"store": PostgresStore(postgres.url(name)), "settings": quick}

    await check_deaths(tmp_path, database)


def no_store() -> dict[str, Any]:
    """The embedded store, in the directory of the kernel."""
    return {}


async def check_deaths(tmp_path: Path, database: Callable[[], Callable[[], dict[str, Any]]]) -> None:
    loop = asyncio.get_running_loop()
    count = 0

    async def executed(
        steps: list[Resolved], workers: int, dying: int, store: Callable[[], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        directory = tmp_path / f"{count}"
        entered, calls = asyncio.Event(), [0]

        async def hanging(value: Any) -> dict[str, Any]:
            calls[0] += 1
            if calls[0] > dying:
                entered.set()
                await asyncio.Event().wait()
            return {"value": mixed(value)}

        made, outside = skill_of("random", steps), functions()
        async with skilled(
            directory, [made, INNER], PARTS, {**outside, "mix": hanging}, crash=True, **store()
        ) as running:
            run = await running.start("skill:random", max_workers=workers, fail_fast=False)
            ended = asyncio.ensure_future(running.kernel.finished(run))
            died = asyncio.ensure_future(entered.wait())
            await asyncio.wait([ended, died], return_when=asyncio.FIRST_COMPLETED, timeout=20)
            for task in (ended, died):
                task.cancel()
            before = {
                step.key: step.output
                for step in await running.kernel.store.steps(run.number)
                if step.is_recorded and ":" not in step.key
            }
        async with skilled(directory, [made, INNER], PARTS, outside, **store()) as running:
            events = await running.kernel.events(run)
            after = {step.key: step.output for step in await running.kernel.store.steps(run.number)}
            assert (await running.kernel.runs.get(CALLER, run.run_id)).status is Status.COMPLETED
        assert before.items() <= after.items()
        return events

    @settings(
        max_examples=EXAMPLES // 10,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(), st.integers(1, 4), st.integers(0, 5))
    def examples(drawn: list[Plan], workers: int, dying: int) -> None:
        steps = resolved(drawn)
        future = asyncio.run_coroutine_threadsafe(executed(steps, workers, dying, database()), loop)
        check(steps, future.result(60), fail_fast=False)

    await asyncio.to_thread(examples)


async def test_random_graphs_give_the_same_where_writing_ended_after_any_commit(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    count = 0

    async def executed(steps: list[Resolved], workers: int, commits: int) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        directory, made, outside = tmp_path / f"{count}", skill_of("random", steps), functions()
        async with skilled(directory, [made, INNER], PARTS, outside, crash=True) as running:
            store, left, is_cut = running.kernel.store, commits, asyncio.Event()
            commit = store.commit

            async def committed(writes: Any) -> Any:
                nonlocal left
                left -= 1
                if left >= 0:
                    return await commit(writes)
                is_cut.set()
                return [LeaseLost("nothing reaches the disk any more")] * len(writes)

            run = await running.start("skill:random", max_workers=workers, fail_fast=False)
            store.commit = committed  # type: ignore[method-assign]
            ended = asyncio.ensure_future(running.kernel.finished(run))
            cut = asyncio.ensure_future(is_cut.wait())
            await asyncio.wait([ended, cut], return_when=asyncio.FIRST_COMPLETED, timeout=20)
            for task in (ended, cut):
                task.cancel()
        async with skilled(directory, [made, INNER], PARTS, outside) as running:
            return await running.kernel.events(run)

    @settings(max_examples=EXAMPLES // 6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(plans(), st.integers(1, 4), st.integers(0, 8))
    def examples(drawn: list[Plan], workers: int, commits: int) -> None:
        steps = resolved(drawn)
        future = asyncio.run_coroutine_threadsafe(executed(steps, workers, commits), loop)
        check(steps, future.result(60), fail_fast=False)

    await asyncio.to_thread(examples)
