"""Host, Origin and CORS."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.server import ServerProcess, running_server

pytestmark = pytest.mark.one_store("names and origins are told apart before the store is asked")

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,content-type"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[::2]"])
def test_a_foreign_host_name_is_refused(client: httpx.Client, host: str) -> None:
    reply = client.get("/health", headers={"Host": host})

    assert (reply.status_code, reply.json()["code"]) == (403, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]", "[::1]:8000"])
def test_this_machines_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/runs", headers={"Host": host}).status_code == 200


def test_any_origin_may_call_with_a_key(client: httpx.Client) -> None:
    reply = client.get("/runs", headers={"Origin": "https://app.example"})

    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    assert "X-Run-Id" in reply.headers["access-control-expose-headers"]


def test_a_preflight_needs_no_key(server: ServerProcess) -> None:
    with server.client(None) as nobody:
        reply = nobody.options("/invoke/stream", headers={"Origin": "https://app.example", **PREFLIGHT})

    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-headers"] == "x-api-key,content-type"
    assert reply.headers["access-control-max-age"] == "600"
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_errors_can_be_read_by_a_page(server: ServerProcess) -> None:
    with server.client("wrong") as stranger:
        reply = stranger.get("/runs", headers={"Origin": "https://app.example"})

    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == "*"


def test_listed_origins_are_echoed_and_others_refused(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, environment={"HOLDFAST_CORS_ORIGINS": "https://app.example"}) as server,
        server.client() as client,
    ):
        good = client.get("/runs", headers={"Origin": "https://app.example"})
        own = client.get("/runs", headers={"Origin": server.url})
        bad = client.get("/runs", headers={"Origin": "https://evil.example"})
        bad_preflight = client.options("/runs", headers={"Origin": "https://evil.example", **PREFLIGHT})
        public = client.get("/health", headers={"Origin": "https://evil.example"})

    assert good.headers["access-control-allow-origin"] == "https://app.example"
    assert good.headers["access-control-allow-credentials"] == "true"
    assert good.headers["vary"] == "Origin"
    assert own.headers["access-control-allow-origin"] == server.url
    assert (bad.status_code, bad.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert bad_preflight.status_code == 403
    assert public.status_code == 200
    assert "access-control-allow-origin" not in public.headers


@pytest.mark.parametrize(
    ("environment", "key"), [({"HOLDFAST_NO_AUTH": "true"}, None), ({}, "dev-engine-key")], ids=["no auth", "dev key"]
)
def test_without_a_secret_key_only_the_own_origin_may_call(
    tmp_path: Path, environment: dict[str, str], key: str | None
) -> None:
    with running_server(tmp_path, environment=environment, key=key) as server, server.client(key) as client:
        foreign = client.get("/runs", headers={"Origin": "https://app.example"})
        own = client.get("/runs", headers={"Origin": server.url})

    assert (foreign.status_code, own.status_code) == (403, 200)
