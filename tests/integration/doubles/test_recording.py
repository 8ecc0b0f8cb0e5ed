"""Recorded runs, and what a changed agent does differently."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import Context, agent
from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.function import FunctionAgent
from holdfast.agents.tools import Tools
from holdfast.client import AsyncEventStream, AsyncRunsClient
from holdfast.client.runtime import RunEvent
from holdfast.execution.program import Program
from holdfast.testing import FakeServer, Recording, Return, Token, record, replay, scripted
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


async def recorded(agent: Program, *, cancels: bool = False) -> Recording:
    """A run of which nobody answers anything: it is cancelled when it asks, or a day passes."""
    with FakeServer(agent) as server:
        async with AsyncRunsClient(server.url, server.key, transport=server.transport()) as client:
            run = await client.start({})
            events = [event async for event in until_it_asks(client.events(run.run_id))]
            if events[-1].type == "interrupt":
                if cancels:
                    await client.cancel(run.run_id)
                else:
                    await asyncio.to_thread(server.advance, 24 * 3600)
                async for _ in client.events(run.run_id):
                    pass
        return await record(server.url, run.run_id, api_key=server.key, transport=server.transport())


async def until_it_asks(events: AsyncEventStream[RunEvent]) -> AsyncIterator[RunEvent]:
    async with events:
        async for event in events:
            yield event
            if event.type == "interrupt":
                return


def shopper(*steps: str) -> FunctionAgent:
    @agent("shopper", restart="always")
    async def shopper(context: Context, input: dict[str, Any]) -> str:
        for step in steps:
            await context.step(step, lambda: 1)
        return "done"

    return shopper


@pytest.mark.parametrize(("today", "sequence"), [(("look", "pay"), 5), (("look", "ship"), 3), (("pay", "ship"), 1)])
async def test_a_step_that_is_left_out_is_told(today: tuple[str, str], sequence: int) -> None:
    """Its events are not shown by a replay in any case, so their absence alone tells nothing."""
    recording = await recorded(shopper("look", "pay", "ship"))

    difference = await replay(shopper(*today), recording)

    assert difference is not None
    assert (difference.sequence, difference.found) == (sequence, None)
    assert f'"step":"{(difference.expected or {})["step"]}"' in str(difference)


def asker(*, default: str | None, says: str = "Hm.") -> FunctionAgent:
    @agent("asker", restart="always")
    async def asker(context: Context, input: dict[str, Any]) -> str:
        await context.token(says)
        more = {} if default is None else {"default": default}
        answer: str = await context.ask("Go on?", choices=["yes", "no"], expires_in=3600, **more)
        await context.token(answer)
        return answer

    return asker


@pytest.mark.parametrize("default", ["no", None])
async def test_what_expired_expires_in_a_replay_at_once(default: str | None) -> None:
    """With a default the run goes on with it; without one it fails, and so does the replay."""
    recording = await recorded(asker(default=default))

    assert await replay(asker(default=default), recording) is None
    difference = await replay(asker(default="yes"), recording)
    assert difference is not None
    assert (difference.expected or {})["type"] == "interrupt"


async def test_a_run_that_was_cancelled_is_compared_up_to_there() -> None:
    recording = await recorded(asker(default=None), cancels=True)

    assert recording.events[-1]["type"] == "cancelled"
    assert await replay(asker(default=None), recording) is None
    assert await replay(asker(default=None, says="Well."), recording) is not None


async def test_of_long_values_the_place_is_shown_at_which_they_differ() -> None:
    recording = await recorded(scripted("teller", Token("a" * 1000 + "b"), Return(None)))

    difference = await replay(scripted("teller", Token("a" * 1000 + "c"), Return(None)), recording)

    assert re.fullmatch(r'at event 1: expected …a+b"}, found …a+c"}', str(difference))
    assert len(str(difference)) < 400


async def test_a_recording_of_another_version_is_told_as_such(tmp_path: Path) -> None:
    """Whatever that version has in its files."""
    path = tmp_path / "r.json"
    path.write_text('{"format": "holdfast-recording", "version": 2, "runs": []}')

    with pytest.raises(ValueError, match=r"expected holdfast-recording in version 1, found .* in version 2"):
        Recording.load(path)


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    server = FakeServer()

    with pytest.raises(ConnectionError, match=r"^http://localhost: .* refused"):
        await record(server.url, "r", transport=server.transport())
