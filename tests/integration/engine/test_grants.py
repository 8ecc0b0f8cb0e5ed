"""Check 24: what a person said `always` to, over turns, restarts and its end; on a whole server without a process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.permission import input_hash
from holdfast.testing.fake_server import FakeServer

SUM = {"message": "What is 2 + 3?"}


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

    async def ask(self, task: str = "t") -> str:
        """Start a turn that adds, and leave at once; its id."""
        async with self._client.stream("POST", "/execute", json={"task_id": task, **SUM}) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    return str(json.loads(line[5:])["turn_id"])
        raise AssertionError("nothing came")

    async def frames(self, turn_id: str) -> list[dict[str, Any]]:
        """Those of a turn, to its end."""
        found: list[dict[str, Any]] = []
        async with self._client.stream("GET", f"/execute/replay?task_id=t&turn_id={turn_id}") as stream:
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
async def person(tmp_path: Path) -> AsyncIterator[Person]:
    (tmp_path / "policy.json").write_text('[{"tool": "sum", "action": "ask", "rule": "arithmetic"}]')
    settings = {"CATALOG_DIR": str(tmp_path), "HOLDFAST_LEARNING": "false"}
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


async def test_grants_of_an_unknown_task_are_not_found(person: Person) -> None:
    assert (await person.call("DELETE", "/tasks/none/grants", status=404))["error"] == "TASK_NOT_FOUND"
    assert (await person.call("DELETE", "/tasks/none/grants?all=1", status=422))["error"] == "INVALID_REQUEST"
