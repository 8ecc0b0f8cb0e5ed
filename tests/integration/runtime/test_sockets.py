"""WebSockets: the same events as everywhere, to the byte; what is said through them; how they open and close."""

from __future__ import annotations

import contextlib
import random
import socket as sockets
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.server import KEY, ServerProcess
from tests.support.sockets import Socket, joined, open_socket

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\nX-API-Key: {key}\r\n\r\n"
)


def data_lines(client: httpx.Client, run_id: str, **query: Any) -> list[str]:
    """What stands behind `data:` in the server-sent events of a run."""
    with client.stream("GET", f"/runs/{run_id}/events", params=query) as response:
        return [line[6:] for line in response.iter_lines() if line.startswith("data: ")]


def finished(client: httpx.Client, agent: str, **given: Any) -> str:
    reply = client.post(f"/agents/{agent}/runs", json=given)
    run_id: str = reply.json()["run_id"]
    assert client.get(f"/runs/{run_id}?wait=30").json()["status"] == "completed"
    return run_id


@pytest.fixture
def run_id(client: httpx.Client) -> str:
    return finished(client, "say", texts=["a", "é\u2028\x00😀", "c"], output={"x": 1})


# Events


@pytest.mark.parametrize(
    "reading", [{}, {"from_sequence": 2}, {"types": "step,token"}, {"preset": "minimal"}, {"view": "compact"}]
)
def test_events_are_those_of_the_stream_to_the_byte(
    server: ServerProcess, client: httpx.Client, run_id: str, reading: dict[str, Any]
) -> None:
    with joined(server, run_id) as socket:
        assert socket.ask("subscribe", **reading)["result"] == {"start": reading.get("from_sequence", 0)}
        events = socket.events()

    assert events == data_lines(client, run_id, **reading)
    assert len(events) >= 2


@pytest.mark.parametrize("size", [10, 70_000, 900_000])
def test_events_of_every_size_come_whole(server: ServerProcess, client: httpx.Client, size: int) -> None:
    run_id = finished(client, "flood", n=3, size=size)

    with joined(server, run_id) as socket:
        socket.say("subscribe")
        events = socket.events()

    assert events == data_lines(client, run_id)
    assert [len(event) > size for event in events[1:4]] == [True] * 3


