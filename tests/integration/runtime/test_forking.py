"""Forking runs over HTTP; what a fork takes over is shown in tests/integration/kernel/test_forking.py."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.sse import read_all


def new_id() -> str:
    return f"t-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def stepped(server: ServerProcess) -> str:
    """A finished run with one step."""
    run_id = new_id()
    with server.client() as client:
        client.post(f"/agents/step/invoke?run_id={run_id}", json={"a": 1})
    return run_id


def test_a_fork_is_a_run_of_its_own_that_reuses_steps(client: httpx.Client, stepped: str) -> None:
    run_id, before = new_id(), client.get(f"/runs/{stepped}/export").content
    tail = client.get(f"/runs/{stepped}").json()["tail_sequence"]

    reply = client.post(f"/runs/{stepped}/fork?run_id={run_id}", json={"from_sequence": tail})

    assert (reply.status_code, reply.headers["location"]) == (202, f"/runs/{run_id}")
    assert reply.headers["x-run-id"] == run_id
    assert reply.json().keys() == {"run_id", "status", "events_url", "created_at"}
    run = client.get(f"/runs/{run_id}?wait=20").json()
    assert (run["status"], run["agent"], run["thread_id"], run["input"]) == ("completed", "step", run_id, {"a": 1})
    frames = read_all(client, "GET", f"/runs/{run_id}/events")
    assert [frame.event for frame in frames] == ["started", "complete"]
    assert frames[0].data["forked_from"] == {"run_id": stepped, "sequence": tail}
    (step,) = client.get(f"/runs/{run_id}/steps").json()["steps"]
    assert (step["key"], step["status"], step["reused"]) == ("fetch", "completed", True)
    assert client.get(f"/runs/{stepped}/export").content == before


def test_a_fork_from_a_step_executes_it_with_another_input(client: httpx.Client, stepped: str) -> None:
    reply = client.post(f"/runs/{stepped}/fork", json={"step": "fetch", "input": {"b": 2}})

    run_id = reply.json()["run_id"]
    assert client.get(f"/runs/{run_id}?wait=20").json()["input"] == {"b": 2}
    assert [step["reused"] for step in client.get(f"/runs/{run_id}/steps").json()["steps"]] == [False]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from_sequence": 0, "step": "fetch"},
        {"from_sequence": -1},
        {"from_sequence": "1"},
        {"from_sequence": True},
        {"from_sequence": 1.0},
        {"from_sequence": None},
        {"from_sequence": 1000},
        {"step": "none"},
        {"step": 1},
        {"step": "fetch", "input": []},
        {"step": "fetch", "agent": "tutor"},
    ],
)
def test_a_wrong_fork_is_refused_and_starts_nothing(client: httpx.Client, stepped: str, body: Any) -> None:
    newest = client.get("/runs?limit=1").json()["runs"][0]["number"]

    reply = client.post(f"/runs/{stepped}/fork", json=body)

    assert (reply.status_code, reply.json()["code"]) == (422, "VALIDATION_ERROR")
    assert client.get("/runs?limit=1").json()["runs"][0]["number"] == newest


def test_controls_of_a_fork_are_those_of_a_start(client: httpx.Client, stepped: str) -> None:
    path, body = f"/runs/{stepped}/fork", {"from_sequence": 0}
    headers = {"Idempotency-Key": new_id()}

    first = client.post(path, json=body, headers=headers)
    again = client.post(path, json=body, headers=headers)

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert client.post(path, json={"step": "fetch"}, headers=headers).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert client.post(f"{path}?run_id={stepped}", json=body).json()["code"] == "CONFLICT"
    assert client.post(f"{path}?agent=tutor", json=body).status_code == 422
    thread = new_id()
    inside = client.post(f"{path}?thread_id={thread}", json=body).json()["run_id"]
    assert client.get(f"/runs/{inside}?wait=20").json()["thread_id"] == thread
    assert client.post("/runs/none/fork", json=body).status_code == 404
