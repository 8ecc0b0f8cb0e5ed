"""Streams and long polls: a snapshot, then each state once; a round is shown once; every cursor goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.workflow.conftest import AGENTS
from tests.support.server import ServerProcess, running_server, start_server
from tests.support.sse import Frame, frames
from tests.support.tasks import result, start, syncs


def next_sync(stream: Iterator[Frame]) -> dict[str, Any]:
    found: dict[str, Any] = next(frame.data for frame in stream if frame.event == "sync")
    return found


def test_the_stream_of_a_run_from_its_round_to_its_end(client: httpx.Client) -> None:
    task = start(client, "rounds", "2", "1")
    (first,) = task.paused()
    with task.stream() as stream:
        opening = next(stream)
        task.post(result(first, "1"))
        middle = next(frame for frame in stream if frame.event and frame.data["task_status"]["task_info"]["round"] == 2)
        (second,) = [call["call_id"] for call in middle.data["task_status"]["task_info"]["pending_tool_calls"]]
        task.post(result(second, "2"))
        rest = [frame for frame in stream if frame.event]

    everything = [opening, middle, *rest]
    assert opening.event == "sync"
    assert opening.data["task_status"]["status"] == "awaiting_tool_calls"
    assert [frame.id for frame in everything] == [str(frame.data["seq"]) for frame in everything]
    assert all(later.data["seq"] > earlier.data["seq"] for earlier, later in pairwise(everything))
    assert everything[-1].data["task_status"]["completed"] is True
    assert rest[-1].data["task_status"] == task.status()
    assert "gap" not in opening.data


def test_the_headers_of_a_stream(client: httpx.Client) -> None:
    task = start(client, "say", "x")
    task.ended()
    with client.stream("GET", f"{task.path}/events") as response:
        text = response.read().decode()

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert text.startswith("retry: 1000\n")
    assert text.count("event: sync") == 1


def test_every_state_of_a_run_begins_with_a_snapshot(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    executing, paused, over = start(client, "gated", str(gate)), start(client, "clock"), start(client, "say", "x")
    paused.paused()
    over.ended()
    while executing.status()["status"] == "pending":
        pass
    for task, word in ((executing, "running"), (paused, "awaiting_tool_calls"), (over, "completed")):
        with task.stream() as stream:
            before = time.monotonic()
            status = next_sync(stream)["task_status"]
            assert time.monotonic() - before < 5
        assert (status["status"], status["completed"]) == (word, word == "completed")
    gate.touch()
    assert executing.ended()["result"] == "open"


def test_an_open_round_is_shown_once_whatever_happens_in_it(client: httpx.Client) -> None:
    """Partial answers and a question beside it make no sync; a new connection shows what is still open."""
    task = start(client, "asking")
    (call,) = task.paused()
    while not (waiting := task.status()["task_info"]["waiting_for"]):
        pass
    with task.stream() as stream:
        opening = next_sync(stream)
        client.post(f"/runs/{task.run_id}/interrupts/{waiting[0]['interrupt_id']}", json={"answer": "a"})
        with task.stream() as other:
            again = next_sync(other)
        task.post(result(call, "seen"))
        following = next_sync(stream)

    assert opening["task_status"]["task_info"]["pending_tool_calls"][0]["call_id"] == call
    assert again["task_status"]["task_info"]["waiting_for"] == []
    assert again["seq"] > opening["seq"]
    assert following["task_status"]["task_info"]["pending_tool_calls"] == []


def test_a_partial_answer_is_no_sync_and_a_new_connection_shows_the_rest(client: httpx.Client) -> None:
    task = start(client, "rounds", "1", "3")
    calls = task.paused()
    with task.stream() as stream:
        opening = next_sync(stream)
        task.post(result(calls[2]))
        with task.stream() as other:
            again = next_sync(other)
        task.post(result(calls[0]), result(calls[1]))
        last = syncs(stream)[-1]

    info = again["task_status"]["task_info"]
    assert again["seq"] == opening["seq"]
    assert [call["call_id"] for call in info["pending_tool_calls"]] == calls[:2]
    assert [item["call_id"] for item in info["agent_node_execution_statuses"][-1]["tool_call_responses"]] == [calls[2]]
    assert last["task_status"]["status"] == "completed"


@pytest.mark.parametrize("way", ["query", "header", "both"])
def test_a_cursor_leaves_out_what_was_seen_but_for_the_snapshot(client: httpx.Client, way: str) -> None:
    task = start(client, "rounds", "2", "1")
    (first,) = task.paused()
    seq = task.status()["seq"]
    query = {"since_seq": str(seq)} if way == "query" else {"since_seq": "0"} if way == "both" else {}
    headers = {} if way == "query" else {"Last-Event-ID": str(seq)}
    with client.stream("GET", f"{task.path}/events", params=query, headers=headers) as response:
        stream = frames(response.iter_lines())
        opening = next_sync(stream)
        task.post(result(first))
        (second,) = task.paused()
        task.post(result(second))
        later = syncs(stream)

    assert (opening["seq"], "gap" in opening) == (seq, False)
    assert all(frame["seq"] > seq for frame in later)
    assert later[-1]["task_status"]["completed"] is True


@pytest.mark.one_store("the reading of a cursor does not depend on the store")
def test_bad_cursors(client: httpx.Client) -> None:
    task = start(client, "say", "x")
    task.ended()

    for bad in ("x", "-1", "1@", "1@x", "1.5", str(2**63)):
        reply = client.get(f"{task.path}/events", params={"since_seq": bad})
        assert (reply.status_code, reply.json()["detail"]["code"]) == (422, "invalid_request"), bad
    with task.stream(**{"Last-Event-ID": "nonsense"}) as stream:
        assert "gap" not in next_sync(stream)
    with task.stream(**{"Last-Event-ID": "99"}) as stream:
        ahead = next_sync(stream)
    with task.stream(**{"Last-Event-ID": "1@7"}) as stream:
        other = next_sync(stream)

    assert (ahead["gap"], ahead["gap_reason"]) == (other["gap"], other["gap_reason"]) == (True, "rolled_back")


def test_a_long_poll_answers_at_a_pause_and_after_its_time(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = start(client, "gated", str(gate))
    while task.status()["status"] == "pending":
        pass
    seq = task.status()["seq"]
    before = time.monotonic()
    unchanged = task.status(wait=1, since_seq=seq)
    waited = time.monotonic() - before
    at_once = task.status(wait=20)
    gate.touch()
    changed = task.status(wait=20, since_seq=seq)

    assert (unchanged["status"], unchanged["seq"]) == ("running", seq)
    assert 0.9 < waited < 10
    assert at_once["seq"] == seq
    assert changed["status"] == "completed"


def test_a_stop_sends_readers_to_the_next_process(tmp_path: Path, own_store: dict[str, str]) -> None:
    data = tmp_path / "data"
    first = start_server(data, agents=AGENTS, environment=own_store)
    with first.client() as client:
        task = start(client, "clock")
        (call,) = task.paused()
        with task.stream() as stream:
            opening = next(stream)
            first.terminate()
            frames = [frame for frame in stream if frame.event]
    assert first.wait() == 0
    with running_server(data, agents=AGENTS, environment=own_store) as second, second.client() as client:
        task.client = client
        with task.stream(**{"Last-Event-ID": str(opening.id)}) as stream:
            again = next_sync(stream)
            task.post(result(call, "noon"))
            last = syncs(stream)[-1]
        row = task.ended()

    assert [frame.event for frame in frames] == ["reconnect"]
    assert frames[0].id == opening.id
    assert frames[0].data["type"] == "reconnect"
    assert frames[0].data["seq"] == opening.data["seq"]
    assert 500 <= frames[0].data["retry_ms"] <= 2000
    assert again["task_status"]["task_info"]["pending_tool_calls"][0]["call_id"] == call
    assert last["task_status"]["status"] == "completed"
    assert row["result"] == "It is noon."


def test_a_quiet_stream_has_heartbeats_and_ends_with_its_key(tmp_path: Path) -> None:
    quick = {"HOLDFAST_HEARTBEAT_SECONDS": "0.2"}
    with running_server(tmp_path / "data", agents=AGENTS, environment=quick) as process, process.client() as admin:
        key = admin.post("/_holdfast/keys", json={"name": "short", "role": "executor"}).json()["key"]
        task = start(admin, "clock")
        task.paused()
        with process.client(key) as client:
            task.client = client
            with task.stream() as stream:
                opening = next(stream)
                beat = next(stream)
                admin.delete("/_holdfast/keys/short")
                last = [frame for frame in stream if frame.event]

    assert (beat.event, beat.comments) == (None, ["hb"])
    assert [frame.event for frame in last] == ["error"]
    assert (last[0].id, last[0].data["code"], last[0].data["type"]) == (opening.id, "unauthorized", "error")


def test_a_reader_that_stalls_sees_no_round_that_is_over(server: ServerProcess) -> None:
    """It connects, takes the snapshot and nothing more, while its round is answered and the run ends."""
    with server.client() as client, server.client() as slow:
        task = start(client, "rounds", "2", "1")
        (first,) = task.paused()
        task.client = slow
        with task.stream() as stream:
            next_sync(stream)
            task.client = client
            task.post(result(first))
            (second,) = task.paused()
            task.post(result(second))
            task.ended()
            later = syncs(stream)

    assert later[-1]["task_status"]["completed"] is True
    assert all(
        call["call_id"] != first for frame in later for call in frame["task_status"]["task_info"]["pending_tool_calls"]
    )
