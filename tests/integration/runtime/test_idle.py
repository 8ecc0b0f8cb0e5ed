"""Streams on which nothing happens, and too many of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess, running_server
from tests.support.sse import Frame, events, frames

READERS = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a heartbeat a second and room for few readers of a run."""
    settings = {"HOLDFAST_HEARTBEAT_SECONDS": "1", "HOLDFAST_SUBSCRIBERS_MAX": str(READERS)}
    with running_server(tmp_path_factory.mktemp("small"), environment=settings) as process:
        yield process


@pytest.fixture
def client(small: ServerProcess) -> Iterator[httpx.Client]:
    with small.client() as made:
        yield made


def gated(client: httpx.Client, gate: Path) -> str:
    """A run that says one word and waits for the gate."""
    run_id = f"i-{uuid.uuid4().hex}"
    client.post(f"/agents/gated/runs?run_id={run_id}", json={"gate": str(gate)})
    return run_id


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "&preset=minimal", "&types=progress&view=compact"])
def test_a_silent_stream_has_heartbeats_until_its_time_is_over(
    client: httpx.Client, tmp_path: Path, query: str
) -> None:
    """Whatever the filter; and the run goes on."""
    gate = tmp_path / "gate"
    run_id = gated(client, gate)
    with client.stream("GET", f"/runs/{run_id}/events?timeout=2{query}") as response:
        found: list[tuple[float, Frame]] = [(time.monotonic(), frame) for frame in frames(response.iter_lines())]
    gate.touch()

    comments = [comment for _, frame in found[1:] for comment in frame.comments]
    last_event = max(at for at, frame in found if frame.event is not None)
    assert comments in (["heartbeat", "timeout"], ["heartbeat", "heartbeat", "timeout"])
    assert found[-1][0] - last_event >= 1.9
    assert client.get(f"/runs/{run_id}?wait=20").json()["status"] == "completed"


@pytest.mark.slow
def test_a_stream_is_silent_where_everything_is_hidden(client: httpx.Client, tmp_path: Path) -> None:
    """An agent that talks all the time does not keep the stream alive of a reader who sees nothing of it."""
    gate = tmp_path / "gate"
    run_id = f"i-{uuid.uuid4().hex}"
    client.post(f"/agents/ticking/runs?run_id={run_id}", json={"gate": str(gate)})
    with client.stream("GET", f"/runs/{run_id}/events?types=progress&timeout=2") as response:
        found = list(frames(response.iter_lines()))
    gate.touch()

    assert [frame.event for frame in found if frame.event is not None] == ["started"]
    assert "heartbeat" in [comment for frame in found for comment in frame.comments]
    assert found[-1].comments[-1] == "timeout"


@pytest.mark.slow
def test_the_setting_gives_a_limit_to_calls_that_name_none(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, environment={"HOLDFAST_STREAM_IDLE_SECONDS": "1"}) as server,
        server.client() as client,
    ):
        run_id = gated(client, tmp_path / "gate")
        with client.stream("GET", f"/runs/{run_id}/events") as response:
            by_setting = list(frames(response.iter_lines()))
        with client.stream("GET", f"/runs/{run_id}/events?timeout=60") as response:
            found = events(response)
            assert [next(found).event, next(found).event] == ["started", "token"]
            (tmp_path / "gate").touch()
            by_call = list(found)

    assert by_setting[-1].comments == ["timeout"]
    assert by_call[-1].event == "complete"


@pytest.mark.parametrize("value", ["0", "3601", "-1", "1.5", "x"])
def test_a_time_out_of_bounds_is_refused(client: httpx.Client, tmp_path: Path, value: str) -> None:
    reply = client.get(f"/runs/{gated(client, tmp_path / 'gate')}/events?timeout={value}")

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["pointer"] == "/timeout"


def following(stack: ExitStack, client: httpx.Client, method: str, url: str, **arguments: Any) -> httpx.Response:
    """A stream that began and stays open."""
    response = stack.enter_context(client.stream(method, url, **arguments))
    assert response.status_code == 200
    return response


def opened(client: httpx.Client, url: str) -> int:
    with client.stream("GET", url) as response:
        return response.status_code


def test_a_run_has_so_many_readers_and_one_that_leaves_makes_room(client: httpx.Client, tmp_path: Path) -> None:
    run_id = gated(client, tmp_path / "gate")
    url = f"/runs/{run_id}/events"
    with ExitStack() as stack:
        readers = [following(stack, client, "GET", url) for _ in range(READERS)]
        refused = client.get(url)
        other = client.get(f"/runs/{gated(client, tmp_path / 'gate')}/events?timeout=1")
        readers[0].close()

        while (status := opened(client, url)) == 429:  # until the server has seen that one left
            pass

    assert status == 200
    assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_SUBSCRIBERS")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-run-id"] == run_id
    assert other.status_code == 200


def test_a_stream_that_starts_its_run_counts_too(client: httpx.Client, tmp_path: Path) -> None:
    run_id = f"i-{uuid.uuid4().hex}"
    body = {"gate": str(tmp_path / "gate")}
    with ExitStack() as stack:
        following(stack, client, "POST", f"/agents/gated/invoke/stream?run_id={run_id}", json=body)
        for _ in range(READERS - 1):
            following(stack, client, "GET", f"/runs/{run_id}/events")

        assert client.get(f"/runs/{run_id}/events").status_code == 429


def test_calls_that_stream_nothing_take_no_room(client: httpx.Client, tmp_path: Path) -> None:
    run_id = gated(client, tmp_path / "gate")

    answers = [client.head(f"/runs/{run_id}/events").status_code for _ in range(2 * READERS)]
    refused = [client.get(f"/runs/{run_id}/events?types=typo").status_code for _ in range(2 * READERS)]

    assert set(answers) == {200}
    assert set(refused) == {422}
    with client.stream("GET", f"/runs/{run_id}/events") as response:
        assert response.status_code == 200
