"""One conversation over two servers of one Postgres, each in this process: what one is told, the other knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.catalog import Catalogs, catalogs
from holdfast.testing import FakeServer
from tests.integration.engine.test_permissions import Person
from tests.support.catalogs import write, write_agent
from tests.support.postgres import PostgresServer
from tests.support.stores import new_postgres_store
from tests.support.until import until

ASKS = [{"tool": "sum", "action": "ask", "rule": "arithmetic"}]


class Servers:
    """Servers of one store and one catalog directory, and somebody with a key who calls any of them."""

    def __init__(self, root: Path, store: dict[str, str], running: contextlib.ExitStack) -> None:
        self.root, self._store, self._running = root, store, running

    def read(self) -> Catalogs:
        """The catalog as a process reads it before it opens the store."""
        return Catalogs(str(self.root), assistant(), taken=["assistant"])

    def start(self, catalog: Catalogs | None = None, **settings: str) -> Person:
        settings = {"HOLDFAST_LEARNING": "false", **self._store, **settings}
        server = FakeServer(assistant(), catalog=catalog or self.read(), settings=settings)
        return Person(self._running.enter_context(server))


def assistant() -> AssistantProgram:
    return AssistantProgram(offline_word_delay_seconds=0)


@pytest.fixture
def servers(tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    monkeypatch.setattr(catalogs, "FOLLOW_SECONDS", 0.05)
    write_agent(tmp_path, "clerk", "You are the clerk.", tools=["sum"], default=True)
    with new_postgres_store(postgres) as store, contextlib.ExitStack() as running:
        yield Servers(tmp_path, store, running)


async def default_of(person: Person) -> str:
    return str((await person.call("GET", "/agents"))["default"])


async def test_a_reload_reaches_the_other_process_and_its_next_turn(servers: Servers) -> None:
    """Agents, default and policy; and what the told one refuses reaches nobody."""
    told, other = servers.start(), servers.start()
    assert await default_of(other) == "clerk"
    assert await other.is_asked() is None
    write_agent(servers.root, "clerk", "You are the clerk.", tools=["sum"])
    write_agent(servers.root, "chief", "You are the chief.", tools=["sum"], default=True)
    broken = write(servers.root / "policy.json", "[")

    await told.call("POST", "/admin/reload-catalog", status=422)
    await other.call("GET", "/agents/chief/info", status=404)
    write(broken, ASKS)
    await told.call("POST", "/admin/reload-catalog")

    async def has_heard() -> bool:
        return await default_of(other) == "chief"

    await until(has_heard)
    asked = await other.is_asked()
    assert asked is not None
    assert asked["rule"] == "arithmetic"


async def test_a_process_that_starts_during_a_reload_hears_of_it(servers: Servers) -> None:
    """It had read its files already, and was not there yet to be told."""
    told, early = servers.start(), servers.read()
    write_agent(servers.root, "clerk", "You are the clerk.")
    write_agent(servers.root, "fresh", "You are fresh.", default=True)
    await told.call("POST", "/admin/reload-catalog")

    late = servers.start(early)

    async def has_heard() -> bool:
        return await default_of(late) == "fresh"

    await until(has_heard)


async def test_what_one_process_asks_is_shown_and_answered_at_the_other(servers: Servers) -> None:
    """The stream that was opened where the turn began goes on to its end; `always` holds at both."""
    write(servers.root / "policy.json", ASKS)
    here, there = servers.start(), servers.start()
    whole = asyncio.create_task(here.turn())

    async def pending() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await there.call("GET", "/hitl/pending"))["pending"]
        return found

    [asked] = await until(pending)
    answer = {"task_id": "t", "answer": "always", "request_id": asked["request_id"]}
    await there.call("POST", "/hitl/respond", answer)
    await there.call("POST", "/hitl/respond", answer)  # the same again is a success
    other = await here.call("POST", "/hitl/respond", {**answer, "answer": "no"}, status=409)
    frames = await whole

    assert other["error"] == "HITL_ALREADY_ANSWERED"
    assert [frame["answer"] for frame in frames if frame["type"] == "hitl_resolved"] == ["always"]
    assert (frames[-1]["phase"], frames[-1]["output"]) == ("completed", "2 + 3 = 5.")
    (request,) = [place for place, frame in enumerate(frames) if frame["type"] == "hitl_request"]
    assert await there.frames(frames[0]["turn_id"]) == frames[: request + 1]
    assert await there.frames(frames[0]["turn_id"], frames[request]) == frames[request + 1 :]
    assert await here.is_asked() is None
    assert await there.is_asked() is None


async def test_a_conversation_goes_on_wherever_it_is_called(servers: Servers) -> None:
    """Edit, retry, feedback and memory: each at another process than what came before it."""
    here, there = servers.start(), servers.start()
    first = (await here.turn("Say hello."))[-1]
    second = (await there.turn("What is 2 + 3?"))[0]
    shown = await here.call("GET", "/tasks/t/messages")
    edited = await here.turn("Say hello in French.", edit_message_id=second["user_message_id"])
    retried = await there.turn(None, retry_message_id=edited[0]["user_message_id"])
    correction = {"task_id": "t", "turn_id": retried[0]["turn_id"], "feedback_type": "correction"}
    await here.call("POST", "/feedback", {**correction, "correction": "Zanzibar says Salut."}, status=201)

    learned = await there.call("POST", "/memory/knowledge/search", {"query": "zanzibar"})
    exported = await there.call("GET", "/memory/export")
    imported = await here.call("POST", "/memory/import", exported)

    assert [item["content"] for item in shown["messages"]] == [
        "Say hello.",
        first["output"],
        "What is 2 + 3?",
        "2 + 3 = 5.",
    ]
    assert edited[0]["supersedes"] == [second["turn_id"]]
    assert retried[0]["supersedes"] == [edited[0]["turn_id"]]
    assert retried[-1]["output"] == edited[-1]["output"]
    messages = (await here.call("GET", "/tasks/t/messages"))["messages"]
    assert [item["content"] for item in messages] == [
        "Say hello.",
        first["output"],
        "Say hello in French.",
        edited[-1]["output"],
    ]
    assert len(learned) == 1
    assert imported["counts"]["knowledge"] == {"added": 0, "updated": 0, "unchanged": 1}
