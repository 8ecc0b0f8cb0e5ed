"""Skills whose steps follow each other: what they are given, what they leave, and what readers see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.skill.model import Field, Foreach
from holdfast.model import Status
from tests.support.kernel import CALLER
from tests.support.skills import capability, shown, skill, skilled

SHOUT = capability("shout", "text:string", "text:string", side_effects=False)
COUNT = capability("count", "text:string", "length:integer", side_effects=False)


def count(text: str) -> int:
    return len(text)


FUNCTIONS: dict[str, Any] = {"shout": lambda text: {"text": text.upper() + "!"}, "count": count}

TWO = skill(
    "two",
    {"id": "first", "uses": "shout", "input": {"text": "inputs.text"}, "output": {"text": "vars.loud"}},
    {"id": "second", "uses": "count", "input": {"text": "vars.loud"}, "output": {"length": "outputs.length"}},
    inputs="text:string",
    outputs="length:integer",
    required=True,
)


async def test_steps_hand_their_outputs_on_and_the_last_ones_are_the_skills(tmp_path: Path) -> None:
    async with skilled(tmp_path, [TWO], [SHOUT, COUNT], FUNCTIONS) as running:
        run, events = await running.run("skill:two", {"text": "hello"})

    assert run.status is Status.COMPLETED
    assert events[-1]["output"] == {"length": 6}
    assert shown(events) == [
        "started",
        "step_started first",
        "step_completed first",
        "step_started second",
        "step_completed second",
        "skill_completed",
        "complete",
    ]
    assert events[2]["output"] == {"text": "HELLO!"}
    assert events[2]["duration_ms"] >= 0


async def test_a_bare_capability_runs_as_one_step_named_call(tmp_path: Path) -> None:
    async with skilled(tmp_path, [], [SHOUT], FUNCTIONS) as running:
        run, events = await running.run("capability:shout", {"text": "a", "undeclared": 1})

    assert (run.status, events[-1]["output"]) == (Status.COMPLETED, {"text": "A!"})
    assert shown(events)[1:3] == ["step_started call", "step_completed call"]


async def test_a_function_that_raises_ends_the_run_with_its_text(tmp_path: Path) -> None:
    def broken(text: str) -> None:
        raise ValueError(f"the printer burns at {text}")

    async with skilled(tmp_path, [TWO], [SHOUT, COUNT], {**FUNCTIONS, "shout": broken}) as running:
        run, events = await running.run("skill:two", {"text": "hello"})

    assert run.status is Status.FAILED
    assert shown(events) == ["started", "step_started first", "step_failed first", "error"]
    failed, ended = events[-2:]
    assert (failed["code"], failed["status"], failed["will_retry"]) == ("upstream_failure", 502, False)
    assert "the printer burns" in failed["error"]
    assert (ended["code"], ended["details"]) == ("upstream_failure", {"type": "UpstreamFailureError", "status": 502})


async def test_a_broken_contract_is_the_authors_fault_and_not_tried_again(tmp_path: Path) -> None:
    wrong = {"shout": lambda text: {"text": len(text)}, "count": lambda text: float(text) + 1}
    text = skill(
        "wrong",
        {
            "id": "a",
            "uses": "shout",
            "input": {"text": "inputs.text"},
            "retry": {"max_attempts": 3},
            "output": {"text": "outputs.text"},
        },
        inputs="text",
        outputs="text",
    )
    number = skill("nan", {"id": "a", "uses": "count", "input": {"text": "nan"}})
    async with skilled(tmp_path, [text, number], [SHOUT, COUNT], wrong) as running:
        _, of_text = await running.run("skill:wrong", {"text": "x"})
        _, of_number = await running.run("skill:nan")
        _, of_input = await running.run("skill:wrong", {"text": 5})

    for events in (of_text, of_number, of_input):
        assert shown(events)[1:] == ["step_started a", "step_failed a", "error"]
        assert (events[-1]["code"], events[-1]["details"]["status"]) == ("invalid_configuration", 409)
    assert "must be a string" in of_text[-1]["error"]
    assert "finite" in of_number[-1]["error"]


async def test_a_required_output_that_is_null_at_the_end_fails_the_run(tmp_path: Path) -> None:
    empty = skill("empty", {"id": "a", "uses": "shout", "input": {"text": "x"}}, outputs="text:string", required=True)
    async with skilled(tmp_path, [empty], [SHOUT], FUNCTIONS) as running:
        run, events = await running.run("skill:empty")

    assert (run.status, events[-1]["code"]) == (Status.FAILED, "invalid_configuration")
    assert shown(events)[-2:] == ["step_completed a", "error"]


async def test_what_no_contract_declares_can_be_read_and_is_not_shown(tmp_path: Path) -> None:
    more = {**FUNCTIONS, "shout": lambda text: {"text": text, "extra": "quiet"}}
    step = {"id": "first", "uses": "shout", "input": {"text": "inputs.text"}, "output": {"extra": "outputs.extra"}}
    async with skilled(tmp_path, [skill("one", step, inputs="text", outputs="extra")], [SHOUT], more) as running:
        _, events = await running.run("skill:one", {"text": "x"})

    assert (events[2]["output"], events[-1]["output"]) == ({"text": "x"}, {"extra": "quiet"})


async def test_sensitive_outputs_are_hidden_in_step_events_and_reach_the_next_step(tmp_path: Path) -> None:
    secret = msgspec.structs.replace(SHOUT, outputs={"text": Field(type="string", sensitive=True)})
    async with skilled(tmp_path, [TWO], [secret, COUNT], FUNCTIONS) as running:
        _, events = await running.run("skill:two", {"text": "hello"})

    assert events[2]["output"] == {"text": "***"}
    assert events[-1]["output"] == {"length": 6}


async def test_what_becomes_a_sensitive_output_of_the_skill_is_hidden_in_the_step_that_makes_it(tmp_path: Path) -> None:
    step = {"id": "first", "uses": "shout", "input": {"text": "inputs.text"}, "output": {"text": "outputs.loud"}}
    each = step | {"input": {"text": "item"}, "foreach": Foreach(items="[inputs.text]")}
    secret = {"loud": Field(type="any", sensitive=True)}
    plain, mapped = (
        msgspec.structs.replace(skill(name, made, inputs="text:string"), outputs=secret)
        for name, made in (("plain", step), ("mapped", each))
    )
    async with skilled(tmp_path, [plain, mapped], [SHOUT], FUNCTIONS) as running:
        _, events = await running.run("skill:plain", {"text": "hello"})
        run, of_items = await running.run("skill:mapped", {"text": "hello"})
        steps = await running.kernel.runs.steps(CALLER, run.run_id)

    assert "HELLO" not in repr(events[:-1]) + repr(of_items[:-1]) + repr(steps)
    assert [found[-1]["output"] for found in (events, of_items)] == [{"loud": "HELLO!"}, {"loud": ["HELLO!"]}]
