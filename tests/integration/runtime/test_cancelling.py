"""Cancelling and time limits reach every kind of code, and are final in time whatever the code does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess, running_server
from tests.support.sse import events, read_all

TERMINAL = ("complete", "error", "cancelled")


def executing(client: httpx.Client, agent: str, query: str = "", **input: Any) -> str:
    """A run whose code has begun to execute: its first token is there."""
    run_id = f"t-{uuid.uuid4().hex}"
    with client.stream("POST", f"/agents/{agent}/invoke/stream?run_id={run_id}{query}", json=input) as response:
        assert any(frame.event == "token" for frame in events(response))
    return run_id


def assert_one_end(client: httpx.Client, run_id: str, name: str) -> None:
    """The journal ends with this event and has no other end."""
    types = [frame.event for frame in read_all(client, "GET", f"/runs/{run_id}/events")]
    assert [item for item in types if item in TERMINAL] == [name]
    assert types[-1] == name


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_async_code_is_stopped_and_the_receipt_says_when(client: httpx.Client) -> None:
    run_id = executing(client, "stuck")

    reply = client.post(f"/runs/{run_id}/cancel", json={"reason": "left"})

    body = reply.json()
    assert (reply.status_code, body["status"], body["reason"]) == (200, "cancelled", "left")
    assert reply.headers["x-run-id"] == run_id
    assert 0 <= seconds_between(body["requested"], body["stopped"]) < 5
    assert_one_end(client, run_id, "cancelled")


def test_sync_code_that_looks_is_stopped(client: httpx.Client, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run_id = executing(client, "polite", note=str(note))

    body = client.delete(f"/runs/{run_id}").json()

    assert body["status"] == "cancelled"
    assert body["stopped"] is not None
    assert note.exists()
    assert_one_end(client, run_id, "cancelled")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Open at the end at the latest: the loop of a test that failed would take a processor from all that follow."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def test_an_endless_loop_is_final_within_5_seconds_and_fenced(client: httpx.Client, gate: Path) -> None:
    """Nobody can stop it, but what it does afterwards is recorded nowhere; meanwhile the receipt stays the same."""
    run_id = executing(client, "loop", gate=str(gate))
    while not gate.with_suffix(".in").exists():
        client.get("/health")

    early = client.delete(f"/runs/{run_id}?reason=first&wait=0")
    again = client.delete(f"/runs/{run_id}?reason=second&wait=0")
    final = client.delete(f"/runs/{run_id}?reason=third&wait=10")

    assert (early.status_code, early.json()["status"], early.json()["reason"]) == (202, "running", "first")
    assert again.json() == early.json()
    assert (final.status_code, final.json()) == (200, {**early.json(), "status": "cancelled"})
    assert final.json()["stopped"] is None
    run = client.get(f"/runs/{run_id}").json()
    assert seconds_between(run["cancel"]["requested"], run["completed_at"]) <= 5
    journal = client.get(f"/runs/{run_id}/export").content
    gate.touch()
    while not gate.with_suffix(".left").exists():
        client.get("/health")
    assert client.get(f"/runs/{run_id}/export").content == journal
    assert_one_end(client, run_id, "cancelled")


def test_a_waiting_run_is_cancelled_at_once(client: httpx.Client) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/ask/invoke?run_id={run_id}", json={})

    body = client.delete(f"/runs/{run_id}").json()

    assert body["status"] == "cancelled"
    assert client.get(f"/runs/{run_id}/interrupts").json() == {"interrupts": []}
    assert client.get(f"/runs/{run_id}").json()["interrupts"] == []
    assert_one_end(client, run_id, "cancelled")


@pytest.mark.one_store
def test_the_assistant_is_stopped_in_the_middle_of_its_answer(tmp_path: Path) -> None:
    slow = {"HOLDFAST_OFFLINE_WORD_DELAY_SECONDS": "0.5"}
    with running_server(tmp_path / "data", agents=None, environment=slow) as server, server.client() as client:
        run_id = executing(client, "assistant", message="Tell me a long story about the sea, please.")

        body = client.delete(f"/runs/{run_id}").json()

        assert body["status"] == "cancelled"
        assert body["stopped"] is not None
        assert_one_end(client, run_id, "cancelled")


def test_time_limits_end_code_of_every_kind_as_a_cancel_does(
    server: ServerProcess, client: httpx.Client, tmp_path: Path
) -> None:
    """At once, side by side: async code, sync code that looks, and an endless loop."""
    gate, note = tmp_path / "gate", tmp_path / "note"

    def invoke(call: tuple[str, dict[str, Any]]) -> httpx.Response:
        with server.client() as own:
            return own.post(f"/agents/{call[0]}", json=call[1])

    calls = [
        ("stuck/invoke?timeout=1", {}),
        ("stuck/invoke?timeout=600&timeout_sec=1", {}),
        ("polite/invoke?timeout_sec=1", {"note": str(note)}),
        ("loop/invoke?timeout=1", {"gate": str(gate)}),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        replies = list(pool.map(invoke, calls))
    gate.touch()

    for reply in replies:
        assert (reply.status_code, reply.json()["code"]) == (504, "TIMEOUT_ERROR")
        run_id = reply.json()["run_id"]
        assert client.get(f"/runs/{run_id}").json()["error"]["code"] == "TIMEOUT_ERROR"
        assert_one_end(client, run_id, "error")
    assert note.exists()


def test_waiting_does_not_count_as_execution(client: httpx.Client) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/ask/invoke?run_id={run_id}&timeout=1", json={})
    (interrupt,) = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]
    # Longer than the limit: a run that counted it would be over.
    overdue = client.get(f"/runs/{run_id}/events?timeout=2")
    assert overdue.text.endswith(": timeout\n\n")

    client.post(f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}", json={"answer": "yes"})

    assert client.get(f"/runs/{run_id}?wait=20").json()["output"] == {"answer": "yes"}
