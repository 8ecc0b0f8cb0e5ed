"""Agents of pydantic-ai as they are: streamed, their model requests and tools done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydantic
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.models.test import TestModel

from holdfast.agents.adapting import adapted
from holdfast.execution.program import AgentSpec, ToolPolicy
from holdfast.model import Status
from tests.support.kernel import kernel


def calling(requests: list[int]) -> FunctionModel:
    """A model that calls `add`, then tells what it gave."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        requests.append(1)
        returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if not returned:
            yield {0: DeltaToolCall(name="add", json_args='{"a": 2, "b": 3}', tool_call_id="call_1")}
        else:
            for piece in ("It is ", str(returned[-1].content)):
                yield piece

    return FunctionModel(stream_function=stream)


async def test_requests_and_tools_are_shown_and_the_output_is_the_agents(tmp_path: Path) -> None:
    helper = Agent(calling([]))

    @helper.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    async with kernel(tmp_path, adapted(helper, "helper")) as served:
        events = await served.events(await served.start("helper", {"message": "2 + 3?"}))

    assert "".join(event["content"] for event in events if event["type"] == "token") == "It is 5"
    (called,) = [event for event in events if event["type"] == "tool_call"]
    (gave,) = [event for event in events if event["type"] == "tool_result"]
    assert (called["input"], gave["output"], gave["tool_call_id"]) == ({"a": 2, "b": 3}, 5, "call_1")
    assert events[-1]["output"] == "It is 5"
    assert events[-1]["usage"]["output_tokens"] > 0


async def test_what_was_done_before_a_crash_is_not_done_again(tmp_path: Path) -> None:
    requests: list[int] = []
    ran: list[str] = []
    reached, go_on = asyncio.Event(), asyncio.Event()
    helper = Agent(calling(requests))

    @helper.tool_plain
    async def add(a: int, b: int) -> int:
        ran.append("add")
        reached.set()
        await go_on.wait()
        return a + b

    async with kernel(tmp_path, adapted(helper, "helper"), crash=True) as served:
        run = await served.start("helper", {"message": "2 + 3?"})
        await reached.wait()
    assert requests == [1]
    go_on.set()
    async with kernel(tmp_path, adapted(helper, "helper")) as served:
        ended = await served.finished(run)

    assert (ended.status, ended.output) == (Status.COMPLETED, b'"It is 5"')
    assert requests == [1, 1]
    assert ran == ["add", "add"]


async def test_structured_output_becomes_json(tmp_path: Path) -> None:
    class City(pydantic.BaseModel):
        name: str
        people: int

    async with kernel(tmp_path, adapted(Agent(TestModel(), output_type=City), "cities")) as served:
        events = await served.events(await served.start("cities", "any"))

    assert events[-1]["output"] == {"name": "a", "people": 0}


async def test_a_tool_may_ask_for_another_try_and_a_denied_one_is_not_called(tmp_path: Path) -> None:
    ran: list[str] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        made = [
            part
            for message in messages
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, ToolCallPart)
        ]
        names = ["shaky", "shaky", "erase"]
        if len(made) < len(names):
            yield {0: DeltaToolCall(name=names[len(made)], json_args="{}", tool_call_id=f"call_{len(made)}")}
        else:
            yield "done"

    helper = Agent(FunctionModel(stream_function=stream))

    @helper.tool_plain
    def shaky() -> str:
        ran.append("shaky")
        if len(ran) == 1:
            raise ModelRetry("once more")
        return "there"

    @helper.tool_plain
    def erase() -> str:
        ran.append("erase")
        return "erased"

    program: Any = adapted(helper, "helper", spec=AgentSpec(tools=ToolPolicy(denied=("erase",))))
    async with kernel(tmp_path, program) as served:
        events = await served.events(await served.start("helper", "go"))

    assert ran == ["shaky", "shaky"]
    results = [(event.get("error"), event.get("output")) for event in events if event["type"] == "tool_result"]
    assert results == [("retry", None), (None, "there"), ("tool_denied", None)]
    assert events[-1]["output"] == "done"
