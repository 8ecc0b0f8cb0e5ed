"""Conditions, foreach, while, router and scatter."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.model import Status
from tests.support.skills import capability, shown, skill, skilled

NOTE = capability("note", "value", "value", side_effects=False)
ADD = capability("add", "value tag", "value tag", side_effects=False)
BREAK = capability("break", "value", "value", side_effects=False)


def add(value: Any, tag: Any) -> dict[str, Any]:
    return {"value": value + 1, "tag": {"of": tag}}


def fail(value: Any) -> None:
    raise RuntimeError(f"broken by {value}")


FUNCTIONS: dict[str, Any] = {"note": lambda value: {"value": value}, "add": add, "break": fail}
PARTS = [NOTE, ADD, BREAK]


async def test_a_false_condition_skips_the_step_and_its_dependant_reads_null(tmp_path: Path) -> None:
    maybe = skill(
        "maybe",
        {
            "id": "if",
            "uses": "note",
            "input": {"value": 1},
            "output": {"value": "vars.x"},
            "condition": "inputs.go == true",
        },
        {
            "id": "then",
            "uses": "note",
            "input": {"value": ["vars.x", "steps.if.status"]},
            "output": {"value": "outputs.x"},
        },
        inputs="go:boolean",
        outputs="x",
    )
    async with skilled(tmp_path, [maybe], PARTS, FUNCTIONS) as running:
        _, events = await running.run("skill:maybe", {"go": False})
        done = await running.outputs("skill:maybe", {"go": True})

    assert shown(events)[1:-2] == ["step_skipped if", "step_started then", "step_completed then"]
    assert events[1]["reason"] == "condition"
    assert events[-1]["output"] == {"x": [None, "skipped"]}
    assert done == {"x": [1, "completed"]}


async def test_foreach_calls_once_an_item_and_its_outputs_are_lists_in_order(tmp_path: Path) -> None:
    each = skill(
        "each",
        {
            "id": "a",
            "uses": "add",
            "input": {"value": "it.n", "tag": "at"},
            "foreach": {"items": "inputs.list", "as": "it", "index_as": "at", "parallel": 3},
            "output": {"value": "outputs.values", "tag.of": "outputs.tags"},
        },
        inputs="list",
        outputs="values tags",
    )
    async with skilled(tmp_path, [each], PARTS, FUNCTIONS) as running:
        run, events = await running.run("skill:each", {"list": [{"n": n} for n in (5, 3, 8, 1)]})
        empty = await running.outputs("skill:each", {"list": []})
        _, wrong = await running.run("skill:each", {"list": "text"})

    assert (run.status, events[-1]["output"]) == (Status.COMPLETED, {"values": [6, 4, 9, 2], "tags": [0, 1, 2, 3]})
    kinds = [event["type"] for event in events]
    assert kinds[1:-2] == ["step_started", *["progress"] * 4, "step_completed"]
    assert [event["progress"] for event in events if event["type"] == "progress"] == [0.25, 0.5, 0.75, 1.0]
    assert events[-3]["foreach_count"] == 4
    assert empty == {"values": [], "tags": []}
    assert (shown(wrong)[-2:], wrong[-1]["code"]) == (["step_failed a", "error"], "invalid_configuration")


async def test_no_more_items_are_at_work_at_once_than_declared(tmp_path: Path) -> None:
    present: list[int] = []
    most = 0

    async def work(value: int) -> int:
        nonlocal most
        present.append(value)
        most = max(most, len(present))
        await asyncio.sleep(0)
        present.remove(value)
        return value

    each = skill(
        "each",
        {"id": "a", "uses": "note", "input": {"value": "item"}, "foreach": {"items": "inputs.list", "parallel": 4}},
        inputs="list",
    )
    async with skilled(tmp_path, [each], PARTS, {"note": work}) as running:
        await running.outputs("skill:each", {"list": list(range(20))})

    assert most == 4


async def test_a_failed_item_is_named_and_tried_again_by_itself(tmp_path: Path) -> None:
    left = {2: 1, 3: 9}
    calls: list[int] = []

    def work(value: int) -> int:
        calls.append(value)
        if left.get(value, 0):
            left[value] -= 1
            raise RuntimeError("not now")
        return value

    each = skill(
        "each",
        {
            "id": "a",
            "uses": "note",
            "input": {"value": "item"},
            "foreach": {"items": "inputs.list"},
            "retry": {"max_attempts": 2, "backoff_seconds": 0},
        },
        inputs="list",
    )
    async with skilled(tmp_path, [each], PARTS, {"note": work}) as running:
        _, events = await running.run("skill:each", {"list": [1, 2, 3]})

    assert calls == [1, 2, 2, 3, 3]
    failed = [(event["item"], event["will_retry"]) for event in events if event["type"] == "step_failed"]
    assert failed == [(1, True), (2, True), (2, False)]
    again = [(event.get("item"), event["attempt"]) for event in events if event["type"] == "step_started"]
    assert again == [(None, 1), (1, 2), (2, 2)]


async def test_while_runs_once_at_least_and_writes_after_each_turn(tmp_path: Path) -> None:
    def counting(limit: str, most: int) -> Any:
        return skill(
            "counting",
            {"id": "zero", "uses": "note", "input": {"value": 0}, "output": {"value": "vars.n"}},
            {
                "id": "a",
                "uses": "add",
                "input": {"value": "vars.n", "tag": "t"},
                "output": {"value": "vars.n"},
                "merge_strategy": "replace",
                "while": {"condition": limit, "max_iterations": most},
            },
            {"id": "end", "uses": "note", "input": {"value": "vars.n"}, "output": {"value": "outputs.n"}},
            outputs="n",
        )

    async def run(limit: str, most: int, place: str) -> tuple[Any, Any]:
        async with skilled(tmp_path / place, [counting(limit, most)], PARTS, FUNCTIONS) as running:
            _, events = await running.run("skill:counting")
        ended = next(event for event in events if event["type"] == "step_completed" and event["step"] == "a")
        return events[-1]["output"]["n"], (ended["while_iterations"], ended["while_exhausted"])

    assert await run("steps.a.output.value < 4", 10, "a") == (4, (4, False))
    assert await run("true", 3, "b") == (3, (3, True))
    assert await run("false", 10, "c") == (1, (1, False))


async def test_a_router_chooses_by_value_and_fails_without_a_match(tmp_path: Path) -> None:
    def routed(default: str | None) -> Any:
        router = {"on": "inputs.kind", "cases": {"note": "note", "2": "add"}, "default": default}
        step = {
            "id": "a",
            "uses": "note",
            "input": {"value": 1, "tag": 2},
            "router": router,
            "output": {"value": "outputs.x"},
        }
        return skill(f"routed.{default}", step, inputs="kind", outputs="x")

    async with skilled(tmp_path, [routed(None), routed("add")], PARTS, FUNCTIONS) as running:
        _, by_text = await running.run("skill:routed.None", {"kind": "note"})
        _, by_number = await running.run("skill:routed.None", {"kind": 2.0})
        _, by_default = await running.run("skill:routed.add", {"kind": "else"})
        run, unmatched = await running.run("skill:routed.None", {"kind": "else"})

    found = [(events[-1]["output"]["x"], events[2]["router_matched"]) for events in (by_text, by_number, by_default)]
    assert found == [(1, "note"), (2, "2"), (2, "default")]
    assert (run.status, unmatched[-1]["code"]) == (Status.FAILED, "invalid_configuration")


async def test_scatter_calls_all_and_fails_only_if_all_fail(tmp_path: Path) -> None:
    def scattered(merge: str, *names: str, outputs: dict[str, str]) -> Any:
        step = {
            "id": "a",
            "uses": names[0],
            "input": {"value": "inputs.value", "tag": 2},
            "scatter": {"capabilities": list(names), "merge": merge},
            "output": outputs,
        }
        return skill(merge, step, inputs="value", outputs="x y")

    skills = [
        scattered("collect", "note", "break", "add", outputs={"note.value": "outputs.x", "add.tag.of": "outputs.y"}),
        scattered("concat_lists", "note", "add", outputs={"value": "outputs.x"}),
        scattered("first_success", "break", "note", outputs={"value": "outputs.x"}),
    ]
    broken = skill(
        "broken", {"id": "a", "uses": "break", "input": {"value": 1}, "scatter": {"capabilities": ["break", "break2"]}}
    )
    parts = [*PARTS, capability("break2", "value", "value")]
    async with skilled(tmp_path, [*skills, broken], parts, {**FUNCTIONS, "break2": fail}) as running:
        _, collected = await running.run("skill:collect", {"value": 1})
        joined = await running.outputs("skill:concat_lists", {"value": 5})
        first = await running.outputs("skill:first_success", {"value": 9})
        run, failed = await running.run("skill:broken")

    assert collected[-1]["output"] == {"x": 1, "y": 2}
    ended = next(event for event in collected if event["type"] == "step_completed")
    assert (ended["scatter_succeeded"], ended["scatter_failed"]) == (2, 1)
    assert joined == {"x": [5, 6], "y": None}
    assert first == {"x": 9, "y": None}
    assert (run.status, failed[-1]["code"]) == (Status.FAILED, "upstream_failure")


async def test_a_nested_skill_belongs_to_the_run_and_shows_its_steps_under_its_own(tmp_path: Path) -> None:
    inner = skill(
        "inner",
        {"id": "s", "uses": "note", "input": {"value": "inputs.v"}, "output": {"value": "outputs.v"}},
        inputs="v:integer",
        outputs="v",
    )
    middle = skill(
        "middle",
        {"id": "in", "uses": "skill:inner", "input": {"v": "inputs.v"}, "output": {"v": "outputs.v"}},
        inputs="v",
        outputs="v",
    )
    outer = skill(
        "outer",
        {"id": "brief", "uses": "skill:middle", "input": {"v": "inputs.v"}, "output": {"v": "outputs.v"}},
        inputs="v",
        outputs="v",
    )
    async with skilled(tmp_path, [inner, middle, outer], PARTS, FUNCTIONS) as running:
        _, events = await running.run("skill:outer", {"v": 3}, max_workers=1)
        _, wrong = await running.run("skill:outer", {"v": "three"})

    assert shown(events) == [
        "started",
        "step_started brief",
        "step_started brief/in",
        "step_started brief/in/s",
        "step_completed brief/in/s",
        "step_completed brief/in",
        "step_completed brief",
        "skill_completed",
        "complete",
    ]
    assert events[-1]["output"] == {"v": 3}
    assert shown(wrong)[3:] == ["step_failed brief/in", "step_failed brief", "error"]
    assert (wrong[-1]["code"], wrong[-1]["details"]["status"]) == ("invalid_request", 422)


async def test_a_nested_skill_that_is_tried_again_runs_whole_again(tmp_path: Path) -> None:
    left = [2]

    def work(value: Any) -> Any:
        if value == "second" and left[0]:
            left[0] -= 1
            raise RuntimeError("not now")
        return value

    inner = skill(
        "inner",
        {"id": "s", "uses": "note", "input": {"value": "first"}},
        {"id": "t", "uses": "note", "input": {"value": "second"}, "output": {"value": "outputs.v"}},
        outputs="v",
    )
    retry = {"max_attempts": 3, "backoff_seconds": 0}
    outer = skill(
        "outer", {"id": "o", "uses": "skill:inner", "output": {"v": "outputs.v"}, "retry": retry}, outputs="v"
    )
    async with skilled(tmp_path, [inner, outer], PARTS, {"note": work}) as running:
        run, events = await running.run("skill:outer")
        steps = await running.kernel.store.steps(run.number)

    assert run.status is Status.COMPLETED
    assert [text for text in shown(events) if " o/s" in text] == ["step_started o/s", "step_completed o/s"] * 3
    assert [text for text in shown(events) if text.endswith((" o", " o #2", " o #3"))] == [
        "step_started o",
        "step_failed o",
        "step_started o #2",
        "step_failed o",
        "step_started o #3",
        "step_completed o",
    ]
    assert {step.name for step in steps if not step.key.startswith("given:")} == {"o", "o/s", "o/t"}


async def test_a_step_that_is_not_completed_leaves_nothing_of_what_it_wrote(tmp_path: Path) -> None:
    calls: list[Any] = []

    def work(value: Any) -> Any:
        calls.append(value)
        if len(calls) == 2:
            raise RuntimeError("not twice")
        return value

    turning = skill(
        "turning",
        {"id": "one", "uses": "note", "input": {"value": [1]}, "output": {"value": "outputs.log"}},
        {
            "id": "loop",
            "uses": "work",
            "input": {"value": 2},
            "output": {"value": "outputs.log", "vars.none": "working.deep.n"},
            "merge_strategy": "append",
            "while": {"condition": "true", "max_iterations": 3},
        },
        outputs="log",
    )
    parts = [*PARTS, capability("work", "value", "value")]
    async with skilled(tmp_path, [turning], parts, {**FUNCTIONS, "work": work}) as running:
        run, events = await running.run("skill:turning", fail_fast=False)

    assert (run.status, events[-1]["output"], len(calls)) == (Status.COMPLETED, {"log": [1]}, 2)
