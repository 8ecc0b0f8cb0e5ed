"""What calls that start, follow and answer runs get when the server is killed in the middle of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.server import ServerProcess, running_server, start_server
from tests.support.sse import Frame, events, read_all


class Survived(NamedTuple):
    """A server that took the place of one that was killed, and what clients of that one had."""

    client: httpx.Client
    gate: Path
    input: dict[str, Any]
    seen: list[Frame]  # of the run `streamed`
    accepted: list[bytes]  # bodies of the repeated POST /runs
    lost: Future[httpx.Response]  # an /invoke that was waiting
    answer_path: str


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": f"key of {name}"}


@pytest.fixture(scope="module")
def survived(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    directory = tmp_path_factory.mktemp("surviving")
    gate = directory / "gate"
    given = {"gate": str(gate)}
    with ThreadPoolExecutor(4) as pool:
        first = start_server(directory / "data", environment=module_store)
        try:
            found = before_the_kill(first, pool, gate, given)
        finally:
            first.kill()
        with running_server(directory / "data", environment=module_store) as second, second.client() as client:
            yield found._replace(client=client)


def before_the_kill(server: ServerProcess, pool: ThreadPoolExecutor, gate: Path, given: dict[str, Any]) -> Survived:
    with server.client() as client:
        url = "/agents/gated/invoke/stream?run_id=streamed"
        with client.stream("POST", url, json=given, headers=key("stream")) as response:
            seen = list(itertools.islice(events(response), 2))
        for name in ("fleeting", "gated"):
            with client.stream("POST", f"/agents/{name}/invoke/stream?run_id={name}", json=given) as response:
                assert any(frame.event == "token" for frame in events(response))

        def repeat(_: int) -> bytes:
            with server.client() as own:
                return own.post("/agents/gated/runs", json=given, headers=key("runs")).content

        accepted = list(pool.map(repeat, range(3)))
        lost = pool.submit(invoke, server, given)
        while client.get("/runs/invoked").status_code == 404:
            pass
        client.post("/agents/ask/invoke?run_id=asked", json={})
        (interrupt,) = client.get("/runs/asked/interrupts").json()["interrupts"]
        path = f"/runs/asked/interrupts/{interrupt['interrupt_id']}"
        return Survived(client, gate, given, seen, accepted, lost, path)


def invoke(server: ServerProcess, given: dict[str, Any]) -> httpx.Response:
    with server.client() as client:
        return client.post("/agents/gated/invoke?run_id=invoked", json=given, headers=key("invoke"))


def test_five_calls_with_one_key_start_one_run(survived: Survived) -> None:
    replies = [survived.client.post("/agents/gated/runs", json=survived.input, headers=key("runs")) for _ in range(2)]

    assert [reply.status_code for reply in replies] == [202, 202]
    assert len({*survived.accepted, *(reply.content for reply in replies)}) == 1
    other = survived.client.post("/agents/gated/runs", json={**survived.input, "x": 1}, headers=key("runs"))
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    run_id = replies[0].json()["run_id"]
    listed = survived.client.get("/runs?agent=gated&limit=200").json()["runs"]
    assert sorted(run["run_id"] for run in listed) == sorted([run_id, "gated", "invoked", "streamed"])


def test_an_answer_after_the_kill_completes_the_run(survived: Survived) -> None:
    reply = survived.client.post(survived.answer_path, json={"answer": "late"})

    assert reply.status_code == 200
    run = survived.client.get("/runs/asked?wait=20").json()
    assert (run["status"], run["output"]) == ("completed", {"answer": "late"})


def test_a_run_that_may_not_be_executed_again_ends_as_interrupted(survived: Survived) -> None:
    last = read_all(survived.client, "GET", "/runs/fleeting/events")[-1]

    assert (last.event, last.data["code"]) == ("error", "INTERRUPTED")
    assert survived.client.get("/runs/fleeting").json()["error"]["code"] == "INTERRUPTED"


def test_a_stream_goes_on_by_its_key_and_by_its_cursor(survived: Survived) -> None:
    """Each event once, with the bytes that every other reader has, and `restarted` where the kill was."""
    survived.gate.touch()
    client, cursor = survived.client, survived.seen[-1].id or ""
    url = "/agents/gated/invoke/stream?run_id=streamed"

    by_key = read_all(client, "POST", url, json=survived.input, headers={**key("stream"), "Last-Event-ID": cursor})
    by_cursor = read_all(client, "GET", "/runs/streamed/events", headers={"Last-Event-ID": cursor})
    whole = read_all(client, "GET", "/runs/streamed/events")

    assert [without_request(frame) for frame in [*survived.seen, *by_key]] == [frame.data for frame in whole]
    assert [frame.data for frame in by_cursor] == [frame.data for frame in whole[2:]]
    assert [frame.event for frame in whole][:3] == ["started", "token", "restarted"]
    assert whole[2].data["discard_from"] == 1
    assert whole[-1].event == "complete"


def test_an_invoke_whose_connection_was_cut_gets_its_answer_by_its_key(survived: Survived) -> None:
    survived.gate.touch()
    assert isinstance(survived.lost.exception(), httpx.TransportError)
    url = "/agents/gated/invoke?run_id=invoked"

    replies = [survived.client.post(url, json=survived.input, headers=key("invoke")) for _ in range(2)]

    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].content == replies[1].content
    assert replies[0].headers["idempotency-replayed"] == "true"


def without_request(frame: Frame) -> dict[str, Any]:
    return {name: value for name, value in frame.data.items() if name != "request_id"}
