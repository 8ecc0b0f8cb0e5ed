"""The client of the Engine API, async and sync, against a real server; and the shapes that its users know."""

from __future__ import annotations

import ast
import asyncio
import inspect
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import EngineClient
from holdfast.client.engine import EngineEvent, HitlRequest, HitlResolved, TextDelta, ThreadLifecycle
from holdfast.client.errors import (
    AgentFailed,
    AgentNotFound,
    HitlNotFound,
    InvalidRequest,
    ItemNotFound,
    MethodNotFound,
    NoActiveTurn,
    NotConfigured,
    RunCancelled,
    SkillExists,
    SkillNotFound,
    TaskBusy,
    TaskNotFound,
    TurnNotFound,
)
from tests.support.proxy import Proxy
from tests.support.server import KEY, ServerProcess

SHAPES = Path(__file__).parents[4] / "shared" / "clients" / "engine_client_shape.py"

# The same loop, so that the suite is complete without the folder of documented clients.
RESILIENT = """
class ResilientStream:
    def __init__(self, client: EngineClient, message: str, task_id: str):
        self.client = client
        self.message = message
        self.task_id = task_id
        self.last_ts = 0

    def __iter__(self):
        try:
            for event in self.client.execute(self.message, self.task_id):
                self.last_ts = event["timestamp"]
                yield event
        except (ConnectionError, ReadTimeout):
            yield from self._replay()

    def _replay(self):
        for event in self.client.replay(self.task_id, after=self.last_ts):
            self.last_ts = event["timestamp"]
            yield event
"""


@pytest.fixture
def task_id() -> str:
    return f"task/{uuid.uuid4().hex[:8]} é"


async def test_a_turn_is_streamed_and_replayed(engine: Any, task_id: str) -> None:
    async with engine.stream("Hello", task_id, agent="tutor") as stream:
        events: list[EngineEvent] = [event async for event in stream]

    assert [event.type for event in events] == ["thread_lifecycle", "text_delta", "thread_lifecycle"]
    assert isinstance(events[1], TextDelta)
    assert (events[1].text, events[1].task_id) == ("Quan", task_id)
    assert await engine.execute("Again", task_id).result() == {"answer": "Quan"}
    everything = [event async for event in engine.replay(task_id)]
    assert everything[:3] == events
    assert len(everything) == 6
    assert [event async for event in engine.replay(task_id, after=events[2].timestamp)] == everything[3:]
    assert [event async for event in engine.replay(task_id, after=everything[-1].timestamp)] == []
    assert [event async for event in engine.replay(task_id, turn_id=stream.run_id)] == events
    assert [event async for event in engine.replay(task_id, turn_id=stream.run_id, after=events[-1].timestamp)] == []
    assert [event async for event in engine.replay(task_id, follow=False)] == everything
    assert everything[-1] in [event async for event in engine.replay(after=events[2].timestamp)]


async def test_a_person_is_asked_and_answers(engine: Any, task_id: str) -> None:
    seen = []
    async for event in engine.stream("Pay?", task_id, agent="ask"):
        seen.append(type(event))
        if isinstance(event, HitlRequest):
            pending = (await engine.hitl_pending(task_id))["pending"]
            assert [item["request_id"] for item in pending] == [event.request_id]
            told = await engine.hitl_respond(task_id, "yes", request_id=event.request_id)
            assert told == {"status": "resumed", "request_id": event.request_id}
            assert await engine.hitl_respond(task_id, "yes", request_id=event.request_id) == told

    assert seen == [ThreadLifecycle, HitlRequest, HitlResolved, ThreadLifecycle]
    with pytest.raises(HitlNotFound):
        await engine.hitl_respond(task_id, "no")


async def test_a_task_is_busy_until_its_turn_is_cancelled(engine: Any, task_id: str) -> None:
    stream = engine.stream("Go", task_id, agent="stuck")
    first = await anext(stream)
    with pytest.raises(TaskBusy) as busy:
        await engine.stream("Too", task_id).result()
    assert busy.value.details == {"turn_id": first.turn_id}

    assert (await engine.cancel(task_id))["status"] == "cancelling"

    with pytest.raises(RunCancelled):
        await stream.result()
    with pytest.raises(NoActiveTurn):
        await engine.cancel(task_id)


async def test_tasks_and_their_messages(engine: Any, task_id: str) -> None:
    with pytest.raises(AgentFailed, match="no such topic") as failed:
        await engine.stream("Hello", task_id, agent="fail").result()

    task = await engine.task(task_id)
    assert [turn["turn_id"] for turn in task["turns"]] == [failed.value.run_id]
    assert task_id in {task["task_id"] for task in (await engine.tasks(limit=100))["tasks"]}
    (message,) = (await engine.messages(task_id))["messages"]
    assert message["content"] == "Hello"
    assert await engine.delete_task(task_id) == {"status": "deleted", "task_id": task_id}
    with pytest.raises(TaskNotFound):
        await engine.task(task_id)


