"""Limits below HTTP: what never becomes a request is answered precisely and cut, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.server import ServerProcess, running_server

pytestmark = pytest.mark.one_store("it is refused below HTTP")

START = b"GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: test-key\r\n"


def post(target: bytes, headers: bytes) -> bytes:
    """The head of a call with a body that has not come yet."""
    head = b"POST " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: test-key\r\n"
    return head + b"Content-Type: application/json\r\n" + headers + b"\r\n"


def exchange(server: ServerProcess, *pieces: bytes, close: bool = False) -> bytes:
    """Send raw bytes and read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
        if close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def assert_refused(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == code


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "URI_TOO_LONG"),
        (b"GET /runs?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "URI_TOO_LONG"),
        (START + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (START + b"X: " + b"a" * 200_000, 431, "HEADERS_TOO_LARGE"),
        (START + b"".join(b"X%d: 1\r\n" % n for n in range(100)) + b"\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"garbage\r\n\r\n", 400, "BAD_REQUEST"),
        (START + b"Broken\r\n\r\n", 400, "BAD_REQUEST"),
        (START + b"Content-Length: x\r\n\r\n", 400, "BAD_REQUEST"),
    ],
)
def test_what_is_no_request_is_refused(
    server: ServerProcess, client: httpx.Client, request_bytes: bytes, status: int, code: str
) -> None:
    assert_refused(exchange(server, request_bytes), status, code)
    assert client.get("/runs").status_code == 200


def test_a_hundred_lines_pass(server: ServerProcess) -> None:
    lines = b"".join(b"X%d: 1\r\n" % number for number in range(97))

    assert exchange(server, START + lines + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_head_that_comes_in_pieces_is_a_request(server: ServerProcess) -> None:
    whole = START + b"Connection: close\r\n\r\n"

    answer = exchange(server, *(whole[place : place + 1] for place in range(len(whole))))

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that waits half a second for what is announced, executes one run, queues one, and gives the ids."""
    environment = {
        "HOLDFAST_HEADERS_SECONDS": "0.5",
        "HOLDFAST_BODY_IDLE_SECONDS": "0.5",
        "HOLDFAST_RUNS_MAX": "1",
        "HOLDFAST_QUEUE_MAX": "1",
        "HOLDFAST_ALLOW_CLIENT_IDS": "false",
    }
    with running_server(tmp_path_factory.mktemp("tight"), environment=environment) as process:
        yield process


def test_headers_that_do_not_come_are_408(tight: ServerProcess) -> None:
    assert_refused(exchange(tight, START), 408, "REQUEST_TIMEOUT")
    assert_refused(exchange(tight, b"GET /ru"), 408, "REQUEST_TIMEOUT")
    assert exchange(tight, b"") == b""  # nothing was asked: nothing is answered


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come_is_408_and_starts_nothing(tight: ServerProcess, framing: bytes) -> None:
    with tight.client() as client:
        before = client.get("/runs?limit=1").json()
        for path in (b"/runs", b"/runs/none/fork"):
            assert_refused(exchange(tight, post(path, framing)), 408, "REQUEST_TIMEOUT")

        assert client.get("/runs?limit=1").json() == before


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (post(b"/runs", b"Content-Length: 1048577\r\n"), 413, "PAYLOAD_TOO_LARGE"),
        (post(b"/invoke/stream", b"Content-Length: 99999999999\r\n"), 413, "PAYLOAD_TOO_LARGE"),
        (
            post(b"/runs", b"Transfer-Encoding: chunked\r\n") + b"100001\r\n" + b"x" * 0x100001,
            413,
            "PAYLOAD_TOO_LARGE",
        ),
        (post(b"/runs?" + b"a" * 8193, b"Content-Length: 9\r\n"), 414, "URI_TOO_LONG"),
        (post(b"/runs", b"Content-Length: 9\r\n" + b"X: 1\r\n" * 100), 431, "HEADERS_TOO_LARGE"),
    ],
)
def test_what_is_over_a_limit_is_refused_while_its_body_is_still_awaited(
    server: ServerProcess, request_bytes: bytes, status: int, code: str
) -> None:
    """The answer does not wait for the rest, which never comes: the server gives a body 30 s."""
    begun = time.monotonic()

    answer = exchange(server, request_bytes)

    assert_refused(answer, status, code)
    assert time.monotonic() - begun < 10


def test_half_requests_hinder_nobody(server: ServerProcess, client: httpx.Client) -> None:
    halves = [START, post(b"/runs", b"Content-Length: 100\r\n"), b"", post(b"/invoke", b"Content-Length: 9\r\n") + b"{"]
    with contextlib.ExitStack() as stack:
        for half in halves * 25:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            connection.sendall(half)

        assert client.post("/invoke", json={}).status_code == 200


def test_a_body_of_exactly_its_limit_passes(client: httpx.Client) -> None:
    frame = b'{"a":""}'
    content = frame[:-2] + b"x" * (1024 * 1024 - len(frame)) + frame[-2:]

    reply = client.post("/runs", content=content, headers={"Content-Type": "application/json"})

    assert (len(content), reply.status_code) == (1024 * 1024, 202)


def test_a_server_that_gives_the_ids_takes_none(tight: ServerProcess) -> None:
    with tight.client() as client:
        for path in ("/invoke?run_id=mine", "/invoke/stream?run_id=mine", "/runs?run_id=mine"):
            reply = client.post(path, json={})
            assert (reply.status_code, reply.json()["code"]) == (422, "VALIDATION_ERROR")
        assert client.post("/invoke?run_id=", json={}).status_code == 200


def test_without_room_a_start_is_503_after_all_that_is_wrong_with_it(tight: ServerProcess) -> None:
    """One run executes, one is queued; the next gets 503, but one that could never start is told why."""
    with tight.client() as client:
        first = client.post("/agents/stuck/runs?thread_id=t1", json={})
        second = client.post("/agents/stuck/runs", json={}, headers={"Idempotency-Key": "k"})
        assert (first.status_code, second.status_code) == (202, 202)

        refused = client.post("/runs", json={})
        busy = client.post("/runs?thread_id=t1", json={})
        repeated = client.post("/agents/stuck/runs", json={}, headers={"Idempotency-Key": "k"})

        assert (refused.status_code, refused.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(refused.headers["retry-after"]) >= 1
        assert busy.json()["code"] == "THREAD_BUSY"
        assert repeated.json() == second.json()
        for reply in (first, second):
            client.delete(f"/runs/{reply.json()['run_id']}")
        assert client.post("/invoke", json={}).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_changes_nothing(
    server: ServerProcess, client: httpx.Client
) -> None:
    head = b"POST /runs?run_id=half HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: test-key\r\n"

    exchange(server, head + b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":', close=True)

    assert client.get("/runs/half").status_code == 404
