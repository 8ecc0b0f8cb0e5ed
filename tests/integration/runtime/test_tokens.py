"""How pages in browsers get in: stream tokens, their cookie, and keys in the URL, which are refused by default."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.postgres import PostgresServer
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.sse import read_all
from tests.support.stores import new_postgres_store

READ_CALLS = ("", "/events", "/interrupts", "/steps")
TEXT = (
    "API keys are not accepted in the URL: get a short-lived token from POST /runs/{id}/stream-token "
    "and pass it as ?token="
)


@pytest.fixture
def nobody(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client(None) as made:
        yield made


@pytest.fixture
def run_id(client: httpx.Client) -> str:
    found: str = client.post("/agents/say/runs", json={"texts": ["a", "b"]}).json()["run_id"]
    client.get(f"/runs/{found}?wait=20")
    return found


def token_of(client: httpx.Client, run_id: str, **body: Any) -> dict[str, Any]:
    reply = client.post(f"/runs/{run_id}/stream-token", json=body)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def refusal(reply: httpx.Response) -> tuple[int, str, str | None]:
    body = reply.json()
    return reply.status_code, body["code"], body.get("reason")


@pytest.mark.parametrize("call", READ_CALLS)
def test_a_token_opens_the_reading_of_its_run(
    client: httpx.Client, nobody: httpx.Client, run_id: str, call: str
) -> None:
    token = token_of(client, run_id)["token"]

    assert nobody.get(f"/runs/{run_id}{call}?token={token}").status_code == 200
    assert refusal(nobody.get(f"/runs/{run_id}{call}")) == (401, "AUTH_ERROR", "missing_credentials")


def test_the_url_that_is_given_is_read_as_it_is(client: httpx.Client, nobody: httpx.Client, run_id: str) -> None:
    made = token_of(client, run_id)

    frames = read_all(nobody, "GET", made["events_url"])

    assert made["events_url"] == f"/runs/{run_id}/events?token={made['token']}"
    assert made["token"].startswith("hst_")
    assert [frame.event for frame in frames] == ["started", "token", "token", "complete"]
    assert read_all(nobody, "GET", f"{made['events_url']}&from_sequence=2") == frames[2:]


def test_a_token_opens_nothing_else(client: httpx.Client, nobody: httpx.Client, run_id: str) -> None:
    token = token_of(client, run_id)["token"]
    other = client.post("/agents/say/runs", json={"texts": []}).json()["run_id"]
    calls = [
        ("GET", f"/runs/{other}"),
        ("GET", f"/runs/{other}/events"),
        ("GET", "/runs/no-such-run"),
        ("GET", "/runs"),
        ("GET", f"/runs/{run_id}/export"),
        ("GET", f"/runs/{run_id}/verify"),
        ("DELETE", f"/runs/{run_id}"),
        ("POST", f"/runs/{run_id}/cancel"),
        ("POST", f"/runs/{run_id}/interrupts/int_1"),
        ("POST", f"/runs/{run_id}/stream-token"),
        ("POST", "/invoke"),
        ("POST", "/runs"),
    ]

    for method, path in calls:
        reply = nobody.request(method, path, params={"token": token})
        assert refusal(reply)[:2] == (403, "FORBIDDEN"), (method, path, reply.text)


@pytest.mark.parametrize("token", ["hst_nonsense", "hst_", "x"])
def test_what_is_no_token_is_refused(nobody: httpx.Client, run_id: str, token: str) -> None:
    reply = nobody.get(f"/runs/{run_id}/events?token={token}")

    assert refusal(reply) == (401, "AUTH_ERROR", "invalid_credentials")
    assert reply.headers["www-authenticate"]


@pytest.mark.parametrize(
    "body",
    [{"expires_in": 9}, {"expires_in": 3601}, {"expires_in": True}, {"expires_in": "60"}, {"cookie": 1}, {"x": 1}],
)
def test_a_wrong_request_for_a_token_is_told(client: httpx.Client, run_id: str, body: dict[str, Any]) -> None:
    reply = client.post(f"/runs/{run_id}/stream-token", json=body)

    assert refusal(reply)[:2] == (422, "VALIDATION_ERROR")


def test_a_token_needs_no_body(client: httpx.Client, run_id: str) -> None:
    assert client.post(f"/runs/{run_id}/stream-token").status_code == 201


def test_of_an_unknown_run_there_is_no_token(client: httpx.Client) -> None:
    assert client.post("/runs/no-such-run/stream-token", json={}).status_code == 404


def test_the_cookie_is_for_its_run_alone(client: httpx.Client, server: ServerProcess, run_id: str) -> None:
    reply = client.post(f"/runs/{run_id}/stream-token", json={"cookie": True})
    name, _, attributes = reply.headers["set-cookie"].partition("; ")
    secure = client.post(
        f"/runs/{run_id}/stream-token", json={"cookie": True}, headers={"X-Forwarded-Proto": "https"}
    ).headers["set-cookie"]

    assert name == f"holdfast_stream={reply.json()['token']}"
    assert attributes == f"Path=/runs/{run_id}; Max-Age=900; HttpOnly; SameSite=Strict"
    assert secure.endswith("; Secure")
    assert "set-cookie" not in client.post(f"/runs/{run_id}/stream-token", json={}).headers


def test_a_cookie_opens_the_stream_for_pages_that_are_trusted(
    client: httpx.Client, nobody: httpx.Client, server: ServerProcess, run_id: str
) -> None:
    """`*` lets any page call, but without what the browser knows: that includes a cookie of the same site."""
    cookie = {"Cookie": f"a=b; holdfast_stream={token_of(client, run_id)['token']}"}
    path = f"/runs/{run_id}/events"

    assert len(read_all(nobody, "GET", path, headers=cookie)) == 4
    assert len(read_all(nobody, "GET", path, headers={**cookie, "Origin": server.url})) == 4
    foreign = nobody.get(path, headers={**cookie, "Origin": "http://127.0.0.1:1"})
    assert refusal(foreign) == (401, "AUTH_ERROR", "missing_credentials")


def test_a_key_in_the_url_is_refused_even_beside_a_good_header(
    client: httpx.Client, nobody: httpx.Client, server: ServerProcess, run_id: str
) -> None:
    for caller in (client, nobody):
        reply = caller.get(f"/runs/{run_id}?api_key={KEY}")
        assert refusal(reply) == (401, "AUTH_ERROR", "query_key_off")
        assert reply.json()["error"] == TEXT

    assert nobody.get(f"/health?api_key={KEY}").status_code == 200
    assert KEY not in server.log()


def test_no_log_shows_a_token(client: httpx.Client, nobody: httpx.Client, server: ServerProcess, run_id: str) -> None:
    token = token_of(client, run_id)["token"]
    nobody.get(f"/runs/{run_id}/events?token={token}&nonsense=1")
    nobody.get(f"/runs/{run_id}/events?token={token}x")
    nobody.post(f"/invoke?token={token}", json={})

    assert token not in server.log()
    assert token[4:40] not in server.log()


def test_a_key_in_the_url_opens_where_the_setting_allows_it(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, environment={"HOLDFAST_ALLOW_QUERY_KEY": "true"}) as server,
        server.client(None) as nobody,
    ):
        started = nobody.post(f"/agents/say/invoke?run_id=one&api_key={KEY}", json={"texts": ["a"], "output": {}})
        read = nobody.get(f"/runs/one/events?api_key={KEY}&from_sequence=1")
        wrong = nobody.get("/runs/one?api_key=wrong")
        both = nobody.get("/runs/one?api_key=wrong", headers={"X-API-Key": KEY})

        assert (started.status_code, read.status_code, both.status_code) == (200, 200, 200)
        assert refusal(wrong) == (401, "AUTH_ERROR", "invalid_credentials")
        assert KEY not in server.log()


def test_without_keys_tokens_and_keys_in_the_url_are_ignored(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, key=None, environment={"HOLDFAST_NO_AUTH": "true"}) as server,
        server.client(None) as nobody,
    ):
        nobody.post("/agents/say/runs?run_id=one", json={"texts": []})
        made = nobody.post("/runs/one/stream-token", json={}).json()

        assert nobody.get(made["events_url"]).status_code == 200
        assert nobody.get("/runs/one?token=x&api_key=y").status_code == 200


@pytest.mark.slow
def test_tokens_hold_in_every_process_of_a_store_and_die_with_their_key(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with (
        new_postgres_store(postgres) as settings,
        running_server(tmp_path / "a", environment=settings) as first,
        running_server(tmp_path / "b", environment={**settings, "HOLDFAST_HEARTBEAT_SECONDS": "1"}) as second,
        first.client() as admin,
        second.client(None) as page,
    ):
        key = admin.post("/_holdfast/keys", json={"name": "web"}).json()["key"]
        admin.post("/agents/stuck/runs?run_id=one", json={})
        with first.client(key) as web:
            url = token_of(web, "one")["events_url"]
        deadline = time.monotonic() + 20
        # A new key is known to the other processes after some seconds.
        while page.get(f"/runs/one?{url.partition('?')[2]}").status_code != 200:
            assert time.monotonic() < deadline
        with page.stream("GET", url) as response:
            lines = response.iter_lines()
            assert "event: token" in lines
            admin.delete("/_holdfast/keys/web")
            began = time.monotonic()
            rest = list(lines)
        seconds = time.monotonic() - began

        assert rest[-2:] == [": key revoked", ""]
        assert seconds < 30
        assert refusal(page.get(url)) == (401, "AUTH_ERROR", "invalid_credentials")
