"""
A process dies while a skill is under way: what is on record is neither done nor shown again. Where other records are read
than those of a step, on both stores.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.caller import Caller
from holdfast.errors import AgentNotFound
from holdfast.model import Run, Status
from holdfast.store.postgres import PostgresStore
from tests.support.kernel import CALLER
from tests.support.postgres import PostgresServer
from tests.support.skills import Skilled, capability, shown, skill, skilled
from tests.support.until import until

OPERATOR = Caller("boss", role="operator")
WORK = capability("work", "value", "value")
PURE = capability("pure", "value", "value", side_effects=False)
ONCE = capability("once", "value", "value", at_most_once=True)


class Hanging:
    """Counts its calls, and does not come back from those that are to hang."""

    def __init__(self, *hanging: Any) -> None:
        self.calls: list[Any] = []
        self.hanging = set(hanging)
        self.entered = asyncio.Event()

    async def __call__(self, value: Any) -> dict[str, Any]:
        self.calls.append(value)
        if value in self.hanging:
            self.entered.set()
            await asyncio.Event().wait()
        return {"value": value}

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        return {"work": self, "pure": self, "once": self}


ONE_STORE = pytest.mark.one_store("it reads no other records than those of a step")

AWAY_SECONDS = 30.0


class Place:
    """Where the kernels of a test have their store, one after the other; what a dead one held is free for the next."""

    def __init__(self, directory: Path, postgres: PostgresServer | None = None, database: str = "") -> None:
        self._directory, self._postgres, self._database = directory, postgres, database
        self._passed = 0.0

    @contextlib.asynccontextmanager
    async def skilled(self, *given: Any, **options: Any) -> AsyncIterator[Skilled]:
        if self._postgres is None:
            async with skilled(self._directory, *given, **options) as running:
                yield running
            return
        store = PostgresStore(self._postgres.url(self._database))
        async with skilled(self._directory, *given, store=store, **options) as running:
            yield running
        self._passed += AWAY_SECONDS
        await self._postgres.put_lease_clock_forward(self._database, self._passed)


@pytest.fixture
def place(own_store: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    if not own_store:
        return Place(tmp_path)
    database = own_store["HOLDFAST_STORE"].rpartition("/")[2]
    return Place(tmp_path, request.getfixturevalue("postgres"), database)


def sequence(count: int, uses: str = "work") -> Any:
    steps = [
        {"id": f"s{n}", "uses": uses, "input": {"value": n}, "output": {"value": f"vars.v{n}"}} for n in range(count)
    ]
    steps.append({"id": "end", "uses": "pure", "input": {"value": "vars.v0"}, "output": {"value": "outputs.x"}})
    return skill("sequence", *steps, outputs="x")


async def died(running: Skilled, hanging: Hanging, agent: str, **options: Any) -> Run:
    """A run whose process dies (when the kernel is left) while it hangs, with all that it wrote on disk."""
    run = await running.start(agent, **options)
    await asyncio.wait_for(hanging.entered.wait(), 10)
    execution = running.kernel.worker.execution(run.number)
    assert execution is not None
    await execution.writer.durable()
    return run


async def ended(running: Skilled, run: Run) -> tuple[Run, list[dict[str, Any]]]:
    events = await running.kernel.events(run)
    return await running.kernel.runs.get(CALLER, run.run_id), events


async def seen(running: Skilled, run: Run, type: str, count: int = 1) -> None:
    """Wait until readers could have seen so many events of a type."""

    async def has_come() -> bool:
        return [event["type"] for event in await running.kernel.stored(run)].count(type) >= count

    await until(has_come)


def after_restart(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    place = next(place for place, event in enumerate(events) if event["type"] == "restarted")
    return events[place:]


@pytest.mark.parametrize("dying", range(4))
async def test_only_what_was_in_flight_is_done_again(place: Place, dying: int) -> None:
    first, second = Hanging(dying), Hanging()
    async with place.skilled([sequence(4)], [WORK, PURE], first.functions, crash=True) as running:
        run = await died(running, first, "skill:sequence")
    async with place.skilled([sequence(4)], [WORK, PURE], second.functions) as running:
        run, events = await ended(running, run)

    assert (run.status, events[-1]["output"]) == (Status.COMPLETED, {"x": 0})
    assert first.calls == list(range(dying + 1))
    assert second.calls == [*range(dying, 4), 0]
    restarted, again, *_ = after_restart(events)
    assert (again["step"], again["attempt"], again["reason"]) == (f"s{dying}", 2, "restart")
    assert restarted["discard_from"] == 1 + 2 * dying
    ends = [text for text in shown(events) if text.startswith("step_completed")]
    assert len(ends) == len(set(ends)) == 5
    assert [event["sequence"] for event in events] == list(range(len(events)))


async def test_branches_that_ended_beside_the_one_in_flight_are_not_run_again(place: Place) -> None:
    steps = [{"id": f"b{n}", "uses": "work", "input": {"value": n}, "depends_on": []} for n in range(4)]
    wide = skill("wide", *steps)
    first, second = Hanging(2), Hanging()
    async with place.skilled([wide], [WORK], first.functions, crash=True) as running:
        run = await died(running, first, "skill:wide")
        await seen(running, run, "step_completed", 3)
    async with place.skilled([wide], [WORK], second.functions) as running:
        run, _ = await ended(running, run)

    assert (run.status, sorted(first.calls), second.calls) == (Status.COMPLETED, [0, 1, 2, 3], [2])


async def test_items_on_record_are_not_called_again_and_stay_in_order(place: Place) -> None:
    each = skill(
        "each",
        {
            "id": "a",
            "uses": "work",
            "input": {"value": "item"},
            "foreach": {"items": "inputs.list", "parallel": 4},
            "output": {"value": "outputs.x"},
        },
        inputs="list",
        outputs="x",
    )
    first, second = Hanging(50), Hanging()
    async with place.skilled([each], [WORK], first.functions, crash=True) as running:
        run = await running.start("skill:each", {"list": list(range(100))})
        await asyncio.wait_for(first.entered.wait(), 20)
        execution = running.kernel.worker.execution(run.number)
        assert execution is not None
        await execution.writer.durable()
        recorded = {
            int(step.key.rpartition(":")[2])
            for step in await running.kernel.store.steps(run.number)
            if step.key.startswith("a/item:") and step.is_recorded
        }
    async with place.skilled([each], [WORK], second.functions) as running:
        run, events = await ended(running, run)

    assert len(recorded) >= 40
    assert recorded.isdisjoint(second.calls)
    assert events[-1]["output"] == {"x": list(range(100))}


@ONE_STORE
async def test_turns_of_a_loop_are_written_again_and_not_done_again(place: Place) -> None:
    loop = skill(
        "loop",
        {"id": "zero", "uses": "pure", "input": {"value": ["a"]}, "output": {"value": "vars.all"}},
        {
            "id": "a",
            "uses": "work",
            "input": {"value": "steps.a.output.value"},
            "output": {"value": "vars.all"},
            "merge_strategy": "append",
            "while": {"condition": "true", "max_iterations": 3},
        },
        {"id": "hang", "uses": "work", "input": {"value": "hang"}},
        {"id": "end", "uses": "pure", "input": {"value": "vars.all"}, "output": {"value": "outputs.x"}},
        outputs="x",
    )
    first, second = Hanging("hang"), Hanging()
    parts = [WORK, PURE]
    made = {**first.functions, "pure": lambda value: {"value": value}}
    async with place.skilled([loop], parts, made, crash=True) as running:
        run = await died(running, first, "skill:loop")
    async with place.skilled([loop], parts, {**second.functions, "pure": made["pure"]}) as running:
        run, events = await ended(running, run)

    assert second.calls == ["hang"]
    assert events[-1]["output"] == {"x": ["a", None, None, None]}


async def test_a_wait_before_the_next_attempt_outlives_the_process(place: Place) -> None:
    calls: list[int] = []

    def broken(value: int) -> None:
        calls.append(value)
        raise RuntimeError("not now")

    retry = {"max_attempts": 3, "backoff_seconds": 0.4, "backoff_multiplier": 1}
    tried = skill("tried", {"id": "a", "uses": "work", "input": {"value": 1}, "retry": retry})
    async with place.skilled([tried], [WORK], {"work": broken}, crash=True) as running:
        run = await running.start("skill:tried")
        await seen(running, run, "step_failed")
    async with place.skilled([tried], [WORK], {"work": broken}) as running:
        run, events = await ended(running, run)

    assert len(calls) == 3
    failed = [event for event in events if event["type"] == "step_failed"]
    assert [event["will_retry"] for event in failed] == [True, True, False]
    again = [event for event in events if event["type"] == "step_started"][1]
    assert (again["attempt"], again["timestamp"] >= failed[0]["retry_at"]) == (2, True)
    assert "reason" not in again


@ONE_STORE
async def test_a_call_that_a_crash_ended_does_not_count_against_the_attempts(place: Place) -> None:
    retry = {"max_attempts": 2, "backoff_seconds": 0}
    tried = skill("tried", {"id": "a", "uses": "work", "input": {"value": 1}, "retry": retry})
    first = Hanging(1)
    left = [1]

    def later(value: int) -> int:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("not now")
        return value

    async with place.skilled([tried], [WORK], first.functions, crash=True) as running:
        run = await died(running, first, "skill:tried")
    async with place.skilled([tried], [WORK], {"work": later}) as running:
        run, events = await ended(running, run)

    assert run.status is Status.COMPLETED
    assert [event["attempt"] for event in events if event["type"] == "step_started"] == [1, 2, 3]


# At most once


SINGLE = skill(
    "single", {"id": "a", "uses": "once", "input": {"value": 1}, "output": {"value": "outputs.x"}}, outputs="x"
)


async def unknown(place: Place, answer: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """A run whose process died inside of its one call; what was called after that, and all events."""
    first, second = Hanging(1), Hanging()
    async with place.skilled([SINGLE], [ONCE], first.functions, crash=True) as running:
        run = await died(running, first, "skill:single")
    async with place.skilled([SINGLE], [ONCE], second.functions) as running:
        await running.kernel.waiting(run)
        pending = [item for item in await running.kernel.store.interrupts(run.number) if item.is_pending]
        assert [(item.reason, item.answer_role) for item in pending] == [("outcome_unknown", "operator")]
        await running.kernel.runs.answer(OPERATOR, run.run_id, answer, interrupt_id=pending[0].interrupt_id)
        _, events = await ended(running, run)
    return second.calls, events


@ONE_STORE
async def test_a_person_decides_whether_a_call_is_made_again(place: Place) -> None:
    calls, events = await unknown(place, True)

    assert (calls, events[-1]["output"]) == ([1], {"x": 1})
    started = [(event["attempt"], event.get("reason")) for event in events if event["type"] == "step_started"]
    assert started == [(1, None), (2, "restart")]


async def test_a_person_may_know_what_the_call_made(place: Place) -> None:
    calls, events = await unknown(place, {"approved": True, "output": {"value": 5}})

    assert (calls, events[-1]["output"]) == ([], {"x": 5})


@ONE_STORE
async def test_a_denial_ends_it_with_an_unknown_outcome(place: Place) -> None:
    calls, events = await unknown(place, False)

    assert (calls, events[-1]["code"], events[-1]["details"]["status"]) == ([], "outcome_unknown", 409)


async def test_a_second_crash_while_the_question_is_open_asks_no_second_one(place: Place) -> None:
    first = Hanging(1)
    async with place.skilled([SINGLE], [ONCE], first.functions, crash=True) as running:
        run = await died(running, first, "skill:single")
    async with place.skilled([SINGLE], [ONCE], first.functions, crash=True) as running:
        await seen(running, run, "interrupt")
    second = Hanging(1)
    async with place.skilled([SINGLE], [ONCE], second.functions, crash=True) as running:
        await running.kernel.waiting(run)
        interrupts = await running.kernel.store.interrupts(run.number)
        await running.kernel.runs.answer(OPERATOR, run.run_id, True, interrupt_id=interrupts[0].interrupt_id)
        await asyncio.wait_for(second.entered.wait(), 10)
    third = Hanging()
    async with place.skilled([SINGLE], [ONCE], third.functions) as running:
        await running.kernel.waiting(run)
        again = await running.kernel.store.interrupts(run.number)

    assert len(interrupts) == 1
    assert [item.is_pending for item in again] == [False, True]  # the second call was cut off, too


async def test_a_confirmation_outlives_the_process_and_the_call_is_made_once(place: Place) -> None:
    confirmed = skill(
        "confirmed",
        {"id": "before", "uses": "work", "input": {"value": 0}},
        {"id": "a", "uses": "once", "input": {"value": 1}, "confirm": {}, "output": {"value": "outputs.x"}},
        outputs="x",
    )
    first, second = Hanging(), Hanging()
    async with place.skilled([confirmed], [WORK, ONCE], first.functions, crash=True) as running:
        run = await running.start("skill:confirmed")
        await running.kernel.waiting(run)
    async with place.skilled([confirmed], [WORK, ONCE], second.functions) as running:
        pending = await running.kernel.store.interrupts(run.number)
        await running.kernel.runs.answer(OPERATOR, run.run_id, True, interrupt_id=pending[0].interrupt_id)
        run, events = await ended(running, run)

    assert (first.calls, second.calls, events[-1]["output"]) == ([0], [1], {"x": 1})
    assert [text for text in shown(events) if text.startswith("step_started")] == [
        "step_started before",
        "step_started a",
    ]


@ONE_STORE
async def test_a_recorded_failure_is_not_tried_again(place: Place) -> None:
    pair = skill(
        "pair",
        {"id": "bad", "uses": "work", "input": {"value": 0}},
        {"id": "other", "uses": "pure", "input": {"value": 1}, "depends_on": []},
    )
    first, second = Hanging(1), Hanging()

    def broken(value: int) -> None:
        raise RuntimeError(f"broken {value}")

    made: dict[str, Any] = {"pure": first, "work": broken}
    async with place.skilled([pair], [WORK, PURE], made, crash=True) as running:
        run = await running.start("skill:pair", fail_fast=False)
        await seen(running, run, "step_failed")
    async with place.skilled([pair], [WORK, PURE], second.functions) as running:
        run, _ = await ended(running, run)

    assert (second.calls, run.status) == ([1], Status.COMPLETED)


async def test_a_run_goes_on_with_the_definition_that_it_began_with(place: Place) -> None:
    def text(value: str) -> Any:
        ask = {"id": "a", "uses": "pure", "input": {"value": value}, "confirm": {}, "output": {"value": "outputs.x"}}
        return skill("text", ask, outputs="x")

    hanging = Hanging()
    async with place.skilled([text("old")], [PURE], hanging.functions, crash=True) as running:
        run = await running.start("skill:text")
        await running.kernel.waiting(run)
    async with place.skilled([text("new")], [PURE], hanging.functions) as running:
        pending = await running.kernel.store.interrupts(run.number)
        await running.kernel.runs.answer(OPERATOR, run.run_id, True, interrupt_id=pending[0].interrupt_id)
        _, events = await ended(running, run)

    assert events[-1]["output"] == {"x": "old"}


@ONE_STORE
async def test_a_warning_of_a_gate_is_shown_again_with_its_step(place: Place) -> None:
    gates = [{"capability": "check", "on_fail": "warn"}]
    warned = skill("warned", {"id": "a", "uses": "work", "input": {"value": 1}, "pre_gates": gates})
    check = capability("check", "value", "allowed", side_effects=False)
    asked: list[Any] = []

    def refuse(value: Any) -> dict[str, Any]:
        asked.append(value)
        return {"allowed": False}

    first, second = Hanging(1), Hanging()
    parts = {**first.functions, "check": refuse}
    async with place.skilled([warned], [WORK, check], parts, crash=True) as running:
        run = await died(running, first, "skill:warned")
    async with place.skilled([warned], [WORK, check], {**second.functions, "check": refuse}) as running:
        run, events = await ended(running, run)

    assert asked == [1]
    assert shown(after_restart(events))[:3] == ["restarted", "step_started a #2", "safety_gate_warning a"]


@ONE_STORE
async def test_a_stop_begins_no_call_that_must_be_made_once(place: Place) -> None:
    """Whoever asks about a call that nobody made would be asked for nothing."""
    first, second = Hanging(0), Hanging()
    pair = skill(
        "pair",
        {"id": "before", "uses": "work", "input": {"value": 0}},
        {"id": "a", "uses": "once", "input": {"value": 1}, "output": {"value": "outputs.x"}},
        outputs="x",
    )
    async with place.skilled([pair], [WORK, ONCE], first.functions) as running:
        run = await died(running, first, "skill:pair")
    async with place.skilled([pair], [WORK, ONCE], second.functions) as running:
        run, events = await ended(running, run)

    assert (second.calls, events[-1]["output"]) == ([0, 1], {"x": 1})


@ONE_STORE
async def test_a_run_goes_on_whose_files_are_gone_and_no_new_one_starts(place: Place) -> None:
    ask = {"id": "a", "uses": "pure", "input": {"value": 1}, "confirm": {}, "output": {"value": "outputs.x"}}
    asking = skill("asking", ask, outputs="x")
    hanging = Hanging()
    async with place.skilled([asking], [PURE], hanging.functions) as running:
        run = await running.start("skill:asking")
        await running.kernel.waiting(run)
        running.library.by_id.clear()
        pending = await running.kernel.store.interrupts(run.number)
        await running.kernel.runs.answer(OPERATOR, run.run_id, True, interrupt_id=pending[0].interrupt_id)
        _, events = await ended(running, run)
        with pytest.raises(AgentNotFound):
            await running.start("skill:asking")
        with pytest.raises(AgentNotFound):
            await running.start("skill:never")

    assert events[-1]["output"] == {"x": 1}
