"""What is learned from a turn, and that a crash neither loses nor doubles it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic_ai.models.test import TestModel

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.learning import LearningProgram
from holdfast.clock import HeldClock
from holdfast.errors import InvalidInput, RunNotFound
from holdfast.ids import SeededIds
from holdfast.memory import Memory
from holdfast.model import Run, Status
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing.model import Says, ScriptedModel
from tests.support.one_run import Died, OneRun

TENANT = "default"
FACTS = [
    {"subject": "billing", "content": " The Café pays on the 5th. ", "type": "rule"},
    {"subject": "", "content": " ", "type": "fact"},
]


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    store, clock = SQLiteStore(tmp_path), HeldClock()
    await store.open()
    yield Memory(store.memory, clock, SeededIds(clock))
    await store.close()


def turn(**changes: Any) -> Run:
    made = Run(
        number=3,
        run_id="turn-1",
        agent="assistant",
        agent_id="a",
        thread_id="t1",
        status=Status.COMPLETED,
        input=msgspec.json.encode({"message": "When does the Café pay?", "media": []}),
        output=b'"On the 5th."',
        created_at=1,
        ended_at=7,
        tail_sequence=9,
    )
    return msgspec.structs.replace(made, **changes)


def learning(memory: Memory, *turns: Run, facts: list[dict[str, str]] | None = None) -> OneRun:
    """A run that learns from a turn; the turn is seen in these states, one after the other."""
    seen = list(turns)

    async def wait_for_end(tenant: str, run_id: str) -> Run:
        assert (tenant, run_id) == (TENANT, "turn-1")
        if not seen:
            raise RunNotFound("deleted")
        return seen.pop(0) if len(seen) > 1 else seen[0]

    model = None if facts is None else TestModel(custom_output_args=facts)
    return OneRun(LearningProgram(memory, wait_for_end, model=model), {"turn_id": "turn-1"})


async def test_an_episode_is_written_once_the_turn_is_over(memory: Memory) -> None:
    run = learning(memory, turn(status=Status.RUNNING), turn())

    output: Any = await run.execute()

    assert output == {"episode": "turn_turn-1", "facts": []}
    (item,) = await memory.store.items(TENANT, "episodes")
    assert msgspec.json.decode(item.fields) == {
        "key": "turn",
        "description": "When does the Café pay?",
        "value": "On the 5th.",
        "occurred_at": 7,
        "task_id": "t1",
    }
    assert (item.source, item.task_id) == ("turn:turn-1", "t1")
    assert [event.fields["store"] for event in run.events if event.type == "memory"] == ["episodes"]


@pytest.mark.parametrize("changes", [{"status": Status.FAILED}, {"status": Status.CANCELLED}, {"superseded": True}])
async def test_nothing_is_learned_from_what_does_not_stand(memory: Memory, changes: dict[str, Any]) -> None:
    output: Any = await learning(memory, turn(**changes), facts=FACTS).execute()

    assert output == {"episode": None, "facts": []}
    assert (await memory.everything(TENANT)).items == []


async def test_nothing_is_learned_from_a_deleted_turn(memory: Memory) -> None:
    output: Any = await learning(memory).execute()

    assert output == {"episode": None, "facts": []}


async def test_a_light_model_finds_facts(memory: Memory) -> None:
    output: Any = await learning(memory, turn(), facts=FACTS).execute()

    (hit,) = await memory.search(TENANT, "knowledge", "cafe", limit=9)
    assert output["facts"] == [hit.item.item_id]
    assert msgspec.json.decode(hit.item.fields) == {
        "subject": "billing",
        "content": "The Café pays on the 5th.",
        "type": "rule",
    }
    assert (hit.item.confidence, hit.item.source) == (0.8, "turn:turn-1")


async def test_a_death_at_any_event_doubles_nothing(memory: Memory) -> None:
    whole = learning(memory, turn(), facts=FACTS)
    await whole.execute()

    for died_at in range(1, len(whole.events)):
        run = learning(memory, turn(), facts=FACTS)
        with pytest.raises(Died):
            await run.execute(die_at=died_at)
        await run.execute()

    found = await memory.everything(TENANT)
    assert sorted(item.store for item in found.items) == ["episodes", "knowledge"]


async def test_a_wrong_input_is_refused(memory: Memory) -> None:
    run = learning(memory, turn())
    run.input = {"turn": 1}

    with pytest.raises(InvalidInput):
        await run.execute()


async def test_a_turn_starts_what_learns_from_it_once_also_over_a_death() -> None:
    started: list[str] = []

    async def learn(run: Run) -> None:
        started.append(run.run_id)

    program = AssistantProgram(ScriptedModel([Says("Good.")]))
    program.use_learning(learn)
    run = OneRun(program, {"message": "x"})
    await run.execute()

    assert started == ["run-7"]
    assert "learn" in run.steps