async def test_memory_and_feedback(engine: Any, task_id: str) -> None:
    word = f"w{uuid.uuid4().hex}"
    item = await engine.memory_write("knowledge", {"content": f"The Café pays {word}."})
    (found,) = await engine.memory_search("knowledge", word.upper(), 5)
    assert found["id"] == item["id"]
    assert (await engine.memory_items("knowledge", limit=1))["items"][0]["id"] == item["id"]
    assert (await engine.memory_item("knowledge", item["id"]))["content"] == item["content"]
    exported = await engine.memory_export()
    assert (await engine.memory_import(exported))["status"] == "imported"
    assert (await engine.memory_delete("knowledge", item["id"]))["status"] == "deleted"
    with pytest.raises(ItemNotFound):
        await engine.memory_item("knowledge", item["id"])
    assert (await engine.change_soul(identity=word))["identity"] == word
    assert (await engine.soul(full=True))["metadata"]["version"] >= 1

    await engine.stream("Hello", task_id, agent="tutor").result()
    given = await engine.feedback(task_id, "rating", score=4, comment="good")
    assert [one["id"] for one in (await engine.feedback_given(task_id))["feedback"]] == [given["id"]]
    with pytest.raises(InvalidRequest) as wrong:
        await engine.feedback(task_id, "rating", score=9)
    assert wrong.value.details["field"] == "score"


async def test_the_server_and_what_does_not_exist(engine: Any, task_id: str) -> None:
    assert (await engine.health())["status"] == "ok"
    assert await engine.ready()
    assert await engine.asset_servers() == []
    assert await engine.asset_connections() == []
    with pytest.raises(AgentNotFound):
        await engine.stream("Hello", task_id, agent="nope").result()
    with pytest.raises(TaskNotFound):
        await engine.replay(task_id).result()
    with pytest.raises(TurnNotFound):
        await engine.replay(turn_id="nope").result()


def test_the_client_has_the_shape_that_is_documented() -> None:
    if not SHAPES.exists():
        pytest.skip("the documented clients are not beside this checkout")
    shape = next(node for node in ast.parse(SHAPES.read_text()).body if isinstance(node, ast.ClassDef))
    for method in (node for node in shape.body if isinstance(node, ast.FunctionDef)):
        ours = list(inspect.signature(getattr(EngineClient, method.name)).parameters.values())
        names = [argument.arg for argument in method.args.args]

        assert [parameter.name for parameter in ours][: len(names)] == names, method.name
        assert {parameter.kind for parameter in ours[len(names) :]} <= {
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_KEYWORD,
        } or method.name in ("__init__", "replay"), method.name
    with EngineClient("http://127.0.0.1:1", "k", timeout=1.0) as client:
        assert inspect.signature(client.memory_search).parameters["limit"].default == 20


@pytest.mark.parametrize("source", ["ours", "documented"])
async def test_the_documented_resilient_stream_loses_nothing(
    server: ServerProcess, task_id: str, source: str, tmp_path: Path
) -> None:
    """It is cut in the middle of a turn; its own loop goes on by replay."""
    if source == "documented" and not SHAPES.exists():
        pytest.skip("the documented clients are not beside this checkout")
    text = RESILIENT if source == "ours" else SHAPES.read_text()
    made = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name != "EngineClient")
    names: dict[str, Any] = {"EngineClient": EngineClient, "ReadTimeout": TimeoutError}
    exec(compile(ast.Module([made], []), "documented", "exec"), names)
    gate = tmp_path / "gate"

    async with Proxy("127.0.0.1", server.port) as proxy:
        loop = asyncio.get_running_loop()

        def read() -> Iterator[Any]:
            with EngineClient(f"http://127.0.0.1:{proxy.port}", KEY) as client:
                for event in names["ResilientStream"](client, str(gate), task_id):
                    yield event
                    if event["type"] == "text_delta" and not gate.exists():
                        loop.call_soon_threadsafe(proxy.cut)
                        gate.touch()

        events = await asyncio.to_thread(lambda: list(read()))

    assert [event["sequence"] for event in events] == [0, 1, 2, 3]
    assert "".join(event.get("text", "") for event in events) == "beforeafter"


async def test_prompt_skills_and_calls_without_a_conversation(engine: Any, task_id: str) -> None:
    name = f"s{uuid.uuid4().hex}"
    made = await engine.create_prompt_skill(name, "Say {{x}}.", description="Says it.", capabilities=["say"])
    assert (made["prompt_template"], made["capabilities"]) == ("Say {{x}}.", ["say"])
    assert name in {skill["name"] for skill in await engine.prompt_skills()}
    with pytest.raises(SkillExists):
        await engine.create_prompt_skill(name, "Say it.")
    assert (await engine.change_prompt_skill(name, description="Other."))["description"] == "Other."
    assert (await engine.prompt_skill(name))["description"] == "Other."
    assert (await engine.delete_prompt_skill(name))["status"] == "deleted"
    with pytest.raises(SkillNotFound):
        await engine.prompt_skill(name)

    item = await engine.rpc("memory.write", {"store": "knowledge", "content": f"It is {name}."})
    assert [hit["id"] for hit in await engine.rpc("memory.search", {"store": "knowledge", "query": name})] == [
        item["id"]
    ]
    assert await engine.rpc("memory.soul")
    with pytest.raises(MethodNotFound):
        await engine.rpc("nope")

    await engine.stream("Hello", task_id, agent="tutor").result()
    assert await engine.delete_grants(task_id) == {"status": "deleted", "task_id": task_id}
    with pytest.raises(NotConfigured, match="HOLDFAST_CATALOG"):
        await engine.reload_catalog()
