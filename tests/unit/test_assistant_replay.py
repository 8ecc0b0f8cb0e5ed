"""The assistant dies at every event and is executed again: nothing that is recorded is done or told twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.models.offline.model import OfflineModel
from holdfast.agents.tools import Call, Tool, Tools, ask_human_tool
from holdfast.execution.program import Result
from holdfast.testing.model import Calls, Says, ScriptedModel, Thinks
from tests.support.one_run import Died, OneRun


class Item(msgspec.Struct):
    name: str


class Ledger:
    """What tools did, outside of the run; `recorded` has what was certain before each death."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    async def __call__(self, call: Call, input: Item) -> str:
        self.done[call.key] += 1
        return f"{input.name}!"


def story(ledger: Ledger) -> tuple[OneRun, ScriptedModel]:
    """Thinking, text, parallel calls, one with permission, a question, and an answer."""
    model = ScriptedModel(
        [Thinks("Hm. "), Says("Let me see. "), Calls("free", {"name": "a"}, "f1"), Calls("free", {"name": "b"}, "f2")],
        [
            Calls("guarded", {"name": "c"}, "g1"),
            Calls("guarded", {"name": "d"}, "g2"),
            Calls("free", {"name": "e"}, "f3"),
        ],
        [Calls("ask_human", {"question": "Go on?"}, "q1")],
        [Says("All "), Says("is "), Says("done.")],
    )
    tools = Tools(
        Tool(name="free", description="", input=Item, function=ledger),
        Tool(name="guarded", description="", input=Item, function=ledger, requires_permission=True),
        ask_human_tool(),
    )
    return OneRun(AssistantProgram(model, tools=tools), {"message": "Go."}), model


ANSWERS: dict[str, Any] = {"approve:g1": True, "approve:g2": False, "ask:q1": "yes"}


async def through(run: OneRun, **death: int) -> Result:
    """Execute, answering at once what is asked."""
    execution = run.start(**death)
    while not execution.task.done():
        for asked in run.pending:
            run.answer(asked, ANSWERS[asked.step])
        await asyncio.sleep(0)
    return await execution.result()


async def _whole() -> tuple[OneRun, Result]:
    run, _ = story(Ledger())
    return run, await through(run)


async def test_the_story_as_it_should_be() -> None:
    run, result = await _whole()

    assert result.text == run.text == "Let me see. \n\nAll is done."
    assert run.types().count("tool_call") == run.types().count("tool_result") == 6


LENGTH, STEPS = 45, 10


async def test_the_story_has_the_length_that_is_cut_below() -> None:
    run, _ = await _whole()

    assert (len(run.events), len(run.steps)) == (LENGTH, STEPS)


DEATHS = [
    *({"die_at": number} for number in range(1, LENGTH + 1)),
    *({"die_after": number} for number in range(1, STEPS + 1)),
]


@pytest.mark.parametrize("death", DEATHS, ids=str)
async def test_wherever_it_dies_it_goes_on_where_the_record_ends(death: dict[str, int]) -> None:
    whole, expected = await _whole()
    ledger = Ledger()
    run, model = story(ledger)
    with pytest.raises(Died):
        await through(run, **death)
    certain = {key for key, step in run.steps.items() if step.is_recorded}
    asked_before, done_before = Counter(model.asked), Counter(ledger.done)

    result = await through(run)

    for number, times in asked_before.items():
        key = "model" if number == 0 else f"model#{number + 1}"
        assert model.asked.count(number) - times == (key not in certain)
    for name, times in done_before.items():
        assert ledger.done[name] - times == (f"tool:{name}" not in certain)
    assert result.text == run.text == expected.text
    assert Counter(run.types()) == Counter(whole.types())
    assert _told(run) == _told(whole)


def _told(run: OneRun) -> list[tuple[str, Any, Any]]:
    """Calls and results, whichever of the parallel ones came first."""
    events = run.seen("tool_call", "tool_result")
    return sorted((e.type, e.fields["tool_call_id"], str(e.fields.get("output"))) for e in events)


@pytest.mark.parametrize("deaths", [1, 3])
async def test_a_long_answer_survives_deaths_in_the_middle(deaths: int) -> None:
    model = OfflineModel(word_delay_seconds=0)
    run = OneRun(AssistantProgram(model), {"message": "Count to 50."})
    for death in range(1, deaths + 1):
        with pytest.raises(Died):
            await run.execute(die_at=death * 20)

    result = await run.execute()

    assert result.text == run.text == ", ".join(str(n) for n in range(1, 51)) + "."


async def test_executed_again_after_its_end_it_says_and_does_nothing() -> None:
    ledger = Ledger()
    run, model = story(ledger)
    first = await through(run)
    events, asked, done = len(run.events), list(model.asked), Counter(ledger.done)

    again = await run.execute()

    assert (again.output, again.usage, again.stop_reason) == (first.output, first.usage, first.stop_reason)
    assert (len(run.events), model.asked, ledger.done) == (events, asked, done)
