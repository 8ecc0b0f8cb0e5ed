"""What ends a WebSocket from the server's side, and who is let in: readers that take nothing, silence, pages, the stop."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.runtime.test_sockets import data_lines, finished
from tests.support.postgres import PostgresServer
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.sockets import joined, open_socket
from tests.support.stores import new_postgres_store
from tests.support.until import until

STALL_SECONDS = 3.0
READERS_MAX = 42
BYTES_EACH_MAX = 256 * 1024
SETTINGS = {
    "HOLDFAST_HEARTBEAT_SECONDS": "1",
    "HOLDFAST_STALL_SECONDS": str(STALL_SECONDS),
    "HOLDFAST_CORS_ORIGINS": "https://app.example",
    "HOLDFAST_SUBSCRIBERS_MAX": str(READERS_MAX),
}


@pytest.fixture(scope="module")
def server(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("sockets") / "data"
    with running_server(data, environment={**SETTINGS, **module_store}, fresh=True) as process:
        yield process


def test_pages_are_let_in_as_everywhere(server: ServerProcess, client: httpx.Client) -> None:
    run_id = finished(client, "say", texts=[])
    token = client.post(f"/runs/{run_id}/stream-token", json={}).json()["token"]
    cookie = {"Cookie": f"holdfast_stream={token}"}
    for origin in (server.url, "https://app.example"):
        with open_socket(server, f"/runs/{run_id}/ws", key=None, headers={"Origin": origin, **cookie}) as socket:
            assert socket.next()["type"] == "hello"
    with (
        pytest.raises(InvalidStatus) as caught,
        open_socket(server, f"/runs/{run_id}/ws", headers={"Origin": "https://evil.example"}),
    ):
        pass

    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body or b"")["code"] == "ORIGIN_NOT_ALLOWED"


def test_a_silent_socket_has_heartbeats(server: ServerProcess, client: httpx.Client) -> None:
    run_id = client.post("/agents/stuck/runs", json={}).json()["run_id"]
    with open_socket(server, f"/runs/{run_id}/ws") as socket:
        assert socket.next()["heartbeat_interval"] == 1
        assert socket.next() == {"type": "heartbeat"}
        socket.say("subscribe")
        socket.until("token")
        began = time.monotonic()
        found = [socket.next() for _ in range(2)]
        seconds = time.monotonic() - began
    client.delete(f"/runs/{run_id}")

    assert found == [{"type": "heartbeat"}] * 2
    assert seconds >= 1.9


def test_a_run_has_so_many_readers_and_no_more(server: ServerProcess, client: httpx.Client) -> None:
    run_id = client.post("/agents/stuck/runs", json={}).json()["run_id"]
    with contextlib.ExitStack() as stack:
        for _ in range(READERS_MAX - 1):
            heard_of(stack.enter_context(idle_reader(server, run_id)), b'"type":"token"')
        last, late = (stack.enter_context(joined(server, run_id)) for _ in range(2))
        assert last.ask("subscribe")["type"] == "ack"
        assert last.ask("subscribe")["type"] == "ack", "it takes its own place again"
        late.say("subscribe")
        assert late.closed()[0] == 4429
        assert client.get(f"/runs/{run_id}/events").status_code == 429
    client.delete(f"/runs/{run_id}")


@pytest.mark.slow
async def test_readers_that_take_nothing_are_cut_off_and_may_come_back(
    server: ServerProcess, client: httpx.Client
) -> None:
    readers = READERS_MAX - 2
    run_id = finished(client, "flood", n=20_000, size=1024)
    whole = data_lines(client, run_id)
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(idle_reader(server, run_id)) for _ in range(readers)]
        with joined(server, run_id) as fast:
            fast.say("subscribe", from_sequence=19_990)
            assert fast.events() == whole[19_990:]
        await until(lambda: server.log().count("reader_cut") >= readers, seconds=60, every=0.1)
        assert process.memory_info().rss - before < readers * BYTES_EACH_MAX + 16 * 1024 * 1024
        # One begins to read again while the server still holds the connection, and is told why it was closed.
        heard_of(stalled[-1], (4408).to_bytes(2, "big"))
    with joined(server, run_id) as socket:
        socket.say("subscribe")
        assert socket.events() == whole


def heard_of(connection: sockets.socket, end: bytes) -> None:
    """Read on until these bytes came."""
    found = b""
    while end not in found:
        piece = connection.recv(1 << 20)
        assert piece, "it was closed"
        found = found[-16:] + piece


def idle_reader(server: ServerProcess, run_id: str) -> sockets.socket:
    """A reader that has subscribed and takes nothing."""
    connection = sockets.create_connection(("127.0.0.1", server.port), timeout=20)
    message = b'{"type":"subscribe"}'
    connection.sendall(
        f"GET /runs/{run_id}/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-API-Key: {KEY}\r\n\r\n".encode()
        + bytes((0x81, 0x80 | len(message)))
        + bytes(4)
        + message
    )
    return connection


@pytest.mark.slow
@pytest.mark.one_store
def test_whoever_brings_no_credential_has_ten_seconds(server: ServerProcess) -> None:
    began = time.monotonic()
    with open_socket(server, "/invoke/ws", key=None) as socket:
        code, reason = socket.closed()
    seconds = time.monotonic() - began

    assert (code, reason) == (4408, "no auth came within 10 seconds")
    assert 9.5 < seconds < 30, "30 s without a byte have an end of their own"


@pytest.mark.slow
def test_a_stop_closes_every_socket_while_the_process_still_drains(own_store: dict[str, str], tmp_path: Path) -> None:
    environment, gate = {**own_store, "HOLDFAST_DRAIN_SECONDS": "60"}, tmp_path / "gate"
    with (
        running_server(tmp_path / "data", environment=environment) as server,
        server.client() as client,
        contextlib.ExitStack() as stack,
    ):
        client.post("/agents/gated/runs?run_id=one", json={"gate": str(gate)})
        paths = ["/runs/one/ws", "/invoke/ws"] * 25
        opened = [stack.enter_context(open_socket(server, path)) for path in paths]
        for socket in opened[::2]:
            socket.say("subscribe")
            socket.until("token")

        server.terminate()
        codes = {socket.closed()[0] for socket in opened}
        # The process still drains: who comes now is told at once.
        late = stack.enter_context(open_socket(server, "/runs/one/ws"))

        assert late.closed()[0] == 1001
        assert codes == {1001}
        gate.touch()
        assert server.wait() == 0


@pytest.mark.slow
def test_a_revoked_key_ends_its_sockets(postgres: PostgresServer, tmp_path: Path) -> None:
    with (
        new_postgres_store(postgres) as settings,
        running_server(tmp_path, environment={**settings, "HOLDFAST_HEARTBEAT_SECONDS": "1"}) as server,
        server.client() as admin,
    ):
        key = admin.post("/_holdfast/keys", json={"name": "web"}).json()["key"]
        admin.post("/agents/stuck/runs?run_id=one", json={})
        with server.client(key) as web:
            token = web.post("/runs/one/stream-token", json={}).json()["token"]
        with (
            joined(server, "one", key=key) as own,
            open_socket(server, f"/runs/one/ws?token={token}", key=None) as page,
        ):
            own.ask("subscribe")
            page.ask("subscribe")
            admin.delete("/_holdfast/keys/web")
            assert own.closed() == (4401, "the key was revoked")
            assert page.closed() == (4401, "the key was revoked")
