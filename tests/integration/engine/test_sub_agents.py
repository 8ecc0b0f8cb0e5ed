"""Parts of a turn that other agents do, on both stores; plans made before it, and thinking at length."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.catalog import Catalogs
from holdfast.testing import FakeServer
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.catalogs import write_agent
from tests.support.sse import Frame, frames

Start = Callable[..., FakeServer]
ONE_STORE = pytest.mark.one_store("what is asked of the model does not depend on the store")


class Hanging(ScriptedModel):
    """Does not come to the end of the response to its n-th request, where a test says so."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.hangs_in: int | None = None
        self.hangs = threading.Event()

    async def _respond(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        number = len(self.asked)
        async for piece in super()._respond(messages, info):
            yield piece
            if number == self.hangs_in:
                self.hangs.set()
                await asyncio.Event().wait()


class World:
    """A fake server with agents of a catalog, and a client of it."""

    def __init__(self, start: Start, root: Path, store: dict[str, str], *script: Any, **assistant: Any) -> None:
        self.model = Hanging(*script)
        program = AssistantProgram(self.model, **assistant)
        catalog = Catalogs(str(root), AssistantProgram(self.model, **assistant), taken=["assistant"])
        self.server = start(program, catalog=catalog, settings={"HOLDFAST_LEARNING": "false", **store})
        headers = {"X-API-Key": self.server.key}
        transport = self.server.transport()
        self.client = httpx2.AsyncClient(base_url=self.server.url, headers=headers, transport=transport, timeout=30)

    async def execute(self, message: str, task_id: str = "t", **fields: Any) -> list[Frame]:
        """A whole turn."""
        return await self._read("POST", "/execute", json={"task_id": task_id, "message": message, **fields})

    async def replay(self, task_id: str = "t") -> list[Frame]:
        """All frames of a task, once its turn is over."""
        return await self._read("GET", f"/execute/replay?task_id={task_id}")

    async def until_asked(self, message: str, **fields: Any) -> dict[str, Any]:
        """Start a turn, and what it asks."""
        body = {"task_id": "t", "message": message, **fields}
        async with self.client.stream("POST", "/execute", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith('data: {"type":"hitl_request"'):
                    asked: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return asked
        raise AssertionError("nothing was asked")

    async def _read(self, method: str, path: str, **more: Any) -> list[Frame]:
        async with self.client.stream(method, path, **more) as response:
            assert response.status_code == 200, await response.aread()
            lines = [line async for line in response.aiter_lines()]
        return [frame for frame in frames(lines) if frame.event is not None]


@pytest.fixture
async def world(own_store: dict[str, str], fake_server: Start, tmp_path: Path) -> AsyncIterator[Callable[..., World]]:
    made: list[World] = []

    def make(*script: Any, **assistant: Any) -> World:
        made.append(World(fake_server, tmp_path, own_store, *script, **assistant))
        return made[-1]

    yield make
    for item in made:
        await item.client.aclose()


def of(found: list[Frame], name: str) -> list[dict[str, Any]]:
    return [frame.data for frame in found if frame.event == name]


def total(found: list[Frame]) -> int:
    return sum(usage["input_tokens"] for usage in of(found, "usage"))


async def test_a_sub_agent_works_in_the_same_turn_and_its_frames_say_so(
    world: Callable[..., World], tmp_path: Path
) -> None:
    write_agent(tmp_path, "lead", "You lead.", sub_agents=["critic"])
    write_agent(tmp_path, "critic", "You are the critic.", tools=["sum"])
    it = world([Calls("delegate", {"agent": "critic", "task": "Judge 1 + 2"}, id="d1")], [Says("The critic agrees.")])
    it.model.parts["Judge 1 + 2"] = [[Calls("sum", {"numbers": [1, 2]}, id="s1")], [Says("It is fine.")]]

    found = await it.execute("Is it right?", agent="lead")

    deltas = of(found, "sub_agent_delta")
    assert {(each["agent"], each["parent_tool_call_id"]) for each in deltas} == {("critic", "d1")}
    assert "".join(each["content"] for each in deltas) == "It is fine."
    assert [each["text"] for each in of(found, "text_delta")] == ["The critic agrees."]
    assert [(each["tool"], each.get("agent")) for each in of(found, "tool_call")] == [
        ("delegate", None),
        ("sum", "critic"),
    ]
    results = {each["tool"]: each for each in of(found, "tool_result")}
    assert (results["sum"]["output"], results["sum"]["parent_tool_call_id"]) == ("3", "d1")
    assert json.loads(results["delegate"]["output"])["output"] == "It is fine."
    assert "agent" not in results["delegate"]
    ended = of(found, "thread_lifecycle")[-1]
    assert (ended["output"], ended["usage"]["input_tokens"]) == ("The critic agrees.", total(found))
    assert len({frame.data["turn_id"] for frame in found}) == 1
    assert "You are the critic." in str(it.model.messages[1])
    assert "Is it right?" not in str(it.model.messages[1])


async def test_what_a_sub_agent_asks_outlives_a_crash_and_no_finished_request_is_made_again(
    world: Callable[..., World], tmp_path: Path
) -> None:
    write_agent(tmp_path, "lead", "You lead.", sub_agents=["critic"])
    write_agent(tmp_path, "critic", "You judge.", tools=["ask_human"])
    it = world([Calls("delegate", {"agent": "critic", "task": "Judge"}, id="d1")], [Says("So be it.")])
    it.model.parts["Judge"] = [[Calls("ask_human", {"question": "How strict?"}, id="q1")], [Says("Strictly: no.")]]

    asked = await it.until_asked("Is it right?", agent="lead")
    await asyncio.to_thread(it.server.restart)
    answered = await it.client.post("/hitl/respond", json={"task_id": "t", "answer": "very"})
    found = await it.replay()

    assert asked["question"] == "How strict?"
    assert answered.status_code == 200
    assert it.model.asked == [0, 0, 1, 1]  # lead, critic, critic, lead: each once
    ended = of(found, "thread_lifecycle")[-1]
    assert (ended["output"], ended["usage"]["input_tokens"]) == ("So be it.", total(found))
    assert "".join(each["content"] for each in of(found, "sub_agent_delta")) == "Strictly: no."


async def test_sub_agents_are_three_deep_at_the_most(world: Callable[..., World], tmp_path: Path) -> None:
    write_agent(tmp_path, "echo", "You delegate.", sub_agents=["echo"])
    it = world([Calls("delegate", {"agent": "echo", "task": "level 1"}, id="d0")], [Says("top")])
    for level in (1, 2, 3):
        deeper = Calls("delegate", {"agent": "echo", "task": f"level {level + 1}"}, id=f"d{level}")
        it.model.parts[f"level {level}"] = [[deeper], [Says(f"out of {level}")]]

    found = await it.execute("Go", agent="echo")

    assert [each["error"] for each in of(found, "tool_result") if "error" in each] == ["unknown_tool"]
    assert len(of(found, "tool_call")) == 4
    assert of(found, "thread_lifecycle")[-1]["output"] == "top"


async def test_three_deep_one_asks_and_another_process_goes_on_inside_of_the_innermost(
    world: Callable[..., World], tmp_path: Path
) -> None:
    """Killed while a person is asked and in the answer after that: that answer is paid again, and nothing else."""
    write_agent(tmp_path, "echo", "You delegate.", sub_agents=["echo"], tools=["ask_human", "sum"])
    it = world([Calls("delegate", {"agent": "echo", "task": "level 1"}, id="d0")], [Says("top")])
    for level in (1, 2):
        deeper = Calls("delegate", {"agent": "echo", "task": f"level {level + 1}"}, id=f"d{level}")
        it.model.parts[f"level {level}"] = [[deeper], [Says(f"out of {level}")]]
    added, asks = Calls("sum", {"numbers": [1, 2]}, id="s3"), Calls("ask_human", {"question": "How deep?"}, id="q3")
    it.model.parts["level 3"] = [[added], [asks], [Says("out "), Says("of 3")]]

    asked = await it.until_asked("Go", agent="echo")
    await asyncio.to_thread(it.server.restart)
    it.model.hangs_in = len(it.model.asked)
    answered = await it.client.post("/hitl/respond", json={"task_id": "t", "answer": "three"})
    assert await asyncio.to_thread(it.model.hangs.wait, 30)
    await asyncio.to_thread(it.server.restart)
    found = await it.replay()

    assert (asked["question"], answered.status_code) == ("How deep?", 200)
    assert it.model.asked == [0, 0, 0, 0, 1, 2, 2, 1, 1, 1]  # inwards, the third's second and its third twice, outwards
    results = {each["tool_call_id"]: each for each in of(found, "tool_result")}
    assert results["s3"]["output"] == "3"
    assert [json.loads(results[f"d{level}"]["output"])["output"] for level in (0, 1, 2)] == [
        "out of 1",
        "out of 2",
        "out of 3",
    ]
    assert len(of(found, "tool_result")) == 5
    ended = of(found, "thread_lifecycle")[-1]
    assert (ended["output"], ended["usage"]["input_tokens"]) == ("top", total(found))
    numbered = [frame.data["sequence"] for frame in found if frame.event != "heartbeat"]
    assert numbered == list(range(len(numbered)))
    void = [range(each["discard_from"], each["sequence"]) for each in of(found, "restarted")]
    kept = [each for each in of(found, "sub_agent_delta") if not any(each["sequence"] in places for places in void)]
    assert "".join(each["content"] for each in kept) == "out of 3out of 2out of 1"


@ONE_STORE
async def test_an_agent_that_is_none_of_its_own_is_a_tool_error(world: Callable[..., World], tmp_path: Path) -> None:
    write_agent(tmp_path, "lead", "You lead.", sub_agents=["critic"])
    write_agent(tmp_path, "critic")
    write_agent(tmp_path, "stranger")
    it = world([Calls("delegate", {"agent": "stranger", "task": "x"})], [Says("Then not.")])

    found = await it.execute("Go", agent="lead")

    assert of(found, "tool_result")[0]["error"] == "unknown_agent"
    assert of(found, "thread_lifecycle")[-1]["output"] == "Then not."


@ONE_STORE
async def test_a_plan_is_made_first_unless_the_caller_wants_none(world: Callable[..., World]) -> None:
    planner = ScriptedModel([Says('```json\n["Look.", "Answer."]\n```')])
    it = world([Says("Done.")], planner=planner)

    planned = await it.execute("How is it?", "a", agent="assistant")
    direct = await it.execute("How is it?", "b", agent="assistant", direct=True)

    assert of(planned, "plan")[0]["data"] == {"steps": ["Look.", "Answer."]}
    assert "1. Look." in str(it.model.messages[0])
    assert of(planned, "thread_lifecycle")[-1]["usage"]["input_tokens"] == total(planned)
    assert of(direct, "plan") == []
    assert "1. Look." not in str(it.model.messages[1])


@ONE_STORE
@pytest.mark.parametrize("answer", ["no plan", "[1, 2]", '["a"', ""])
async def test_a_planner_that_makes_no_plan_keeps_nothing_up(world: Callable[..., World], answer: str) -> None:
    down = ModelHTTPError(400, "planner")
    it = world([Says("Done.")], planner=ScriptedModel([Says(answer) if answer else down]))

    found = await it.execute("How is it?", agent="assistant")

    assert of(found, "thread_lifecycle")[-1]["output"] == "Done."
    assert all(each["data"] == {"steps": []} for each in of(found, "plan"))


@ONE_STORE
@pytest.mark.parametrize(
    ("fields", "thinking"),
    [({}, None), ({"super_thinking": True}, "high"), ({"effort": "high"}, "high"), ({"effort": "low"}, None)],
)
async def test_thinking_at_length_is_asked_of_the_model(
    world: Callable[..., World], fields: dict[str, Any], thinking: str | None
) -> None:
    it = world([Says("Hm.")])

    await it.execute("Think", agent="assistant", **fields)

    assert it.model.thinking == [thinking]
