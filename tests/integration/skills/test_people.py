"""Gates, trust, and steps about which a person is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.agents.skill.model import Field, Gate, Safety
from holdfast.model import Status
from tests.support.kernel import CALLER
from tests.support.skills import Skilled, capability, shown, skill, skilled

NOTE = capability("note", "value", "value", side_effects=False)
SEND = capability("send", "value", "value")
CHECK = capability("check", "value", "allowed reason", side_effects=False)
OPERATOR = type(CALLER)("boss", role="operator")


def check(value: Any) -> dict[str, Any]:
    return {"allowed": value != "bad", "reason": "it is bad" if value == "bad" else None}


def functions(calls: list[Any]) -> dict[str, Any]:
    def send(value: Any) -> dict[str, Any]:
        calls.append(value)
        return {"value": value}

    return {"note": lambda value: {"value": value}, "check": check, "send": send}


def guarded(phase: str, on_fail: str, **step: Any) -> Any:
    gates = {f"{phase}_gates": [{"capability": "check", "on_fail": on_fail}]}
    return skill(
        "guarded",
        {"id": "a", "uses": "send", "input": {"value": "inputs.v"}, "output": {"value": "outputs.v"}, **gates, **step},
        {"id": "b", "uses": "note", "input": {"value": "steps.a.status"}, "output": {"value": "outputs.status"}},
        inputs="v",
        outputs="v status",
    )


async def through(tmp_path: Path, phase: str, on_fail: str, value: str = "bad") -> tuple[Any, list[Any], list[Any]]:
    calls: list[Any] = []
    async with skilled(tmp_path, [guarded(phase, on_fail)], [NOTE, SEND, CHECK], functions(calls)) as running:
        run, events = await running.run("skill:guarded", {"v": value})
    return run, events, calls


async def test_a_gate_that_allows_is_silent(tmp_path: Path) -> None:
    run, events, calls = await through(tmp_path, "pre", "block", "good")

    assert (run.status, calls) == (Status.COMPLETED, ["good"])
    assert shown(events)[1:3] == ["step_started a", "step_completed a"]


async def test_a_gate_before_the_call_blocks_it(tmp_path: Path) -> None:
    run, events, calls = await through(tmp_path, "pre", "block")

    assert (run.status, calls) == (Status.FAILED, [])
    assert shown(events)[1:] == ["step_started a", "step_failed a", "error"]
    assert (events[-1]["code"], events[-1]["details"]["status"]) == ("safety_denied", 403)
    assert "it is bad" in events[-1]["error"]


async def test_a_gate_may_only_warn(tmp_path: Path) -> None:
    run, events, calls = await through(tmp_path, "pre", "warn")

    assert (run.status, calls) == (Status.COMPLETED, ["bad"])
    warning = events[2]
    assert (warning["type"], warning["step"]) == ("safety_gate_warning", "a")
    assert (warning["gate"], warning["phase"], warning["reason"]) == ("check", "pre", "it is bad")


async def test_a_step_can_be_degraded_before_its_call_and_its_dependant_reads_null(tmp_path: Path) -> None:
    run, events, calls = await through(tmp_path, "pre", "degrade")

    assert (run.status, calls) == (Status.COMPLETED, [])
    assert shown(events)[1:3] == ["step_started a", "step_degraded a"]
    assert events[-1]["output"] == {"v": None, "status": "degraded"}


@pytest.mark.parametrize("on_fail", ["block", "degrade"])
async def test_what_a_gate_withholds_is_in_no_event(tmp_path: Path, on_fail: str) -> None:
    calls: list[Any] = []
    made = {**functions(calls), "send": lambda value: {"value": "bad", "more": f"secret of {value}"}}
    async with skilled(tmp_path, [guarded("post", on_fail)], [NOTE, SEND, CHECK], made) as running:
        run, events = await running.run("skill:guarded", {"v": 1})

    assert run.status is (Status.FAILED if on_fail == "block" else Status.COMPLETED)
    assert "secret" not in repr(events)


async def test_a_gate_that_fails_or_does_not_say_is_no_permission(tmp_path: Path) -> None:
    def broken(value: Any) -> None:
        raise RuntimeError("no gate")

    for number, gate in enumerate((broken, lambda value: {"allowed": str(value)})):
        calls: list[Any] = []
        parts = {**functions(calls), "check": gate}
        async with skilled(tmp_path / f"{number}", [guarded("pre", "warn")], [NOTE, SEND, CHECK], parts) as running:
            _, events = await running.run("skill:guarded", {"v": 1})

        assert (events[-1]["code"], events[-1]["details"]["status"]) == ("gate_execution_failure", 503)
        assert calls == []


async def test_a_mandatory_gate_holds_for_bare_capabilities_nested_and_for_each_item(tmp_path: Path) -> None:
    calls: list[Any] = []
    safety = Safety(mandatory_pre_gates=(Gate(capability="check"),))
    send = capability("send", "value", "value", safety=safety)
    each = skill(
        "each",
        {"id": "a", "uses": "send", "input": {"value": "item"}, "foreach": {"items": "inputs.list"}},
        inputs="list",
    )
    outer = skill("outer", {"id": "o", "uses": "skill:each", "input": {"list": ["good", "bad"]}})
    async with skilled(tmp_path, [each, outer], [send, CHECK], functions(calls)) as running:
        _, bare = await running.run("capability:send", {"value": "bad"})
        _, nested = await running.run("skill:outer")

    assert (bare[-1]["code"], nested[-1]["code"], calls) == ("safety_denied", "safety_denied", ["good"])


async def test_a_capability_above_the_trust_of_the_run_is_not_called(tmp_path: Path) -> None:
    calls: list[Any] = []
    send = capability("send", "value", "value", safety=Safety(trust_level="elevated"))
    routed = skill(
        "routed",
        {"id": "a", "uses": "note", "input": {"value": 1}, "router": {"on": "1", "cases": {"1": "send"}}},
    )
    async with skilled(tmp_path, [routed], [send, NOTE], functions(calls)) as running:
        _, bare = await running.run("capability:send", {"value": 1})
        _, inside = await running.run("skill:routed")
        _, asked_for_more = await running.run("skill:routed", trust="privileged")

    assert [events[-1]["code"] for events in (bare, inside, asked_for_more)] == ["safety_denied"] * 3
    assert calls == []


# Approvals


CONFIRMED = skill(
    "confirmed",
    {"id": "other", "uses": "note", "input": {"value": 1}, "depends_on": []},
    {
        "id": "a",
        "uses": "send",
        "input": {"value": "inputs.v"},
        "output": {"value": "outputs.v"},
        "depends_on": [],
        "confirm": {"question": "Send it?"},
    },
    inputs="v",
    outputs="v",
)


async def asked(running: Skilled, run: Any) -> Any:
    """The interrupt for which the run waits, once nothing of it is in memory."""
    await running.kernel.waiting(run)
    pending = [item for item in await running.kernel.store.interrupts(run.number) if item.is_pending]
    assert len(pending) == 1
    return pending[0]


async def answer(running: Skilled, run: Any, approved: Any) -> list[dict[str, Any]]:
    interrupt = await asked(running, run)
    await running.kernel.runs.answer(OPERATOR, run.run_id, approved, interrupt_id=interrupt.interrupt_id)
    return await running.kernel.events(run)


async def test_the_run_waits_for_an_approval_and_goes_on_there(tmp_path: Path) -> None:
    calls: list[Any] = []
    async with skilled(tmp_path, [CONFIRMED], [NOTE, SEND], functions(calls)) as running:
        run = await running.start("skill:confirmed", {"v": 5})
        interrupt = await asked(running, run)
        before = list(calls)
        events = await answer(running, run, True)

    assert (before, calls, events[-1]["output"]) == ([], [5], {"v": 5})
    assert (interrupt.reason, interrupt.question, interrupt.answer_role) == ("confirm", "Send it?", "operator")
    told = next(event for event in events if event["type"] == "interrupt")
    assert (told["step"], told["choices"], told["input"]) == ("a", ["approve", "deny"], {"value": 5})
    resolved = next(event for event in events if event["type"] == "interrupt_resolved")
    assert (resolved["step"], resolved["answer"]) == ("a", True)
    # Nothing is shown twice because the run was let go.
    assert sorted(shown(events)) == sorted(
        [
            "started",
            "step_started other",
            "step_started a",
            "interrupt a",
            "step_completed other",
            "interrupt_resolved a",
            "step_completed a",
            "skill_completed",
            "complete",
        ]
    )


async def test_a_denial_fails_the_step(tmp_path: Path) -> None:
    calls: list[Any] = []
    async with skilled(tmp_path, [CONFIRMED], [NOTE, SEND], functions(calls)) as running:
        run = await running.start("skill:confirmed", {"v": 5})
        events = await answer(running, run, False)

    assert (events[-1]["code"], events[-1]["details"]["status"], calls) == ("safety_denied", 403, [])


@pytest.mark.parametrize(("default", "code"), [("approve", None), ("deny", "safety_denied"), (None, "safety_denied")])
async def test_expiry_takes_the_default(tmp_path: Path, default: str | None, code: str | None) -> None:
    calls: list[Any] = []
    confirm = {"expires_in": 0.05, "default": default}
    expiring = skill("expiring", {"id": "a", "uses": "send", "input": {"value": 1}, "confirm": confirm})
    async with skilled(tmp_path, [expiring], [SEND], functions(calls)) as running:
        _, events = await running.run("skill:expiring")

    assert events[-1].get("code") == code
    assert calls == ([1] if code is None else [])


async def test_who_wants_no_waiting_is_refused_instead(tmp_path: Path) -> None:
    calls: list[Any] = []
    async with skilled(tmp_path, [CONFIRMED], [NOTE, SEND], functions(calls)) as running:
        _, events = await running.run("skill:confirmed", {"v": 5}, on_confirmation="fail")

    assert (events[-1]["code"], events[-1]["details"]["status"], calls) == ("confirmation_required", 428, [])
    assert not any(event["type"] == "interrupt" for event in events)


async def test_a_capability_may_require_confirmation_unless_it_is_named(tmp_path: Path) -> None:
    calls: list[Any] = []
    send = capability("send", "value", "value", safety=Safety(requires_confirmation=True))
    async with skilled(tmp_path, [], [send], functions(calls)) as running:
        run = await running.start("capability:send", {"value": 1})
        interrupt = await asked(running, run)
        await answer(running, run, False)
        await running.outputs("capability:send", {"value": 2}, confirmed_capabilities=("send",))

    assert (interrupt.reason, calls) == ("requires_confirmation", [2])


async def test_a_gate_may_ask_a_person_and_a_nested_step_goes_on_where_it_asked(tmp_path: Path) -> None:
    calls: list[Any] = []
    inner = guarded("pre", "require_human")
    outer = skill(
        "outer",
        {"id": "o", "uses": "skill:guarded", "input": {"v": "inputs.v"}, "output": {"v": "outputs.v"}},
        inputs="v",
        outputs="v",
    )
    async with skilled(tmp_path, [inner, outer], [NOTE, SEND, CHECK], functions(calls)) as running:
        run = await running.start("skill:outer", {"v": "bad"})
        interrupt = await asked(running, run)
        events = await answer(running, run, True)

    assert (interrupt.reason, calls, events[-1]["output"]) == ("require_human", ["bad"], {"v": "bad"})
    assert shown(events)[1:6] == [
        "step_started o",
        "step_started o/a",
        "interrupt o/a",
        "interrupt_resolved o/a",
        "step_completed o/a",
    ]


async def test_what_a_gate_withholds_is_in_no_list_of_steps_either(tmp_path: Path) -> None:
    calls: list[Any] = []
    made = {**functions(calls), "send": lambda value: {"value": "bad", "more": f"secret of {value}"}}
    async with skilled(tmp_path, [guarded("post", "degrade")], [NOTE, SEND, CHECK], made) as running:
        run, _ = await running.run("skill:guarded", {"v": 1})
        listed = await running.kernel.runs.steps(CALLER, run.run_id)

    assert "secret" not in repr(listed)
    assert {step.key for step in listed} == {"a", "a/gate:post:0", "b"}


async def test_what_is_sensitive_shows_nowhere_and_is_there_when_the_run_is_executed_again(tmp_path: Path) -> None:
    hidden = {"value": Field(type="any", sensitive=True)}
    calls: list[Any] = []
    made = functions(calls)
    make = capability("make", "value", side_effects=False)
    make = msgspec.structs.replace(make, outputs=hidden)
    send = msgspec.structs.replace(SEND, inputs=hidden)
    twice = skill(
        "twice",
        {
            "id": "a",
            "uses": "make",
            "foreach": {"items": "inputs.v", "as": "each"},
            "input": {"value": "each"},
            "output": {"value": "vars.secrets"},
        },
        {
            "id": "b",
            "uses": "send",
            "scatter": {"capabilities": ["send"], "merge": "collect"},
            "input": {"value": "vars.secrets"},
            "output": {"send": "outputs.v"},
            "confirm": {"question": "Send it?"},
        },
        inputs="v",
        outputs="v",
    )
    made |= {"make": lambda value: {"value": f"secret {value}", "more": "secret too"}}
    async with skilled(tmp_path, [twice], [make, send], made) as running:
        run = await running.start("skill:twice", {"v": [1, 2]})
        interrupt = await asked(running, run)
        events = await answer(running, run, True)
        steps = {step.key: step for step in await running.kernel.runs.steps(CALLER, run.run_id)}

    assert calls == [["secret 1", "secret 2"]]
    assert interrupt.input == b'{"value":"***"}'
    assert {key: steps[key].output for key in ("a", "a/item:0", "a/item:1")} == {
        "a": b'{"value":"***"}',
        "a/item:0": b'{"value":"***"}',
        "a/item:1": b'{"value":"***"}',
    }
    assert "secret" not in repr([event for event in events if event.get("step") == "a" or event["type"] == "interrupt"])
    assert events[-1]["output"] == {"v": {"value": ["secret 1", "secret 2"]}}


async def test_cancelling_a_run_that_waits_ends_the_steps_that_wait(tmp_path: Path) -> None:
    calls: list[Any] = []
    outer = skill("outer", {"id": "o", "uses": "skill:confirmed", "input": {"v": 1}})
    async with skilled(tmp_path, [CONFIRMED, outer], [NOTE, SEND], functions(calls)) as running:
        run = await running.start("skill:outer")
        await asked(running, run)
        await running.kernel.runs.cancel(CALLER, run.run_id, reason="enough")
        events = await running.kernel.events(run)
        steps = {step.key: step for step in await running.kernel.runs.steps(CALLER, run.run_id)}

    assert shown(events)[-4:] == ["step_failed o/a", "step_failed o", "interrupt_resolved o/a", "cancelled"]
    assert [event["code"] for event in events[-4:-2]] == ["cancelled", "cancelled"]
    assert {key: step.status for key, step in steps.items()} == {"o": "failed", "o/other": "completed", "o/a": "failed"}
    assert (steps["o"].sequence, steps["o/a"].sequence) == (events[-3]["sequence"], events[-4]["sequence"])
    assert calls == []
