"""Recorded runs, and what a changed agent does differently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import Context, agent
from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.function import FunctionAgent
from holdfast.agents.tools import Tools
from holdfast.testing import FakeServer, Recording, record, replay
from holdfast.testing.model import Says, ScriptedModel

Start = Callable[..., FakeServer]
called: list[str] = []


def shop(*, word: str = "Hello", price: str = "fetch price", asks: str = "Buy it?") -> FunctionAgent:
    """An agent with tokens, a step, a question, a client's tool and an end."""

    @agent("shop", restart="always")
    async def shop(context: Context, input: dict[str, Any]) -> dict[str, Any]:
        def fetch() -> int:
            called.append(price)
            return 7

        await context.token(word)
        cost = await context.step(price, fetch)
        answer = await context.ask(asks)
        stock = await context.call_tool("stock.count", {"name": input["name"]})
        await context.emit("bought", {"cost": cost})
        return {"cost": cost, "answer": answer, "stock": stock}

    return shop


@pytest.fixture
async def recording(fake_server: Start, tmp_path: Path) -> Recording:
    """Of a run of the first shop."""
    server = fake_server(shop())
    headers = {"X-API-Key": server.key}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, transport=server.transport()) as client:
        await client.post("/agents/shop/invoke?run_id=r", json={"name": "tea"})
        for _ in range(2):
            open_ones = [i for i in (await client.get("/runs/r/interrupts")).json()["interrupts"] if i["by"] is None]
            calls = open_ones[0]["tool_calls"]
            answer = [{"tool_call_id": calls[0]["tool_call_id"], "output": "12"}] if calls else "yes"
            path = f"/runs/r/interrupts/{open_ones[0]['interrupt_id']}"
            assert (await client.post(path, json={"answer": answer})).status_code == 200
            await client.get("/runs/r?wait=10")
    found = await record(server.url, "r", api_key=server.key, transport=server.transport())
    found.save(tmp_path / "r.json")
    assert Recording.load(tmp_path / "r.json") == found
    return found


async def test_the_same_agent_does_the_same_and_calls_nothing(recording: Recording) -> None:
    called.clear()

    assert await replay(shop(), recording) is None
    assert called == []


@pytest.mark.parametrize(
    ("changed", "sequence", "told"),
    [
        ({"word": "Hi"}, 1, '"content":"Hi"'),
        ({"price": "look it up"}, None, "step look it up is not on record"),
        ({"asks": "Really buy it?"}, None, "Really buy it?"),
    ],
)
async def test_the_first_event_that_differs_is_told(
    recording: Recording, changed: dict[str, str], sequence: int | None, told: str
) -> None:
    called.clear()

    difference = await replay(shop(**changed), recording)

    assert difference is not None
    assert told in str(difference)
    assert sequence in (None, difference.sequence)
    assert called == []


async def test_what_is_not_done_any_more_is_told(recording: Recording) -> None:
    @agent("shop")
    async def silent(context: Context, input: dict[str, Any]) -> None:
        await context.token("Hello")

    difference = await replay(silent, recording)

    assert difference is not None
    assert difference.found is not None
    assert difference.found["type"] == "complete"


async def test_an_assistant_is_replayed_without_its_model(
    fake_server: Start, replayed_run: Any, tmp_path: Path
) -> None:
    server = fake_server(AssistantProgram(ScriptedModel([Says("Hello "), Says("you")]), tools=Tools()))
    headers = {"X-API-Key": server.key}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, transport=server.transport()) as client:
        assert (await client.post("/agents/assistant/invoke?run_id=r", json={"message": "Hi"})).status_code == 200
    recorded = await record(server.url, "r", api_key=server.key, transport=server.transport())
    recorded.save(tmp_path / "r.json")

    silent = ScriptedModel()
    await replayed_run(AssistantProgram(silent, tools=Tools()), tmp_path / "r.json")

    assert silent.asked == []


async def test_a_fixture_tells_a_difference_as_a_failure(
    recording: Recording, replayed_run: Any, tmp_path: Path
) -> None:
    recording.save(tmp_path / "r.json")
    with pytest.raises(pytest.fail.Exception, match='"content":"Hi"'):
        await replayed_run(shop(word="Hi"), tmp_path / "r.json")


async def test_only_a_run_that_is_over_is_recorded(fake_server: Start) -> None:
    server = fake_server(shop())
    headers = {"X-API-Key": server.key}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, transport=server.transport()) as client:
        await client.post("/agents/shop/invoke?run_id=r", json={"name": "tea"})
    for run_id, told in (("r", "is waiting"), ("none", "answered 404")):
        with pytest.raises(ValueError, match=told):
            await record(server.url, run_id, api_key=server.key, transport=server.transport())


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, told in (("{}", "no recording"), ("[", "no recording")):
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            Recording.load(path)
