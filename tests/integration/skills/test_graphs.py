"""Which steps run together, and what a failure does to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.model import Status
from tests.support.skills import capability, shown, skill, skilled

NOTE = capability("note", "value", "value", side_effects=False)
MEET = capability("meet", "name:string", "name:string")
BREAK = capability("break", "", "value")
FUNCTIONS: dict[str, Any] = {"note": lambda value: {"value": value}}


def fail() -> None:
    raise RuntimeError("broken")


class Meeting:
    """Callers stay until so many are there at once."""

    def __init__(self, size: int) -> None:
        self.size, self.present, self.most = size, 0, 0
        self.is_full = asyncio.Event()

    async def __call__(self, name: str) -> dict[str, Any]:
        self.present += 1
        self.most = max(self.most, self.present)
        if self.present == self.size:
            self.is_full.set()
        await self.is_full.wait()
        self.present -= 1
        return {"name": name}


def meeting(count: int) -> Any:
    steps = [
        {"id": f"m{place}", "uses": "meet", "input": {"name": f"{place}"}, "depends_on": []} for place in range(count)
    ]
    return skill("meeting", *steps)


async def test_steps_that_depend_on_nothing_run_at_once(tmp_path: Path) -> None:
    meet = Meeting(4)
    async with skilled(tmp_path, [meeting(4)], [MEET], {"meet": meet}) as running:
        run, events = await running.run("skill:meeting")

    assert (run.status, meet.most) == (Status.COMPLETED, 4)
    assert [event["type"] for event in events[1:5]] == ["step_started"] * 4


async def test_no_more_steps_run_at_once_than_the_caller_allows(tmp_path: Path) -> None:
    meet = Meeting(2)
    async with skilled(tmp_path, [meeting(6)], [MEET], {"meet": meet}) as running:
        run, _ = await running.run("skill:meeting", max_workers=2)

    assert (run.status, meet.most) == (Status.COMPLETED, 2)


DIAMOND = skill(
    "diamond",
    {"id": "top", "uses": "note", "input": {"value": 1}, "output": {"value": "vars.top"}},
    {"id": "left", "uses": "note", "input": {"value": "vars.top"}, "output": {"value": "working.a.left"}},
    {
        "id": "right",
        "uses": "note",
        "input": {"value": {"$literal": "vars.top"}},
        "output": {"value": "working.a.right"},
        "depends_on": ["top"],
    },
    {
        "id": "end",
        "uses": "note",
        "input": {"value": ["working.a", "steps.left.output.value", "steps.right.status", "a.b", "vars.none"]},
        "output": {"value": "outputs.all"},
        "depends_on": ["left", "right"],
    },
    outputs="all",
)


async def test_references_reach_what_ancestors_made_and_literals_stay(tmp_path: Path) -> None:
    async with skilled(tmp_path, [DIAMOND], [NOTE], FUNCTIONS) as running:
        outputs = await running.outputs("skill:diamond")

    assert outputs == {"all": [{"left": 1, "right": "vars.top"}, 1, "completed", "a.b", None]}


async def test_a_failure_cuts_off_what_runs_beside_it(tmp_path: Path) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def hang(name: str) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def fail_then(name: str) -> None:
        await entered.wait()
        raise RuntimeError(name)

    beside = skill(
        "beside",
        {"id": "slow", "uses": "hang", "input": {"name": "x"}},
        {"id": "bad", "uses": "fail", "input": {"name": "first"}, "depends_on": []},
        {"id": "never", "uses": "hang", "input": {"name": "x"}},
    )
    parts = [capability("hang", "name"), capability("fail", "name")]
    async with skilled(tmp_path, [beside], parts, {"hang": hang, "fail": fail_then}) as running:
        run, events = await running.run("skill:beside")
        await asyncio.wait_for(left.wait(), 20)

    assert run.status is Status.FAILED
    assert shown(events) == [
        "started",
        "step_started slow",
        "step_started bad",
        "step_failed bad",
        "step_failed slow",
        "error",
    ]
    assert [event["code"] for event in events[3:]] == ["upstream_failure", "cancelled", "upstream_failure"]


FORKED = skill(
    "forked",
    {"id": "bad", "uses": "break"},
    {"id": "after", "uses": "note", "input": {"value": "steps.bad.output.value"}, "output": {"value": "outputs.lost"}},
    {"id": "further", "uses": "note", "input": {"value": 1}},
    {"id": "good", "uses": "note", "input": {"value": 2}, "output": {"value": "outputs.kept"}, "depends_on": []},
    outputs="kept lost",
)


async def test_without_fail_fast_the_rest_goes_on_and_what_depends_on_the_failure_is_skipped(tmp_path: Path) -> None:
    async with skilled(tmp_path, [FORKED], [NOTE, BREAK], {**FUNCTIONS, "break": fail}) as running:
        run, events = await running.run("skill:forked", fail_fast=False)

    assert (run.status, events[-1]["output"]) == (Status.COMPLETED, {"kept": 2, "lost": None})
    skipped = {event["step"]: event["reason"] for event in events if event["type"] == "step_skipped"}
    assert skipped == {"after": "dependency_failed", "further": "dependency_failed"}


async def test_without_fail_fast_the_first_error_counts_where_a_required_output_is_missing(tmp_path: Path) -> None:
    needed = skill(
        "needed",
        *(
            {"id": s.id, "uses": s.uses, "input": s.input, "output": s.output, "depends_on": s.depends_on}
            for s in FORKED.steps
        ),
        outputs="kept lost",
        required=True,
    )
    async with skilled(tmp_path, [needed], [NOTE, BREAK], {**FUNCTIONS, "break": fail}) as running:
        run, events = await running.run("skill:needed", fail_fast=False)

    assert (run.status, events[-1]["code"]) == (Status.FAILED, "upstream_failure")
    assert "step_completed good" in shown(events)


def written(strategy: str, first: Any, second: Any) -> Any:
    steps = [
        {
            "id": f"s{place}",
            "uses": "note",
            "input": {"value": {"$literal": value}},
            "output": {"value": "outputs.x"},
            "merge_strategy": strategy,
        }
        for place, value in enumerate((first, second))
    ]
    return skill(strategy, *steps, outputs="x")


async def test_each_merge_strategy_joins_a_second_write_its_own_way(tmp_path: Path) -> None:
    skills = [
        written("replace", 1, 2),
        written("append", [1], 2),
        written("deep_merge", {"a": {"b": 1}, "c": 1}, {"a": {"d": 2}, "c": 3}),
        written("overwrite", 1, 2),
    ]
    async with skilled(tmp_path, skills, [NOTE], FUNCTIONS) as running:
        made = {name: await running.outputs(f"skill:{name}") for name in ("replace", "append", "deep_merge")}
        _, events = await running.run("skill:overwrite")

    assert made == {
        "replace": {"x": 2},
        "append": {"x": [1, 2]},
        "deep_merge": {"x": {"a": {"b": 1, "d": 2}, "c": 3}},
    }
    assert shown(events)[-2:] == ["step_failed s1", "error"]
    assert "'outputs.x' was written by step 's0' already" in events[-1]["error"]


async def test_a_hundred_independent_steps_need_few_commits(tmp_path: Path) -> None:
    steps = [{"id": f"s{n}", "uses": "note", "input": {"value": n}, "depends_on": []} for n in range(100)]
    async with skilled(tmp_path, [skill("wide", *steps)], [NOTE], FUNCTIONS) as running:
        run, _ = await running.run("skill:wide")
        segments = await running.kernel.store.segments(run.number, after=-1, bytes_max=1 << 30)

    assert len(segments) <= 20