def test_a_run_is_started_and_followed_live(server: ServerProcess, client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with open_socket(server, "/agents/gated/invoke/ws") as socket:
        hello = socket.next()
        started = socket.ask("start", input={"gate": str(gate)})
        run_id = started["result"]["run_id"]
        seen = [socket.text(), socket.text()]
        gate.touch()
        seen += socket.events()
        code, _ = socket.closed()

    assert hello == {
        "type": "hello", "run_id": None, "status": None, "tail_sequence": None, "epoch": None, "heartbeat_interval": 15
    }  # fmt: skip
    assert (started["type"], started["of"], started["result"]["status"]) == ("ack", "start", "accepted")
    assert set(started["result"]) == {"run_id", "status", "events_url", "created_at"}
    assert seen == data_lines(client, run_id)
    assert code == 1000


def test_a_start_takes_the_controls_of_a_call(server: ServerProcess, client: httpx.Client) -> None:
    with open_socket(server, "/invoke/ws") as socket:
        socket.next()
        ids = {"run_id": f"chosen-{random.getrandbits(64)}", "thread_id": f"thread-{random.getrandbits(64)}"}
        ack = socket.ask("start", input={"texts": ["a"]}, agent="say", types=["step"], timeout=60, **ids)
        events = socket.events()
    run = client.get(f"/runs/{ids['run_id']}").json()

    assert ack["result"]["run_id"] == ids["run_id"]
    assert (run["agent"], run["thread_id"]) == ("say", ids["thread_id"])
    assert events == data_lines(client, ids["run_id"], types="step")
    with open_socket(server, "/invoke/ws") as socket:
        socket.next()
        again = socket.ask("start", input={"texts": ["a"]}, agent="say", **ids)
    assert (again["type"], again["problem"]["code"], again["problem"]["status"]) == ("problem", "CONFLICT", 409)


def test_a_start_under_one_idempotency_key_starts_one_run(server: ServerProcess) -> None:
    key = f"key-{random.getrandbits(64)}"
    found = []
    for n in (1, 1, 2):
        with open_socket(server, "/agents/say/invoke/ws") as socket:
            socket.next()
            reply = socket.ask("start", input={"texts": [str(n)]}, idempotency_key=key)
            found.append((reply, socket.events() if reply["type"] == "ack" else []))

    assert found[0] == found[1]
    assert len(found[0][1]) == 3
    assert found[2][0]["problem"]["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_refused_start_may_be_said_again(server: ServerProcess) -> None:
    with open_socket(server, "/invoke/ws") as socket:
        socket.next()
        for wrong in ({"input": 5}, {"input": {}, "agent": "nobody"}, {"input": {}, "types": "typo"}, {}):
            assert socket.ask("start", **wrong)["problem"]["status"] in (404, 422)
        assert socket.ask("subscribe")["problem"]["code"] == "VALIDATION_ERROR"
        assert socket.ask("start", input={"texts": []}, agent="say")["type"] == "ack"
        assert socket.closed()[0] == 1000


def test_hello_tells_how_far_the_run_is(server: ServerProcess, run_id: str) -> None:
    with open_socket(server, f"/runs/{run_id}/ws") as socket:
        hello = socket.next()

    assert hello == {
        "type": "hello", "run_id": run_id, "status": "completed", "tail_sequence": 4, "epoch": 0,
        "heartbeat_interval": 15,
    }  # fmt: skip


@pytest.mark.parametrize("cursor", [5, 9, "5", "9@0"])
def test_behind_the_end_of_a_finished_run_nothing_follows(
    server: ServerProcess, run_id: str, cursor: int | str
) -> None:
    with joined(server, run_id) as socket:
        assert socket.ask("subscribe", from_sequence=cursor)["type"] == "ack"
        assert socket.closed() == (1000, "the run is finished")


@pytest.mark.parametrize("cursor", [-1, 2**53, "٣", "5@x", 1.5, True, [1]])
def test_a_wrong_cursor_is_told_and_the_socket_stays_open(server: ServerProcess, run_id: str, cursor: Any) -> None:
    with joined(server, run_id) as socket:
        assert socket.ask("subscribe", from_sequence=cursor)["problem"]["status"] == 422
        assert socket.ask("ping")["type"] == "pong"


def test_missing_history_is_told_first(server: ServerProcess, client: httpx.Client) -> None:
    run_id = client.post("/agents/stuck/runs", json={}).json()["run_id"]
    with client.stream("GET", f"/runs/{run_id}/events") as response:
        assert "event: token" in response.iter_lines()
    with joined(server, run_id) as socket:
        assert socket.ask("subscribe", from_sequence=50)["result"] == {"start": 50}
        gap = socket.next()
        rolled_back = socket.ask("subscribe", from_sequence="1@7"), socket.next(), socket.text()
    client.delete(f"/runs/{run_id}")

    assert (gap["type"], gap["reason"], gap["requested"], gap["first_sequence"]) == ("gap", "ahead", 50, 50)
    assert "sequence" not in gap
    assert (rolled_back[1]["type"], rolled_back[1]["reason"]) == ("gap", "rolled_back")
    assert rolled_back[2] == data_lines(client, run_id)[0]


def test_a_new_subscription_replaces_the_former(server: ServerProcess, client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = client.post("/agents/gated/runs", json={"gate": str(gate)}).json()["run_id"]
    with joined(server, run_id) as socket:
        socket.ask("subscribe")
        first = [socket.text(), socket.text()]
        socket.ask("subscribe", from_sequence=1, types="progress")
        gate.touch()
        rest = socket.events()
    lines = data_lines(client, run_id)

    assert first == lines[:2]
    assert rest == lines[3:], "both tokens are hidden from the second subscription"


def test_a_client_that_is_cut_anywhere_goes_on_behind_what_it_has(server: ServerProcess, client: httpx.Client) -> None:
    run_id = finished(client, "count", n=3000)
    seen: list[str] = []
    rng = random.Random(7)
    cuts = 0
    while True:
        with joined(server, run_id) as socket:
            socket.ask("subscribe", from_sequence=len(seen))
            try:
                seen.extend(socket.text() for _ in range(rng.randrange(1, 400)))
            except ConnectionClosed:
                break
            socket.connection.socket.shutdown(sockets.SHUT_RDWR)
            cuts += 1

    assert seen == data_lines(client, run_id)
    assert cuts > 5


# What is said


def test_an_interrupt_is_answered(server: ServerProcess, client: httpx.Client) -> None:
    run_id = client.post("/agents/ask/runs", json={"choices": ["yes", "no"]}).json()["run_id"]
    with joined(server, run_id) as socket, joined(server, run_id) as other:
        socket.say("subscribe")
        interrupt_id = socket.until("interrupt")["interrupt_id"]
        wrong = socket.ask("answer", interrupt_id=interrupt_id, answer="maybe")
        unknown = socket.ask("answer", interrupt_id="int_none", answer="yes")
        won = socket.ask("answer", interrupt_id=interrupt_id, answer="yes")
        again = other.ask("answer", interrupt_id=interrupt_id, answer="yes")
        lost = other.ask("answer", interrupt_id=interrupt_id, answer="no")
        code, _ = socket.closed()

    assert wrong["problem"]["code"] == "VALIDATION_ERROR"
    assert unknown["problem"]["code"] == "NOT_FOUND"
    assert won["result"]["answer"] == "yes"
    assert set(won["result"]) == {"interrupt_id", "status", "answer", "by", "sequence"}
    assert again["result"] == won["result"]
    assert lost["problem"]["code"] == "INTERRUPT_RESOLVED"
    assert code == 1000
    assert client.get(f"/runs/{run_id}").json()["output"] == {"answer": "yes"}


def test_a_run_is_cancelled(server: ServerProcess, client: httpx.Client) -> None:
    with open_socket(server, "/agents/stuck/invoke/ws") as socket:
        socket.next()
        run_id = socket.ask("start", input={})["result"]["run_id"]
        socket.until("token")
        ack = socket.ask("cancel", reason="left")
        code, _ = socket.closed()

    assert ack["of"] == "cancel"
    assert (ack["result"]["status"], ack["result"]["reason"]) == ("cancelled", "left")
    assert code == 1000
    assert data_lines(client, run_id)[-1].count('"type":"cancelled"') == 1


def test_whoever_cancels_and_leaves_at_once_was_heard(server: ServerProcess, client: httpx.Client) -> None:
    run_id = client.post("/agents/stuck/runs", json={}).json()["run_id"]
    with joined(server, run_id) as socket:
        socket.say("cancel", reason="gone")

    assert client.get(f"/runs/{run_id}?wait=20").json()["cancel"]["reason"] == "gone"


def test_leaving_never_cancels(server: ServerProcess, client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with open_socket(server, "/agents/gated/invoke/ws") as socket:
        socket.next()
        run_id = socket.ask("start", input={"gate": str(gate)})["result"]["run_id"]
    gate.touch()

    assert client.get(f"/runs/{run_id}?wait=20").json()["status"] == "completed"


def test_a_cancel_of_a_finished_run_is_refused(server: ServerProcess, run_id: str) -> None:
    with joined(server, run_id) as socket:
        assert socket.ask("cancel")["problem"]["code"] == "RUN_FINISHED"
        assert socket.ask("cancel", reason="x" * 1001)["problem"]["code"] == "VALIDATION_ERROR"


def test_what_a_client_brought_along_comes_back(server: ServerProcess, run_id: str) -> None:
    with joined(server, run_id) as socket:
        socket.say("ping")
        assert socket.next() == {"type": "pong"}
        assert socket.ask("ping") == {"type": "pong", "ref": "asked"}
        problem = socket.ask("answer", answer=1)
        socket.say("ping", ref="x" * 65)
        without = socket.next()

    body = problem["problem"]
    assert (body["status"], body["code"], body["success"]) == (422, "VALIDATION_ERROR", False)
    assert body["errors"] == [{"pointer": "/interrupt_id", "message": body["detail"]}]
    assert without["type"] == "problem"
    assert "ref" not in without


# How it opens


def test_the_handshake_has_no_compression_and_no_subprotocol(server: ServerProcess, run_id: str) -> None:
    with open_socket(server, f"/runs/{run_id}/ws", headers={"X-Request-Id": "r-1"}) as socket:
        response = socket.connection.response
        assert response is not None

    assert "Sec-WebSocket-Extensions" not in response.headers
    assert "Sec-WebSocket-Protocol" not in response.headers
    assert (response.headers["X-Request-Id"], response.headers["X-Run-Id"]) == ("r-1", run_id)


@pytest.mark.parametrize("kind", ["api_key", "bearer"])
def test_the_first_message_may_bring_the_key(server: ServerProcess, run_id: str, kind: str) -> None:
    with open_socket(server, f"/runs/{run_id}/ws", key=None) as socket:
        socket.say("auth", ref="a", **{kind: KEY})
        assert socket.next() == {"type": "ack", "of": "auth", "ref": "a"}
        assert socket.next()["type"] == "hello"
        socket.say("subscribe")
        assert len(socket.events()) == 5


@pytest.mark.parametrize("way", ["query", "message"])
def test_a_stream_token_opens_subscribe_and_ping(
    server: ServerProcess, client: httpx.Client, run_id: str, way: str
) -> None:
    token = client.post(f"/runs/{run_id}/stream-token", json={}).json()["token"]
    path = f"/runs/{run_id}/ws"
    with open_socket(server, f"{path}?token={token}" if way == "query" else path, key=None) as socket:
        if way == "message":
            socket.say("auth", token=token)
            assert socket.next() == {"type": "ack", "of": "auth"}
        assert socket.next()["type"] == "hello"
        assert socket.ask("ping")["type"] == "pong"
        for refused in ("cancel", "answer"):
            members = {"interrupt_id": "int_1", "answer": 1} if refused == "answer" else {}
            assert socket.ask(refused, **members)["problem"]["code"] == "FORBIDDEN"
        socket.say("subscribe")
        assert len(socket.events()) == 5


def test_a_wrong_credential_in_the_first_message_closes(
    server: ServerProcess, client: httpx.Client, run_id: str
) -> None:
    other = client.post("/agents/say/runs", json={"texts": []}).json()["run_id"]
    foreign = client.post(f"/runs/{other}/stream-token", json={}).json()["token"]
    own = client.post(f"/runs/{run_id}/stream-token", json={}).json()["token"]
    path = f"/runs/{run_id}/ws"

    for where, message in (
        (path, {"type": "auth", "api_key": "wrong"}),
        (path, {"type": "auth", "bearer": "wrong"}),
        (path, {"type": "auth", "token": "wrong"}),
        (path, {"type": "auth", "token": foreign}),
        (path, {"type": "ping"}),
        ("/invoke/ws", {"type": "auth", "token": own}),
        ("/invoke/ws", {"type": "start", "input": {}}),
    ):
        with open_socket(server, where, key=None) as socket:
            socket.say(**message)
            assert socket.closed()[0] == 4401, (where, message)


def test_an_unknown_run_closes(server: ServerProcess) -> None:
    with open_socket(server, "/runs/no-such-run/ws") as socket:
        assert socket.closed() == (4404, "there is no such run")
    with open_socket(server, "/runs/no-such-run/ws", key=None) as socket:
        socket.say("auth", api_key=KEY)
        assert socket.closed()[0] == 4404


def test_what_is_wrong_with_the_call_is_said_in_http(server: ServerProcess, client: httpx.Client, run_id: str) -> None:
    reader = client.post("/_holdfast/keys", json={"name": f"r{random.getrandbits(64)}", "role": "reader"}).json()["key"]
    path = f"/runs/{run_id}/ws"
    for status, code, where, key in (
        (401, "AUTH_ERROR", path, "wrong"),
        (401, "AUTH_ERROR", f"{path}?token=hst_wrong", None),
        (401, "AUTH_ERROR", f"{path}?api_key={KEY}", None),
        (403, "FORBIDDEN", "/invoke/ws", reader),
        (404, "NOT_FOUND", "/agents/nobody/invoke/ws", KEY),
        (404, "NOT_FOUND", "/invoke/ws?agent=nobody", KEY),
        (422, "VALIDATION_ERROR", f"{path}?nonsense=1", KEY),
    ):
        with pytest.raises(InvalidStatus) as caught, open_socket(server, where, key=key):
            pass
        response = caught.value.response
        assert response.status_code == status, where
        assert httpx.Response(status, content=bytes(response.body or b"")).json()["code"] == code


def test_a_call_that_asks_for_no_socket_is_told(client: httpx.Client, run_id: str) -> None:
    reply = client.get(f"/runs/{run_id}/ws")

    assert (reply.status_code, reply.json()["code"], reply.headers["upgrade"]) == (426, "UPGRADE_REQUIRED", "websocket")


@pytest.mark.parametrize(
    ("host", "version", "status", "code"),
    [("127.0.0.1", 8, b"400", b"BAD_REQUEST"), ("evil.example", 13, b"403", b"HOST_NOT_ALLOWED")],
)
def test_a_refused_handshake_is_told_and_the_connection_ends(
    server: ServerProcess, run_id: str, host: str, version: int, status: bytes, code: bytes
) -> None:
    with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        request = HANDSHAKE.format(path=f"/runs/{run_id}/ws", host=host, version=version, key=KEY)
        connection.sendall(request.encode())
        found = b""
        while piece := connection.recv(65536):
            found += piece

    assert found.startswith(b"HTTP/1.1 %b " % status)
    assert code in found


def test_what_comes_right_behind_the_handshake_is_heard(server: ServerProcess, run_id: str) -> None:
    ping = bytes((0x81, 0x80 | 15)) + bytes(4) + b'{"type":"ping"}'
    with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            HANDSHAKE.format(path=f"/runs/{run_id}/ws", host="127.0.0.1", version=13, key=KEY).encode() + ping
        )
        found = b""
        while b'{"type":"pong"}' not in found:
            piece = connection.recv(65536)
            assert piece
            found += piece

    assert found.startswith(b"HTTP/1.1 101 ")


def test_an_upgrade_of_another_call_is_ignored_and_ends_the_connection(server: ServerProcess) -> None:
    with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(HANDSHAKE.format(path="/health", host="127.0.0.1", version=13, key=KEY).encode())
        found = b""
        while piece := connection.recv(65536):
            found += piece

    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in found


# How it closes


def _binary(socket: Socket) -> None:
    socket.connection.send(b"{}")


def _bad_text(socket: Socket) -> None:
    socket.connection.send(b'{"type":"\xff"}', text=True)


def _too_long(socket: Socket) -> None:
    socket.connection.send('"' + "x" * (2 * 1024 * 1024) + '"')


def _too_long_in_fragments(socket: Socket) -> None:
    socket.connection.send("x" * 300_000 for _ in range(4))


def _no_json(socket: Socket) -> None:
    socket.connection.send("hello")


def _unknown_type(socket: Socket) -> None:
    socket.say("nonsense")


def _too_fast(socket: Socket) -> None:
    for _ in range(200):
        socket.say("ping")


@pytest.mark.parametrize(
    ("do", "code"),
    [
        (_binary, 1003),
        (_bad_text, 1007),
        (_too_long, 1009),
        (_too_long_in_fragments, 1009),
        (_no_json, 4400),
        (_unknown_type, 4400),
        (_too_fast, 4429),
    ],
)
def test_what_a_client_does_wrong_closes_with_its_code(server: ServerProcess, run_id: str, do: Any, code: int) -> None:
    with joined(server, run_id) as socket:
        with contextlib.suppress(ConnectionClosed):  # over the first of many
            do(socket)
        assert socket.closed()[0] == code


def test_a_message_may_come_in_fragments(server: ServerProcess, run_id: str) -> None:
    with joined(server, run_id) as socket:
        socket.connection.send(iter(['{"type":', '"ping"', ',"ref":"é"}']))
        assert socket.next() == {"type": "pong", "ref": "é"}


def test_a_hundred_messages_at_once_are_answered(server: ServerProcess, run_id: str) -> None:
    with joined(server, run_id) as socket:
        for n in range(90):
            socket.say("ping", ref=str(n))
        assert [socket.next()["ref"] for _ in range(90)] == [str(n) for n in range(90)]
