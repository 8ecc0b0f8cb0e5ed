"""Objects with `invoke`, and maybe `stream`, as agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from holdfast.agents.adapting import adapted, is_adaptable, is_runnable
from holdfast.agents.target import TargetError, load_target
from tests.support.kernel import kernel


class Invokes:
    def invoke(self, payload: Any) -> Any:
        return {"got": payload}


class InvokesAsync:
    async def invoke(self, payload: Any, context: Any = None) -> Any:
        await context.token("seen ")
        return {"got": payload, "context": type(context).__name__}


class Streams:
    """Its `invoke` must not be called as well."""

    def invoke(self, payload: Any) -> Any:
        raise AssertionError("it was to be streamed")

    def stream(self, payload: Any) -> Iterator[Any]:
        yield "Quan"
        yield "tum"


class StreamsStates(Streams):
    def stream(self, payload: Any) -> Iterator[Any]:
        yield {"n": 1}
        yield "text"
        yield {"n": 2}


class StreamsUpdates:
    def invoke(self, payload: Any) -> Any:
        raise AssertionError("it was to be streamed")

    async def astream(self, payload: Any) -> AsyncIterator[Any]:
        yield {"load": {"a": 1}}
        yield {"think": {"b": 2}}


class StreamsModes(Streams):
    def stream(self, payload: Any, stream_mode: Any = "values") -> Iterator[Any]:
        assert set(stream_mode) == {"updates", "values", "messages", "custom"}
        yield "values", {"q": 1}
        yield "custom", {"type": "progress", "step": "s", "progress": 0.5}
        yield "custom", {"type": "note", "a": 1}
        yield "messages", ("word", {})
        yield "updates", {"load": {"a": 1}}
        yield "values", {"q": 1, "a": 1}


@pytest.mark.parametrize(
    ("value", "events", "output"),
    [
        (Invokes(), [], {"got": {"q": 1}}),
        (InvokesAsync(), [("token", "seen ")], {"got": {"q": 1}, "context": "Context"}),
        (Streams(), [("token", "Quan"), ("token", "tum")], "Quantum"),
        (StreamsStates(), [("token", "text")], {"n": 2}),
        (StreamsUpdates(), [("step_completed", None), ("step_completed", None)], {"q": 1, "a": 1, "b": 2}),
        (
            StreamsModes(),
            [("progress", None), ("note", None), ("token", "word"), ("step_completed", None)],
            {"q": 1, "a": 1},
        ),
    ],
)
async def test_what_an_object_streams_becomes_events_and_its_final_state_the_output(
    tmp_path: Path, value: Any, events: list[tuple[str, Any]], output: Any
) -> None:
    async with kernel(tmp_path, adapted(value, "object")) as served:
        found = await served.events(await served.start("object", {"q": 1}))

    assert [(event["type"], event.get("content")) for event in found[1:-1]] == events
    assert found[-1].get("output", found[-1]) == output


async def test_a_runnable_of_langchain_streams_the_text_of_its_model(tmp_path: Path) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "{topic}")])
    chain = prompt | FakeListChatModel(responses=["kelp"]) | StrOutputParser()

    async with kernel(tmp_path, adapted(chain, "chain")) as served:
        events = await served.events(await served.start("chain", {"topic": "sea"}))

    assert [event["content"] for event in events if event["type"] == "token"] == ["k", "e", "l", "p"]
    assert events[-1]["output"] == "kelp"
    assert events[0]["framework"] == "langchain"


GRAPH = """
from typing import TypedDict
from langgraph.graph import StateGraph, START

class State(TypedDict):
    n: int

def one(state: State) -> State:
    return {"n": 1}

builder = StateGraph(State)
builder.add_node("one", one)
builder.add_edge(START, "one")
graph = builder.compile()
"""
MODEL = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

helper = Agent(TestModel(), name="x")
"""
GENERATOR = """
async def words(input):
    yield "a"
"""
OBJECT = """
class Engine:
    def invoke(self, payload):
        return payload

engine = Engine()
"""


@pytest.mark.parametrize(
    ("text", "name", "framework"),
    [
        (GRAPH, "graph", "langgraph"),
        (MODEL, "helper", "pydantic-ai"),
        (GENERATOR, "words", "custom"),
        (OBJECT, "engine", "custom"),
    ],
)
def test_a_file_is_served_by_what_is_in_it(tmp_path: Path, text: str, name: str, framework: str) -> None:
    file = tmp_path / f"serves_{name}.py"
    file.write_text(text)

    for target in (str(file), f"{file}:{name}"):
        (program,) = load_target(target)
        assert (program.name, program.framework) == (name, framework)


def test_of_several_objects_one_has_to_be_named(tmp_path: Path) -> None:
    file = tmp_path / "serves_two.py"
    file.write_text(OBJECT + "other = Engine()\n")

    with pytest.raises(TargetError, match=r"name one: .*:engine or .*:other"):
        load_target(str(file))


def test_what_is_no_agent_is_not_taken_for_one() -> None:
    assert not is_adaptable(Invokes())
    assert is_runnable(Invokes())
    assert not is_runnable(Invokes)
    assert not is_runnable("text")
