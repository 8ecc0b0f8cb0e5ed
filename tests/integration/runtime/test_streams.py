"""How streams behave in time: live tokens, heartbeats, readers that stop reading, revoked keys."""

from __future__ import annotations

import select
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import KEY, ServerProcess, running_server
from tests.support.sse import events, frames


@pytest.fixture(scope="module")
def quick(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose times are short."""
    times = {**module_store, "HOLDFAST_HEARTBEAT_SECONDS": "0.2", "HOLDFAST_STALL_SECONDS": "1"}
    with running_server(tmp_path_factory.mktemp("quick"), environment=times) as process:
        yield process


def open_stream(server: ServerProcess, path: str, buffer: int = 4096) -> socket.socket:
    """A stream whose reader takes only what the test reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """What came before the connection was closed or reset."""
    found = bytearray()
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return bytes(found)


def test_a_token_is_read_before_the_agent_goes_on(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with client.stream("POST", "/agents/gated/invoke/stream", json={"gate": str(gate)}) as response:
        found = events(response)
        assert [next(found).event, next(found).data["content"]] == ["started", "before"]
        gate.touch()
        assert next(found).data["content"] == "after"


def test_a_silent_stream_has_heartbeats(quick: ServerProcess) -> None:
    with quick.client() as client, client.stream("POST", "/agents/stuck/invoke/stream", json={}) as response:
        comments = (comment for frame in frames(response.iter_lines()) for comment in frame.comments)
        assert [next(comments), next(comments)] == ["heartbeat", "heartbeat"]


def test_a_reader_that_takes_nothing_is_cut_and_can_come_back(quick: ServerProcess) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    with quick.client() as client:
        # More than the buffers of the system hold between the two.
        client.post(f"/agents/flood/invoke?run_id={run_id}", json={"n": 200, "size": 100_000})
        with open_stream(quick, f"/runs/{run_id}/events") as stalled:
            hung_up = select.poll()
            hung_up.register(stalled, select.POLLHUP | select.POLLERR)
            assert hung_up.poll(20_000), "the reader was not cut"
            found = read_to_end(stalled)
        again = client.get(f"/runs/{run_id}/events")

    assert not found.endswith(b"0\r\n\r\n")
    assert again.text.count("event: token") == 200


def test_a_reader_that_takes_little_but_steadily_is_not_cut(quick: ServerProcess) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    with quick.client() as client:
        client.post(f"/agents/flood/invoke?run_id={run_id}", json={"n": 100, "size": 100_000})
    found, deadline = 0, time.monotonic() + 3
    with open_stream(quick, f"/runs/{run_id}/events") as slow:
        while piece := slow.recv(65536):
            found += len(piece)
            if time.monotonic() < deadline:
                time.sleep(0.02)  # the slowness is what is tested
            if piece.endswith(b"0\r\n\r\n"):
                break

    assert found > 100 * 100_000


def test_five_hundred_thousand_bytes_in_one_event_arrive_whole(client: httpx.Client) -> None:
    text = "y" * 500_000

    with client.stream("POST", "/agents/say/invoke/stream", json={"texts": [text]}) as response:
        found = [frame for frame in events(response) if frame.event == "token"]

    assert [frame.data["content"] for frame in found] == [text]


@pytest.mark.slow
def test_the_streams_of_a_revoked_key_end_and_its_calls_are_refused(own_store: dict[str, str], tmp_path: Path) -> None:
    # A silent stream looks at its key when a heartbeat is due, at the latest after 10 s.
    environment = {**own_store, "HOLDFAST_HEARTBEAT_SECONDS": "1"}
    with running_server(tmp_path, environment=environment) as server, server.client() as admin:
        made = admin.post("/_holdfast/keys", json={"name": "guest", "role": "executor"}).json()
        with server.client(made["key"], timeout=40) as guest:
            run_id = guest.post("/agents/stuck/runs", json={}).json()["run_id"]
            with guest.stream("GET", f"/runs/{run_id}/events") as response:
                found = frames(response.iter_lines())
                while next(found).event != "token":
                    pass
                admin.delete("/_holdfast/keys/guest")
                rest = list(found)
            assert rest[-1].comments == ["key revoked"]
            assert guest.get(f"/runs/{run_id}").status_code == 401
        assert admin.get(f"/runs/{run_id}").json()["status"] == "running"
