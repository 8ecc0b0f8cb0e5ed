"""Stopping and starting: every stream ends, the process exits in time, and what was accepted goes on."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import KEY, ServerProcess, running_server, start_server
from tests.support.sse import events, read_all


def stream(server: ServerProcess, method: str, path: str) -> socket.socket:
    """A stream of which the first frame was read."""
    body = b"{}" if method == "POST" else b""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    found = b""
    while b"event: token" not in found:
        found += connection.recv(65536)
    return connection


def body_of(connection: socket.socket) -> bytes:
    """What is left of a body that ends properly; the connection stays open behind it."""
    found = b""
    while not found.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, f"the connection ended in the middle of a body: {found[-100:]!r}"
        found += piece
    connection.close()
    return found


def rest_of(connection: socket.socket) -> bytes:
    found = b""
    with connection:
        while piece := connection.recv(65536):
            found += piece
    return found


@pytest.mark.slow
def test_every_stream_ends_and_the_process_exits(tmp_path: Path) -> None:
    """The streams at once, while a run still has its time; the process when the run is over."""
    environment = {"HOLDFAST_SUBSCRIBERS_MAX": "300", "HOLDFAST_DRAIN_SECONDS": "60"}
    gate = tmp_path / "gate"
    with running_server(tmp_path, environment=environment) as server:
        with server.client() as client:
            client.post("/agents/gated/runs?run_id=one", json={"gate": str(gate)})
        readers = [stream(server, "GET", "/runs/one/events") for _ in range(300)]

        server.terminate()
        ends = [body_of(reader) for reader in readers]
        drains = server.popen.poll() is None
        gate.touch()
        status = server.wait()

    assert status == 0
    assert {end[-19:] for end in ends} == {b": shutdown\n\n\r\n0\r\n\r\n"}
    assert drains
    assert not (tmp_path / "server.json").exists()


def test_a_post_stream_ends_without_its_last_chunk(own_store: dict[str, str], tmp_path: Path) -> None:
    """A client that only looks for the end must see an error, and not half an answer."""
    with running_server(tmp_path, environment={**own_store, "HOLDFAST_DRAIN_SECONDS": "0"}) as server:
        reader = stream(server, "POST", "/agents/stuck/invoke/stream")

        server.terminate()

        assert rest_of(reader).endswith(b": shutdown\n\n\r\n")
        assert server.wait() == 0


def test_an_executing_run_gets_its_time_to_finish(own_store: dict[str, str], tmp_path: Path) -> None:
    gate, body = tmp_path / "gate", {"gate": str(tmp_path / "gate")}
    with (
        running_server(tmp_path / "data", environment=own_store) as server,
        server.client() as client,
        server.client() as other,
        ThreadPoolExecutor(1) as pool,
    ):
        client.post("/agents/gated/runs?run_id=one", json=body)
        waiting = pool.submit(other.post, "/agents/gated/invoke?run_id=two", json=body)
        while client.get("/runs/two").status_code == 404:
            pass
        for run_id in ("one", "two"):
            with client.stream("GET", f"/runs/{run_id}/events?from_sequence=1") as response:
                next(events(response))
        server.terminate()
        while client.get("/health").json()["status"] != "draining":
            pass
        ready, refused = client.get("/ready"), client.post("/runs", json={})
        workflow = client.post("/api/workflow/execute/gated", json={})
        wrong = client.post("/runs?run_id=-", json={})
        cut = waiting.result()
        gate.touch()
        status = server.wait()

    assert status == 0
    assert (ready.status_code, ready.json()["code"]) == (503, "NOT_READY")
    assert (refused.status_code, refused.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert refused.headers["retry-after"]
    assert (workflow.status_code, workflow.json()["detail"]["code"]) == (503, "stopping")
    assert workflow.headers["retry-after"]
    assert wrong.status_code == 422  # it could not be started later either
    assert (cut.status_code, cut.json()["code"], cut.json()["run_id"]) == (503, "SERVICE_UNAVAILABLE", "two")
    assert cut.headers["x-run-id"] == "two"

    with running_server(tmp_path / "data", environment=own_store) as server, server.client() as client:
        for run_id in ("one", "two"):
            assert client.get(f"/runs/{run_id}").json()["status"] == "completed"
            assert client.get(f"/runs/{run_id}").json()["attempt"] == 1


def test_a_second_interrupt_exits_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        reader = stream(server, "POST", "/agents/stuck/invoke/stream")
        server.popen.send_signal(signal.SIGINT)
        rest_of(reader)
        server.popen.send_signal(signal.SIGINT)

        assert server.wait(2) == 130


def test_after_a_kill_the_stream_goes_on_where_it_was(own_store: dict[str, str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_server(tmp_path / "data", environment=own_store) as server, server.client() as client:
        client.post("/agents/gated/runs?run_id=one", json={"gate": str(gate)})
        with client.stream("GET", "/runs/one/events") as response:
            found = events(response)
            seen = [next(found), next(found)]
        server.kill()

    gate.touch()
    with running_server(tmp_path / "data", environment=own_store) as server, server.client() as client:
        client.get("/runs/one?wait=20")
        rest = read_all(client, "GET", "/runs/one/events", headers={"Last-Event-ID": str(seen[-1].id)})
        whole = read_all(client, "GET", "/runs/one/events")

    assert seen + rest == whole
    assert [frame.event for frame in rest] == ["restarted", "token", "token", "complete"]


def test_the_first_start_makes_a_key_once(own_store: dict[str, str], tmp_path: Path) -> None:
    with running_server(tmp_path, environment=own_store, key=None) as server, server.client(server.first_key) as client:
        assert server.first_key
        assert client.get("/runs").status_code == 200
        assert server.first_key not in server.log()
        key = server.first_key
        server.terminate()
        server.wait()

    with running_server(tmp_path, environment=own_store, key=None) as server, server.client(key) as client:
        assert server.first_key is None
        assert client.get("/runs").status_code == 200


def test_the_cli_finds_the_server_and_may_call_it(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        file = tmp_path / "server.json"
        told = json.loads(file.read_bytes())

        assert file.stat().st_mode & 0o777 == 0o600
        assert (told["url"], told["pid"]) == (server.url, server.pid)
        with server.client(told["token"]) as client:
            assert client.get("/_holdfast/keys").status_code == 200


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running_server(tmp_path), pytest.raises(RuntimeError, match="StoreLocked"):
        start_server(tmp_path)


def test_no_auth_holds_on_loopback_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="loopback"):
        start_server(tmp_path, key=None, environment={"HOLDFAST_NO_AUTH": "true", "HOLDFAST_HOST": "0.0.0.0"})
    with running_server(tmp_path, key=None, environment={"HOLDFAST_NO_AUTH": "true"}) as server:
        with server.client(None) as nobody:
            assert nobody.post("/invoke", json={}).status_code == 200
        assert server.first_key is None


def test_the_model_library_is_not_loaded_on_the_way_to_health(tmp_path: Path) -> None:
    with running_server(tmp_path, fresh=True) as server:
        maps = Path(f"/proc/{server.pid}/maps")
        if not maps.exists():
            pytest.skip("needs /proc")
        assert "pydantic_core" not in maps.read_text()


def test_a_call_for_events_on_a_kept_connection_is_ended_politely(tmp_path: Path) -> None:
    """A 503 would stop a browser's EventSource for good; this one comes back."""
    gate = tmp_path / "gate"
    with running_server(tmp_path / "data") as server, server.client() as client:
        client.post("/agents/gated/runs?run_id=one", json={"gate": str(gate)})
        client.post("/agents/tutor/invoke?run_id=over", json={})
        with client.stream("GET", "/runs/one/events?from_sequence=1") as response:
            next(events(response))
        server.terminate()
        while client.get("/health").json()["status"] != "draining":
            pass
        reply = client.get("/runs/one/events?types=token&view=compact")
        ahead = client.get("/runs/one/events?from_sequence=100")
        over = client.get("/runs/over/events?from_sequence=3")
        gate.touch()
        status = server.wait()

    lines = reply.text.split("\n")
    assert reply.status_code == 200
    assert lines[0].startswith("retry: ")
    assert lines[1:] == [": filter token", ": view compact", "", ": shutdown", "", ""]
    assert ahead.text.split("\n")[2] == "event: gap"
    assert ahead.text.endswith("\n\n: shutdown\n\n")
    assert over.status_code == 204
    assert status == 0
