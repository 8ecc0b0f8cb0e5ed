"""Calls of /rpc that take too long, and those that a crash cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.tools import Call, Tool, Tools
from holdfast.api.engine import rpc
from holdfast.testing import FakeServer
from holdfast.testing.model import ScriptedModel

BODY = {"method": "tool.slow", "params": {}}


class Nothing(msgspec.Struct):
    """Takes no arguments."""


class Slow:
    """A tool that does not come to an end by itself."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.calls = 0

    async def run(self, call: Call, arguments: Any) -> str:
        self.calls += 1
        self._loop_of_the_test.call_soon_threadsafe(self.begun.set)
        await asyncio.Event().wait()
        return "never"

    @property
    def tools(self) -> Tools:
        self._loop_of_the_test = asyncio.get_running_loop()
        return Tools(
            Tool(name="slow", description="Takes for ever.", input=Nothing, function=self.run),
            Tool(name="quick", description="Takes no time.", input=Nothing, function=_quick),
        )


async def _quick(call: Call, arguments: Any) -> str:
    return "done"


@pytest.fixture
async def slow() -> Slow:
    return Slow()


@pytest.fixture
async def client(
    own_store: dict[str, str], fake_server: Callable[..., FakeServer], slow: Slow
) -> AsyncIterator[tuple[FakeServer, Any]]:
    program = AssistantProgram(ScriptedModel(), tools=slow.tools)
    server = fake_server(program, settings=own_store)
    await asyncio.to_thread(program.preload)  # which is no part of a call's time
    headers = {"X-API-Key": server.key}
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, transport=server.transport(), timeout=30
    ) as made:
        yield server, made


@pytest.mark.one_store("it is about the time that a call takes")
async def test_a_call_that_takes_too_long_is_stopped(
    client: tuple[FakeServer, Any], slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the first call loads takes longer than the limit on a busy machine, and then the tool is not even called.
    (await client[1].post("/rpc", json={"method": "tool.quick", "params": {}})).raise_for_status()
    monkeypatch.setattr(rpc, "CALL_SECONDS", 1)

    refused = await client[1].post("/rpc", json=BODY)

    assert (refused.status_code, refused.json()["error"]) == (504, "TOOL_TIMEOUT")
    assert slow.calls == 1


async def test_a_call_that_a_crash_cut_off_is_not_made_again(client: tuple[FakeServer, Any], slow: Slow) -> None:
    server, http = client
    headers = {"Idempotency-Key": "once"}
    calling = asyncio.create_task(http.post("/rpc", json=BODY, headers=headers))
    await slow.begun.wait()
    await asyncio.to_thread(server.restart)
    with pytest.raises(httpx2.TransportError):
        await calling

    again = await http.post("/rpc", json=BODY, headers=headers)

    assert (again.status_code, again.json()["error"]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert "unknown" in again.json()["message"]
    assert slow.calls == 1
