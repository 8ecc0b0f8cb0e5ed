"""Starting runs: `/invoke`, `/invoke/stream`, `/runs`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import httpx
import pytest

from tests.support.sse import read_all


def new_id() -> str:
    return f"t-{uuid.uuid4().hex}"


def test_invoke_answers_with_the_output(client: httpx.Client) -> None:
    reply = client.post("/invoke", json={"query": "explain"})

    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-run-id"]
    body = reply.json()
    assert body["success"] is True
    assert body["output"] == {"answer": "Quan"}
    assert body["metadata"].keys() == {"agent", "framework", "latency_seconds"}


def test_invoke_stream_has_the_frames_of_the_specification(client: httpx.Client) -> None:
    run_id = new_id()

    with client.stream(
        "POST", f"/invoke/stream?run_id={run_id}", json={"query": "x"}, headers={"X-Request-Id": "r-1"}
    ) as response:
        text = response.read().decode()

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-run-id"] == run_id
    opening, *blocks = text.removesuffix("\n\n").split("\n\n")
    assert opening.startswith("retry: ")
    assert 1000 <= int(opening.removeprefix("retry: ")) <= 3000
    lines = [block.split("\n") for block in blocks]
    assert [line[0] for line in lines] == ["id: 0", "id: 1", "id: 2"]
    assert [line[1] for line in lines] == ["event: started", "event: token", "event: complete"]
    for line in lines:
        assert line[2].startswith('data: {"id":"evt_')
        assert line[2].endswith(',"request_id":"r-1"}')


def test_the_stream_without_its_request_id_has_the_bytes_of_the_events_call(client: httpx.Client) -> None:
    run_id = new_id()
    started = client.post(f"/invoke/stream?run_id={run_id}", json={}, headers={"X-Request-Id": "r-1"}).text

    read = client.get(f"/runs/{run_id}/events").text

    assert started.split("\n", 1)[1].replace(',"request_id":"r-1"}', "}") == read.split("\n", 1)[1]


def test_a_run_is_accepted_and_its_first_event_is_stored(client: httpx.Client) -> None:
    run_id = new_id()

    reply = client.post(f"/runs?run_id={run_id}", json={})

    assert reply.status_code == 202
    assert reply.headers["location"] == f"/runs/{run_id}"
    assert reply.json().keys() == {"run_id", "status", "events_url", "created_at"}
    assert reply.json()["status"] == "accepted"
    assert client.get(f"/runs/{run_id}").json()["tail_sequence"] >= 0


@pytest.mark.parametrize("path", ["invoke", "invoke/stream"])
def test_a_caller_that_leaves_does_not_end_its_run(client: httpx.Client, path: str, tmp_path: Path) -> None:
    run_id, gate = new_id(), tmp_path / "gate"
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"/agents/gated/{path}?run_id={run_id}", json={"gate": str(gate)}, timeout=1)

    assert client.get(f"/runs/{run_id}").json()["status"] == "running"
    gate.touch()
    assert client.get(f"/runs/{run_id}?wait=20").json()["status"] == "completed"


def test_each_agent_has_its_own_paths(client: httpx.Client) -> None:
    assert client.post("/agents/count/invoke", json={"n": 3}).json()["output"] == {"n": 3}
    assert client.post("/invoke?agent=count", json={"n": 2}).json()["output"] == {"n": 2}


def test_a_failed_run_answers_its_error(client: httpx.Client) -> None:
    reply = client.post("/agents/fail/invoke", json={})

    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == "AGENT_EXECUTION_ERROR"
    assert reply.json()["error"] == "ValueError: no such topic"
    assert reply.json()["run_id"] == reply.headers["x-run-id"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("RunTimeout", 504, "TIMEOUT_ERROR"),
        ("PolicyViolation", 400, "POLICY_VIOLATION"),
        ("RunNotFound", 500, "RUN_NOT_FOUND"),
        ("ThreadBusy", 500, "THREAD_BUSY"),
        ("StoreUnavailable", 500, "STORE_UNAVAILABLE"),
        ("InvalidRequest", 500, "INVALID_REQUEST"),
        ("ModelFailed", 500, "LLM_PROVIDER_ERROR"),
    ],
)
def test_what_the_agents_code_met_is_no_refusal_of_the_call(
    client: httpx.Client, error: str, status: int, code: str
) -> None:
    reply = client.post("/agents/fail/invoke", json={"error": error})

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    run_id = reply.json()["run_id"]
    assert client.get(f"/runs/{run_id}").json()["error"]["code"] == code
    assert read_all(client, "GET", f"/runs/{run_id}/events")[-1].data["code"] == code


def test_the_error_event_has_its_code_in_upper_case(client: httpx.Client) -> None:
    last = read_all(client, "POST", "/agents/fail/invoke/stream", json={})[-1]

    assert last.event == "error"
    assert last.data["code"] == "AGENT_EXECUTION_ERROR"


def test_a_completed_step_is_shown_as_step(client: httpx.Client) -> None:
    found = [
        frame for frame in read_all(client, "POST", "/agents/step/invoke/stream", json={}) if frame.event == "step"
    ]

    assert len(found) == 1
    assert found[0].data["type"] == "step"
    assert found[0].data["node_name"] == "fetch"
    assert found[0].data["output_keys"] == ["pages", "size"]
    assert found[0].data["output"] == {"pages": 3, "size": 10}


def test_a_run_that_waits_answers_202_with_its_interrupts(client: httpx.Client) -> None:
    reply = client.post("/agents/ask/invoke", json={"choices": ["yes", "no"]})

    assert reply.status_code == 202
    body = reply.json()
    assert body["status"] == "waiting"
    assert body["output"] is None
    assert body["interrupts"][0]["question"] == "Pay?"
    assert body["interrupts"][0]["choices"] == ["yes", "no"]


@pytest.mark.parametrize("text", ["a\u0085b", "a\u2028b", "a\r\nb", "a\x00b", "\U0001f600", "\x7f"])
def test_a_text_passes_line_readers_of_every_kind(client: httpx.Client, text: str) -> None:
    """Whatever a client's line reader cuts at, the frame stays one line."""
    raw = client.post("/agents/say/invoke/stream", json={"texts": [text]}).text

    found = [line for line in raw.splitlines() if line.startswith("data: ") and '"type":"token"' in line]

    assert [json.loads(line[6:])["content"] for line in found] == [text]


