"""Limits below HTTP: what never becomes a request is answered precisely and cut, and nobody else notices."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from tests.support.server import ServerProcess

pytestmark = pytest.mark.one_store("it is refused below HTTP")

START = b"GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: test-key\r\n"


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


@pytest.mark.slow
def test_headers_that_do_not_come_are_408(server: ServerProcess) -> None:
    assert_refused(exchange(server, START), 408, "REQUEST_TIMEOUT")


def test_a_client_that_leaves_in_the_middle_of_its_body_changes_nothing(
    server: ServerProcess, client: httpx.Client
) -> None:
    head = b"POST /runs?run_id=half HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: test-key\r\n"

    exchange(server, head + b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":', close=True)

    assert client.get("/runs/half").status_code == 404
