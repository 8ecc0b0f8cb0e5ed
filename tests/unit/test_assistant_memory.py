"""What a turn remembers, what its tools write, and that a crash makes neither different."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart

from holdfast.agents.assistant import AssistantProgram
from holdfast.clock import HeldClock
from holdfast.execution.program import Result
from holdfast.ids import SeededIds
from holdfast.memory import Draft, Memory
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.one_run import Died, OneRun

TENANT = "default"


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    store, clock = SQLiteStore(tmp_path), HeldClock()
    await store.open()
    yield Memory(store.memory, clock, SeededIds(clock))
    await store.close()


def turn(memory: Memory, model: ScriptedModel, message: str = "Hello", *, run_id: str = "run-7") -> OneRun:
    program = AssistantProgram(model)
    program.use_memory(memory)
    return OneRun(program, {"message": message}, thread_id="t1", run_id=run_id)


async def know(memory: Memory, content: str, **fields: Any) -> str:
    draft = Draft(store="knowledge", fields={"subject": "", "content": content, "type": "fact", **fields})
    (written,) = await memory.write(TENANT, draft, source="test")
    return written.item.item_id


def prompts(messages: list[ModelMessage]) -> list[Any]:
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]


def instructions(messages: list[ModelMessage]) -> str:
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    return last.instructions or ""


async def test_the_model_gets_soul_found_items_and_working_memory(memory: Memory) -> None:
    await memory.change_soul(TENANT, {"identity": "You are Ada.", "values": ["care"]}, by="me")
    await know(memory, "The Café pays on the 5th.")
    await know(memory, "Nothing of that kind.")
    await memory.store.put_working(TENANT, "t1", number=1, key="step", value=b'{"at":2}', now=1)
    model = ScriptedModel([Says("Good.")])

    await turn(memory, model, "When does the cafe pay?").execute()

    told = instructions(model.messages[0])
    assert (
        told.index("helpful assistant")
        < told.index("You are Ada.")
        < told.index("- care")
        < told.index("The Café pays")
    )
    assert "Nothing of that kind." not in told
    assert prompts(model.messages[0]) == [
        'Working memory of this conversation:\nstep: {"at":2}',
        "When does the cafe pay?",
    ]


async def test_five_items_of_a_store_at_the_most_and_long_ones_cut(memory: Memory) -> None:
    for number in range(8):
        await know(memory, f"billing {number} " + "x" * 5_000)
    model = ScriptedModel([Says("Good.")])

    await turn(memory, model, "billing").execute()

    assert instructions(model.messages[0]).count("- knowledge:") == 5
    assert len(instructions(model.messages[0])) < 12_000


async def test_what_is_written_meanwhile_does_not_change_a_turn_that_is_executed_again(memory: Memory) -> None:
    await know(memory, "billing before")
    model = ScriptedModel([Calls("sum", {"numbers": [1]})], [Says("Good.")])
    run = turn(memory, model, "billing")

    with pytest.raises(Died):
        await run.execute(die_at=3)
    await know(memory, "billing meanwhile")
    await run.execute()

    assert {instructions(messages) for messages in model.messages} == {instructions(model.messages[0])}
    assert "meanwhile" not in instructions(model.messages[0])


async def test_notes_are_not_repeated_in_later_turns(memory: Memory) -> None:
    await memory.store.put_working(TENANT, "t1", number=1, key="step", value=b"1", now=1)
    result = await turn(memory, ScriptedModel([Says("Good.")])).execute()

    assert isinstance(result, Result)
    assert b"Working memory" not in (result.detail or b"")


async def test_knowledge_written_by_a_tool_is_told_and_found(memory: Memory) -> None:
    model = ScriptedModel(
        [Calls("knowledge_write", {"content": "The Café pays on the 6th.", "subject": "billing"}, "w")],
        [Calls("knowledge_search", {"query": "cafe"}, "s")],
        [Says("Good.")],
    )
    run = turn(memory, model)

    await run.execute()

    (item,) = await memory.store.items(TENANT, "knowledge")
    assert item.source == "turn:run-7"
    (told,) = [event.fields for event in run.events if event.type == "memory"]
    assert (told["store"], told["action"], told["item"]["id"]) == ("knowledge", "written", item.item_id)
    results = [event.fields for event in run.events if event.type == "tool_result"]
    assert results[0]["output"] == {"status": "written", "id": item.item_id}
    assert [hit["content"] for hit in results[1]["output"]] == ["The Café pays on the 6th."]


async def test_a_write_that_a_crash_cut_off_is_remembered_once(memory: Memory) -> None:
    script = (
        [Calls("memory_episode_write", {"description": "We met.", "value": {"where": "here"}}, "w")],
        [Says("Good.")],
    )
    # The write's own event is the last one before the death: it is done, and nobody knows.
    for died_at in range(1, 6):
        run = turn(memory, ScriptedModel(*script), run_id=f"run-{died_at}")
        with pytest.raises(Died):
            await run.execute(die_at=died_at)
        await run.execute()

    items = await memory.store.items(TENANT, "episodes")
    assert sorted(item.source for item in items) == [f"turn:run-{n}" for n in range(1, 6)]
    assert {item.task_id for item in items} == {"t1"}


async def test_working_memory_is_written_removed_and_told(memory: Memory) -> None:
    model = ScriptedModel(
        [Calls("working_memory_write", {"key": "step", "value": {"at": 2}}, "a")],
        [Calls("working_memory_write", {"key": "other", "value": 1}, "b")],
        [Calls("working_memory_write", {"key": "step", "value": None}, "c")],
        [Says("Good.")],
    )
    run = turn(memory, model)

    await run.execute()

    told = [event.fields for event in run.events if event.type == "memory"]
    assert [(each["action"], each["item"]) for each in told] == [
        ("written", {"key": "step", "value": {"at": 2}}),
        ("written", {"key": "other", "value": 1}),
        ("deleted", {"key": "step", "value": None}),
    ]
    assert await memory.working(TENANT, "t1") == {"other": 1}


@pytest.mark.parametrize(
    "arguments", [{"key": "big", "value": "x" * 20_000}, {"key": "", "value": 1}, {"key": "x" * 256, "value": 1}]
)
async def test_a_note_has_limits(memory: Memory, arguments: dict[str, Any]) -> None:
    model = ScriptedModel([Calls("working_memory_write", arguments)], [Says("Good.")])
    run = turn(memory, model)

    await run.execute()

    (result,) = [event.fields for event in run.events if event.type == "tool_result"]
    assert result["error"] == "invalid_input"
    assert await memory.working(TENANT, "t1") == {}


async def test_a_run_without_a_task_keeps_no_notes(memory: Memory) -> None:
    model = ScriptedModel([Calls("working_memory_write", {"key": "k", "value": 1})], [Says("Good.")])
    program = AssistantProgram(model)
    program.use_memory(memory)
    run = OneRun(program, {"message": "x"})

    await run.execute()

    (result,) = [event.fields for event in run.events if event.type == "tool_result"]
    assert result["error"] == "no_task"


def test_every_tool_of_the_memory_says_what_it_takes(memory: Memory) -> None:
    program = AssistantProgram(ScriptedModel())
    program.use_memory(memory)

    schemas = {tool.name: tool.parameters for tool in program.tools.all()}

    assert {"knowledge_search", "episode_search", "social_search", "knowledge_write", "memory_episode_write"} <= set(
        schemas
    )
    assert schemas["working_memory_write"]["required"] == ["key", "value"]
    assert msgspec.json.encode(schemas)
