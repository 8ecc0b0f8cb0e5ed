"""One set of calls against a server process and against the fake: the answers are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.testing import FakeServer
from tests.support import doubled_agents
from tests.support.server import KEY, running_server

VOLATILE = {"timestamp", "request_id", "x-request-id", "date", "retry", "latency_seconds", "duration_ms", "expires_at"}
VOLATILE |= {
    "interrupt_id",
    "requested",
    "stopped",
    "created_at",
    "started_at",
    "completed_at",
    "number",
    "tool_call_id",
}
VOLATILE |= {"instance", "interrupts", "answered_at"}

Talk = Callable[[httpx2.AsyncClient], Any]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    data = tmp_path_factory.mktemp("real") / "data"
    environment = {"HOLDFAST_HEARTBEAT_SECONDS": "1"}
    with running_server(data, agents=Path(doubled_agents.__file__), environment=environment) as server:
        yield server.url, KEY


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer(*doubled_agents.AGENTS) as server:
        yield server


async def _whole(client: httpx2.AsyncClient, method: str, path: str, **more: Any) -> list[Any]:
    """A stream from beginning to end: status, and its events."""
    async with client.stream(method, path, **more) as response:
        lines = [line async for line in response.aiter_lines()]
    return [response.status_code, *lines]


async def streams(client: httpx2.AsyncClient) -> Any:
    return [
        await _whole(client, "POST", f"/agents/{name}/invoke/stream?run_id={name}-1", json={"word": "x"})
        for name in ("story", "fails", "tide")
    ]


async def resuming(client: httpx2.AsyncClient) -> Any:
    await client.post("/agents/tide/invoke?run_id=resumed", json={})
    return [
        await _whole(client, "GET", "/runs/resumed/events", headers={"Last-Event-ID": "150"}),
        await _whole(client, "GET", "/runs/resumed/events?from_sequence=195"),
        await _whole(client, "GET", "/runs/resumed/events", headers={"Last-Event-ID": "201"}),
    ]


async def refusals(client: httpx2.AsyncClient) -> Any:
    answers = [
        await client.post("/agents/story/invoke", json={}, headers={"X-API-Key": "wrong"}),
        await client.get("/runs/none"),
        await client.post("/agents/nobody/invoke", json={}),
        await client.post("/agents/story/invoke", content=b"{", headers={"Content-Type": "application/json"}),
        await client.get("/nowhere"),
        await client.delete("/health"),
        await client.get("/runs/none/events", headers={"Last-Event-ID": "x"}),
    ]
    return [(answer.status_code, answer.json(), dict(answer.headers)) for answer in answers]


async def asking(client: httpx2.AsyncClient) -> Any:
    told = [await client.post("/agents/asks/invoke?run_id=asked", json={})]
    pending = (await client.get("/runs/asked/interrupts")).json()["interrupts"]
    [question] = [item for item in pending if item["status"] == "pending"]
    path = f"/runs/asked/interrupts/{question['interrupt_id']}"
    told += [await client.post(path, json={"answer": answer}) for answer in ("c", "a", "a", "b")]
    told.append(await client.get("/runs/asked?wait=10"))
    pending = (await client.get("/runs/asked/interrupts")).json()["interrupts"]
    [approval] = [item for item in pending if item["status"] == "pending"]
    told.append(await client.post(f"/runs/asked/interrupts/{approval['interrupt_id']}", json={"answer": False}))
    told.append(await client.get("/runs/asked?wait=10"))
    return [(answer.status_code, answer.json()) for answer in told], await _whole(client, "GET", "/runs/asked/events")


async def once(client: httpx2.AsyncClient) -> Any:
    headers = {"Idempotency-Key": "k1"}
    answers = [
        await client.post("/runs?agent=story", json={"word": word}, headers=headers) for word in ("x", "x", "other")
    ]
    ids = [answer.json().get("run_id") for answer in answers]
    return [answer.status_code for answer in answers], ids[0] == ids[1], ids[2]


async def cancelling(client: httpx2.AsyncClient) -> Any:
    await client.post("/agents/asks/invoke?run_id=left", json={})
    answers = [await client.delete("/runs/left?reason=enough"), await client.delete("/runs/left")]
    return [(answer.status_code, answer.json()) for answer in answers], await _whole(client, "GET", "/runs/left/events")


@pytest.mark.parametrize("talk", [streams, resuming, refusals, asking, once, cancelling])
async def test_the_fake_answers_as_the_real_one(talk: Talk, real: tuple[str, str], fake: FakeServer) -> None:
    url, key = real
    async with httpx2.AsyncClient(base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=30) as client:
        expected = await talk(client)
    headers = {"X-API-Key": fake.key}
    async with httpx2.AsyncClient(base_url=fake.url, headers=headers, transport=fake.transport(), timeout=30) as client:
        found = await talk(client)

    assert _stable(found) == _stable(expected)


def _stable(value: Any) -> Any:
    """Without what no two answers have in common."""
    if isinstance(value, dict):
        return {name: _stable(item) for name, item in value.items() if name not in VOLATILE}
    if isinstance(value, list | tuple):
        return [_stable(item) for item in value if not (isinstance(item, str) and item.startswith("retry:"))]
    if isinstance(value, str) and value.startswith("data: {"):
        return _stable(json.loads(value.removeprefix("data: ")))
    return re.sub(r"int_[0-9a-f]{16}", "int_0", value) if isinstance(value, str) else value
