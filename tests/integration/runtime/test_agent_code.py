"""Code of every kind over HTTP: it streams while it runs, delays nobody, ends with a cancel, and keeps its secrets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess, running_server
from tests.support.sse import events, read_all

AGENTS = Path(__file__).parents[2] / "support" / "coded_agents.py"
SECRET = "sk-abcdefgh"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("coded") / "data", agents=AGENTS) as process:
        yield process


def quickest_health(client: httpx.Client) -> float:
    """The least of some tries: a busy machine delays any single one."""
    seconds = []
    for _ in range(10):
        began = time.monotonic()
        assert client.get("/health").status_code == 200
        seconds.append(time.monotonic() - began)
    return min(seconds)


def test_a_sync_handler_that_blocks_delays_nobody_and_its_tokens_are_there(
    server: ServerProcess, client: httpx.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    with client.stream("POST", "/agents/blocking/invoke/stream", json={"gate": str(gate)}) as response:
        stream = events(response)
        assert [next(stream).event, next(stream).data["content"]] == ["started", "before"]
        with server.client() as other:
            assert quickest_health(other) < 0.05
            assert other.post("/agents/pieces/invoke", json={}).json()["output"] == "one two"
        gate.touch()
        rest = list(stream)

    assert [frame.event for frame in rest] == ["token", "complete"]


def test_a_graph_streams_live_each_event_once_and_delays_nobody(
    server: ServerProcess, client: httpx.Client, tmp_path: Path
) -> None:
    gates = [tmp_path / str(number) for number in range(3)]

    with client.stream(
        "POST", "/agents/graph/invoke/stream", json={"gates": [str(gate) for gate in gates]}
    ) as response:
        stream = events(response)
        assert [next(stream).event, next(stream).event] == ["started", "step_started"]
        for gate in gates:
            assert next(stream).data["content"] == "custom "
            with server.client() as other:
                assert quickest_health(other) < 0.05
            gate.touch()
        rest = list(stream)

    shown = [frame.data.get("content") or frame.data.get("node_name") or frame.event for frame in rest]
    assert shown == ["progress", "note", *"model text", "draft", "step_started", "polish", "complete"]
    assert rest[-1].data["output"] == {"gates": [str(gate) for gate in gates], "text": "model text."}
    assert rest[0].data["progress"] == 0.5
    step = next(frame.data for frame in rest if frame.event == "step")
    assert (step["input_keys"], step["output_keys"]) == (["gates"], ["text"])
    assert step["duration_ms"] > 0


def test_a_cancel_reaches_a_graph(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = client.post("/agents/graph/runs", json={"gates": [str(gate)]}).json()["run_id"]
    with client.stream("GET", f"/runs/{run_id}/events") as response:
        next(frame for frame in events(response) if frame.event == "token")

    receipt = client.post(f"/runs/{run_id}/cancel", json={"reason": "left"}, params={"wait": 10})
    gate.touch()

    assert (receipt.status_code, receipt.json()["status"]) == (200, "cancelled")
    kinds = [frame.event for frame in read_all(client, "GET", f"/runs/{run_id}/events")]
    assert kinds.count("cancelled") == 1
    assert kinds[-1] == "cancelled"


def test_a_time_limit_ends_a_graph_and_sync_code(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    for agent, given in (("graph", {"gates": [str(gate)]}), ("blocking", {"gate": str(gate)})):
        reply = client.post(f"/agents/{agent}/invoke", json=given, params={"timeout": 1})

        assert (reply.status_code, reply.json()["code"]) == (504, "TIMEOUT_ERROR")
    gate.touch()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("cuts", [(2, 5, 8), (1, 3, 9), (3, 4, 10)])
def test_a_secret_over_its_tokens_is_nowhere_and_all_other_text_is(
    client: httpx.Client, cuts: tuple[int, int, int], fails: bool
) -> None:
    first, second, third = cuts
    parts = [
        f"It is {SECRET[:first]}",
        SECRET[first:second],
        SECRET[second:third],
        f"{SECRET[third:]}, keep it. sk-abc",
    ]
    given: dict[str, Any] = {"pieces": parts, "fails": fails}

    with client.stream("POST", "/agents/secretive/invoke/stream", json=given) as response:
        run_id = response.headers["x-run-id"]
        frames = list(events(response))

    clean = "It is [REDACTED], keep it. sk-abc"
    assert "".join(frame.data["content"] for frame in frames if frame.event == "token") == clean
    assert next(frame.data["text"] for frame in frames if frame.event == "own") == clean
    shown = [repr(frame.data) for frame in frames]
    shown += [client.get(f"/runs/{run_id}/{what}").text for what in ("steps", "interrupts", "events")]
    shown.append(client.get(f"/runs/{run_id}").json()[("error" if fails else "output")].__repr__())
    shown += [line for line in client.get(f"/runs/{run_id}/export").text.splitlines() if line.startswith('{"id"')]
    assert [text for text in shown if SECRET in text] == []
    last = frames[-1].data
    assert (last["error"] if fails else last["output"]["text"]) == (f"ValueError: {clean}" if fails else clean)
    assert client.get(f"/runs/{run_id}/verify").json()["ok"] is True
