"""Reading runs: a run, lists, events from any cursor, steps, export and verification."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.sse import events, frames, read_all


def finished(client: httpx.Client, agent: str = "tutor", **input: object) -> str:
    """The id of a run that is over."""
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/{agent}/invoke?run_id={run_id}", json=input)
    return run_id


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def running(client: httpx.Client, gate: Path) -> Iterator[str]:
    """A run with events 0 and 1 that goes on when the test opens the gate."""
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/gated/runs?run_id={run_id}", json={"gate": str(gate)})
    with client.stream("GET", f"/runs/{run_id}/events?from_sequence=1") as response:
        next(events(response))
    yield run_id
    client.delete(f"/runs/{run_id}")


def test_a_run_shows_its_input_and_output(client: httpx.Client) -> None:
    run_id = finished(client, query="x")

    reply = client.get(f"/runs/{run_id}")

    assert reply.headers["x-run-id"] == run_id
    body = reply.json()
    assert body["status"] == "completed"
    assert body["input"] == {"query": "x"}
    assert body["output"] == {"answer": "Quan"}
    assert (body["first_sequence"], body["tail_sequence"], body["epoch"]) == (0, 2, 0)
    assert body["error"] is None
    assert body["cancel"] is None
    assert body["interrupts"] == []


def test_waiting_for_a_run_ends_with_it_or_with_the_time(client: httpx.Client, running: str, gate: Path) -> None:
    assert client.get(f"/runs/{running}?wait=0.1").json()["status"] == "running"

    gate.touch()

    assert client.get(f"/runs/{running}?wait=20").json()["status"] == "completed"


def test_an_unknown_run_is_not_found(client: httpx.Client) -> None:
    for path in ("/runs/none", "/runs/none/events", "/runs/none/steps", "/runs/none/interrupts", "/runs/none/export"):
        reply = client.get(path)
        assert reply.status_code == 404, path
        assert reply.json()["code"] == "NOT_FOUND"


def test_an_encoded_slash_belongs_to_the_id(client: httpx.Client) -> None:
    assert "'a/b'" in client.get("/runs/a%2Fb").json()["detail"]


def test_an_id_from_the_path_cannot_write_headers(client: httpx.Client) -> None:
    reply = client.get("/runs/a%0D%0AX-Evil:%201")

    assert reply.status_code == 404
    assert "x-evil" not in reply.headers
    assert "x-run-id" not in reply.headers


def test_a_list_is_walked_newest_first(client: httpx.Client) -> None:
    made = [finished(client, "count", n=1) for _ in range(3)]

    first = client.get("/agents/count/runs?limit=2").json()
    second = client.get(f"/agents/count/runs?limit=2&cursor={first['next_cursor']}").json()

    walked = [run["run_id"] for run in first["runs"] + second["runs"]]
    assert walked[:3] == made[::-1]
    assert "output" not in first["runs"][0]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=zzz", "status=odd", "created_after=yesterday", "agnet=x"]
)
def test_a_wrong_filter_is_refused(client: httpx.Client, query: str) -> None:
    reply = client.get(f"/runs?{query}")

    assert reply.status_code == 422
    assert reply.json()["code"] == "VALIDATION_ERROR"


def test_a_list_is_filtered(client: httpx.Client) -> None:
    run_id = finished(client, "fail")

    found = client.get("/runs?status=failed&agent=fail").json()["runs"]

    assert run_id in [run["run_id"] for run in found]
    assert {run["status"] for run in found} == {"failed"}
    assert found[0]["error"]["code"] == "AGENT_EXECUTION_ERROR"


# Events


def test_both_cursors_resume_at_the_same_place(client: httpx.Client) -> None:
    run_id = finished(client, "count", n=50)
    whole = read_all(client, "GET", f"/runs/{run_id}/events")

    for place in (0, 1, 25, 50, 51):
        inclusive = read_all(client, "GET", f"/runs/{run_id}/events?from_sequence={place}")
        assert inclusive == whole[place:]
    for place in (0, 24, 49):
        exclusive = read_all(client, "GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": str(place)})
        assert exclusive == whole[place + 1 :]


def test_the_further_cursor_decides(client: httpx.Client) -> None:
    run_id = finished(client, "count", n=10)

    found = read_all(client, "GET", f"/runs/{run_id}/events?from_sequence=5", headers={"Last-Event-ID": "7"})

    assert found[0].id == "8"


def test_nothing_left_of_a_finished_run_is_204(client: httpx.Client) -> None:
    run_id = finished(client)

    by_sequence = client.get(f"/runs/{run_id}/events?from_sequence=3")
    by_id = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": "2"})
    far = client.get(f"/runs/{run_id}/events?from_sequence=5000")

    assert [reply.status_code for reply in (by_sequence, by_id, far)] == [204, 204, 204]
    assert by_id.content == b""


def test_replay_goes_over_into_live(client: httpx.Client, running: str, gate: Path) -> None:
    with client.stream("GET", f"/runs/{running}/events") as response:
        found = events(response)
        assert [next(found).event, next(found).event] == ["started", "token"]
        gate.touch()
        assert [frame.event for frame in found] == ["token", "complete"]


def test_a_cursor_at_the_end_of_a_running_run_gets_what_comes(client: httpx.Client, running: str, gate: Path) -> None:
    with client.stream("GET", f"/runs/{running}/events", headers={"Last-Event-ID": "1"}) as response:
        gate.touch()
        assert [frame.id for frame in events(response)] == ["2", "3"]


def test_a_cursor_ahead_of_a_running_run_is_told_so(client: httpx.Client, running: str, gate: Path) -> None:
    with client.stream("GET", f"/runs/{running}/events?from_sequence=100") as response:
        found = events(response)
        gap = next(found)
        gate.touch()
        assert list(found) == []

    assert (gap.event, gap.id) == ("gap", None)
    assert gap.data == {
        "type": "gap",
        "run_id": running,
        "requested": 100,
        "first_sequence": 100,
        "tail_sequence": 1,
        "epoch": 0,
        "reason": "ahead",
    }


def test_a_cursor_of_a_later_epoch_gets_everything_behind_a_gap(client: httpx.Client) -> None:
    run_id = finished(client)

    found = read_all(client, "GET", f"/runs/{run_id}/events?from_sequence=2@1")

    assert found[0].data["reason"] == "rolled_back"
    assert (found[0].data["requested"], found[0].data["first_sequence"]) == (2, 0)
    assert [frame.id for frame in found[1:]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "cursor", ["-1", "9007199254740992", "٣", "5@", "@1", "1e3", "0x1", " 5", "5@1@2", "99999999999999999999"]
)
def test_a_wrong_cursor_is_refused(client: httpx.Client, cursor: str) -> None:
    run_id = finished(client)

    reply = client.get(f"/runs/{run_id}/events", params={"from_sequence": cursor})

    assert reply.status_code == 422


def test_an_empty_cursor_counts_as_absent(client: httpx.Client) -> None:
    run_id = finished(client)

    found = read_all(client, "GET", f"/runs/{run_id}/events?from_sequence=", headers={"Last-Event-ID": ""})

    assert len(found) == 3


def test_an_idle_limit_ends_the_stream_and_not_the_run(client: httpx.Client, running: str) -> None:
    with client.stream("GET", f"/runs/{running}/events?timeout=1") as response:
        found = list(frames(response.iter_lines()))

    assert found[-1].comments == ["timeout"]
    assert client.get(f"/runs/{running}").json()["status"] == "running"


def test_head_has_the_headers_and_no_body(client: httpx.Client, running: str) -> None:
    reply = client.head(f"/runs/{running}/events")

    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content == b""


def test_leaving_a_stream_does_not_cancel_the_run(server: ServerProcess, client: httpx.Client, gate: Path) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    with (
        server.client() as other,
        other.stream("POST", f"/agents/gated/invoke/stream?run_id={run_id}", json={"gate": str(gate)}) as response,
    ):
        next(events(response))
    gate.touch()

    assert client.get(f"/runs/{run_id}?wait=20").json()["status"] == "completed"


# What hangs on a run


def test_steps_are_listed(client: httpx.Client) -> None:
    steps = client.get(f"/runs/{finished(client, 'step')}/steps").json()["steps"]

    assert [(item["name"], item["status"], item["output"]) for item in steps] == [
        ("fetch", "completed", {"pages": 3, "size": 10})
    ]


def test_an_export_holds_the_journal_and_its_hashes(client: httpx.Client) -> None:
    run_id = finished(client)
    lines = client.get(f"/runs/{run_id}/export").content.splitlines(keepends=True)

    head, end = json.loads(lines[0]), json.loads(lines[-1])
    chained, body = bytes.fromhex(head["prior"]), b""
    for line in lines[1:-1]:
        if line.startswith(b'{"id"'):
            body += line
        else:
            chained, body = hashlib.sha256(chained + body).digest(), b""
            assert json.loads(line)["hash"] == chained.hex()

    assert head["kind"] == "journal"
    assert end == {"kind": "end", "status": "completed", "tail_sequence": 2}


def test_a_journal_is_verified(client: httpx.Client) -> None:
    run_id = finished(client)

    body = client.get(f"/runs/{run_id}/verify").json()

    assert (body["run_id"], body["ok"], body["events"]) == (run_id, True, 3)
    assert "first_bad_sequence" not in body
