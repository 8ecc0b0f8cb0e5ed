"""
Check 24: `always` and its end, and the question after a crash; on a whole server without a process of its own, on both
stores.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.permission import input_hash
from holdfast.agents.tools import Call, Tool, Tools
from holdfast.testing.fake_server import FakeServer
from tests.support.obeying_model import obeying_model

SUM = "What is 2 + 3?"


class Person:
    """Somebody with the key of an admin."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self._client = httpx2.AsyncClient(
            transport=server.transport(), base_url=server.url, headers={"X-Engine-Key": server.key}
        )

    async def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self._client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def ask(self, message: str = SUM) -> str:
        """Start a turn, by itself one that adds, and leave at once; its id."""
        async with self._client.stream("POST", "/execute", json={"task_id": "t", "message": message}) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    return str(json.loads(line[5:])["turn_id"])
        raise AssertionError("nothing came")

    async def turn(self, message: str | None = SUM, **fields: Any) -> list[dict[str, Any]]:
        """A whole turn, by itself one that adds; its frames but for heartbeats."""
        body = {"task_id": "t", **({} if message is None else {"message": message}), **fields}
        async with self._client.stream("POST", "/execute", json=body) as stream:
            assert stream.status_code == 200, await stream.aread()
            found = [json.loads(line[5:]) async for line in stream.aiter_lines() if line.startswith("data:")]
        return [frame for frame in found if frame["type"] != "heartbeat"]

    async def frames(self, turn_id: str, after: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Those of a turn behind a frame, to the next question or to its end."""
        found: list[dict[str, Any]] = []
        path = f"/execute/replay?task_id=t&turn_id={turn_id}&after={0 if after is None else after['timestamp']}"
        async with self._client.stream("GET", path) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    found.append(json.loads(line[5:]))
                    if found[-1]["type"] == "hitl_request":
                        break
        return found

    async def is_asked(self) -> dict[str, Any] | None:
        """What a new turn asks; None: it ran to its end without."""
        last = (await self.frames(await self.ask()))[-1]
        if last["type"] == "hitl_request":
            return last
        assert last["phase"] == "completed", last
        return None

    async def answer(self, asked: dict[str, Any], answer: str, **fields: Any) -> None:
        given = {"task_id": "t", "answer": answer, "request_id": asked["request_id"], **fields}
        await self.call("POST", "/hitl/respond", given)
        while (await self.call("GET", "/tasks/t"))["status"] != "idle":
            pass


@pytest.fixture
async def person(own_store: dict[str, str], tmp_path: Path) -> AsyncIterator[Person]:
    (tmp_path / "policy.json").write_text('[{"tool": "sum", "action": "ask", "rule": "arithmetic"}]')
    settings = {"CATALOG_DIR": str(tmp_path), "HOLDFAST_LEARNING": "false", **own_store}
    async with FakeServer(AssistantProgram(offline_word_delay_seconds=0), settings=settings) as server:
        yield Person(server)


async def test_always_holds_for_the_task_until_it_is_ended(person: Person) -> None:
    asked = await person.is_asked()
    assert asked is not None
    assert (asked["rule"], asked["choices"]) == ("arithmetic", ["yes", "no", "always"])
    assert asked["input_hash"] == input_hash("sum", asked["input"])
    await person.answer(asked, " Always ", input_hash=asked["input_hash"])

    assert await person.is_asked() is None
    person.server.restart(kill=True)
    assert await person.is_asked() is None
    [grant] = (await person.call("GET", "/tasks/t"))["grants"]
    assert {name: grant[name] for name in ("tool", "rule", "host", "turn_id")} == {
        "tool": "sum",
        "rule": "arithmetic",
        "host": None,
        "turn_id": asked["turn_id"],
    }

    assert await person.call("DELETE", "/tasks/t/grants") == {"status": "deleted", "task_id": "t"}

    assert (await person.call("GET", "/tasks/t"))["grants"] == []
    assert await person.is_asked() is not None


async def test_grants_go_with_their_task(person: Person) -> None:
    asked = await person.is_asked()
    assert asked is not None
    await person.answer(asked, "always")
    await person.call("DELETE", "/tasks/t")

    assert await person.is_asked() is not None

    assert (await person.call("GET", "/tasks/t"))["grants"] == []


class Order(msgspec.Struct):
    item: str


async def test_after_a_crash_inside_a_call_the_question_says_all_about_it_and_offers_no_always(
    own_store: dict[str, str],
) -> None:
    inside, made = threading.Event(), []

    async def buy(call: Call, input: Order) -> str:
        made.append(input.item)
        inside.set()
        if len(made) == 1:
            await asyncio.Event().wait()
        return "bought"

    tool = Tool(name="buy", description="", input=Order, function=buy, at_most_once=True)
    program = AssistantProgram(obeying_model(), tools=Tools(tool))
    async with FakeServer(program, settings={"HOLDFAST_LEARNING": "false", **own_store}) as server:
        person = Person(server)
        turn_id = await person.ask(message='[["buy", {"item": "tea"}]]')
        await asyncio.to_thread(inside.wait)
        server.restart(kill=True)
        asked = (await person.frames(turn_id))[-1]
        again = {"task_id": "t", "answer": "always", "request_id": asked["request_id"]}
        refused = await person.call("POST", "/hitl/respond", again, status=422)
        await person.answer(asked, "yes", input_hash=asked["input_hash"])
        [result] = [frame for frame in await person.frames(turn_id, after=asked) if frame["type"] == "tool_result"]

    assert (asked["rule"], asked["tool"], asked["tool_call_id"]) == ("outcome_unknown", "buy", "c0")
    assert (asked["input"], asked["input_hash"]) == ({"item": "tea"}, input_hash("buy", {"item": "tea"}))
    assert (asked["choices"], asked["default"]) == (["yes", "no"], "no")
    assert asked["expires_at"] is not None
    assert refused["error"] == "INVALID_ANSWER"
    assert (result["output"], made) == ("bought", ["tea", "tea"])


@pytest.mark.one_store("there is nothing in it")
async def test_grants_of_an_unknown_task_are_not_found(person: Person) -> None:
    assert (await person.call("DELETE", "/tasks/none/grants", status=404))["error"] == "TASK_NOT_FOUND"
    assert (await person.call("DELETE", "/tasks/none/grants?all=1", status=422))["error"] == "INVALID_REQUEST"