# Idempotency


def test_the_same_key_starts_one_run(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": new_id()}
    first = client.post("/runs", json={"a": 1}, headers=headers)

    again = client.post("/runs", json={"a": 1}, headers=headers)

    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers


def test_the_same_key_streams_the_same_run(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": new_id()}
    first = read_all(client, "POST", "/invoke/stream", json={"a": 1}, headers=headers)

    again = read_all(client, "POST", "/invoke/stream", json={"a": 1}, headers=headers)
    rest = read_all(client, "POST", "/invoke/stream", json={"a": 1}, headers={**headers, "Last-Event-ID": "0"})

    assert [frame.data["run_id"] for frame in again] == [frame.data["run_id"] for frame in first]
    assert [frame.id for frame in rest] == ["1", "2"]


@pytest.mark.parametrize(("query", "body"), [("", {"a": 2}), ("?timeout_sec=5", {"a": 1})])
def test_the_same_key_for_another_call_is_refused(client: httpx.Client, query: str, body: object) -> None:
    headers = {"Idempotency-Key": new_id()}
    client.post("/runs", json={"a": 1}, headers=headers)

    reply = client.post(f"/runs{query}", json=body, headers=headers)

    assert reply.status_code == 422
    assert reply.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_the_key_is_looked_up_before_the_run_id(client: httpx.Client) -> None:
    headers, run_id = {"Idempotency-Key": new_id()}, new_id()
    client.post(f"/runs?run_id={run_id}", json={}, headers=headers)

    assert client.post(f"/runs?run_id={run_id}", json={}, headers=headers).status_code == 202
    assert client.post(f"/runs?run_id={run_id}", json={}).json()["code"] == "CONFLICT"


# Threads


def test_a_thread_has_one_active_run(client: httpx.Client) -> None:
    thread, run_id = new_id(), new_id()
    client.post(f"/agents/stuck/runs?thread_id={thread}&run_id={run_id}", json={})

    reply = client.post(f"/runs?thread_id={thread}", json={})

    assert reply.status_code == 409
    assert reply.json()["code"] == "THREAD_BUSY"
    assert reply.json()["active_run_id"] == run_id
    client.delete(f"/runs/{run_id}")
