"""MCP servers: connecting, consenting, calling; and that no credential is in anything that leaves the server."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.integration.engine.support import Engine
from tests.support.mcp_server import FakeServers, fake_servers
from tests.support.server import ServerProcess, running_server
from tests.support.sse import Frame, events

FAKE = Path(__file__).parents[2] / "support" / "mcp_server.py"
AGENTS = Path(__file__).parents[2] / "support" / "mcp_agents.py"
CANARY = "canary-4f2a-key"


class World(NamedTuple):
    server: ServerProcess
    fake: FakeServers
    data: Path


def catalog(directory: Path, url: str) -> Path:
    """A catalog with a server of each kind."""
    directory.mkdir()
    oauth = {
        "authorization_url": f"{url}/authorize?tenant=x",
        "token_url": f"{url}/token",
        "client_id": "holdfast-test",
        "client_secret_env": "FAKE_CLIENT_SECRET",
        "scopes": ["read", "write"],
    }
    http = {"transport": "streamable_http", "url": f"{url}/mcp"}
    servers = {
        "open": {**http, "display_name": "Open for all"},
        "keyed": {**http, "auth_method": "api_key"},
        "consent": {**http, "auth_method": "oauth", "oauth": oauth},
        "local": {
            "transport": "stdio",
            "command": sys.executable,
            "args": [str(FAKE)],
            "env": {"PYTHONPATH": str(FAKE.parents[2])},
            "auth_method": "api_key",
            "key_env": "FAKE_KEY",
        },
        "events": {"transport": "sse", "url": f"{url}/sse", "auth_method": "api_key"},
        "gone": {"transport": "streamable_http", "url": "http://127.0.0.1:9/mcp"},
    }
    (directory / "mcp_servers.json").write_text(json.dumps({"mcpServers": servers}))
    return directory


@pytest.fixture(scope="module")
def world(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("mcp")
    with fake_servers() as fake:
        environment = {
            **module_store,
            "CATALOG_DIR": str(catalog(data / "catalog", fake.url)),
            "AD_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "OAUTH_REDIRECT_BASE_URL": "https://holdfast.example/",
            "FAKE_CLIENT_SECRET": "canary-client-secret",
            "HOLDFAST_LOG_LEVEL": "debug",
        }
        with running_server(data, agents=AGENTS, environment=environment) as server:
            yield World(server, fake, data)


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    """With no connection, and a fake that takes everybody."""
    world.fake.accepted, world.fake.is_down = None, False
    with world.server.client(timeout=60) as client:
        for one in client.get("/assets/connections").json():
            assert client.delete(f"/assets/connections/{one['ref_id']}").status_code == 200
        yield client


def connect(client: httpx.Client, name: str, **config: str) -> Any:
    response = client.post("/assets/connect", json={"server_name": name, "server_config": config})
    assert response.status_code == 200, response.text
    return response.json()


def call(client: httpx.Client, tool: str, task_id: str, **input: Any) -> list[Frame]:
    return Engine(client).execute(json.dumps({"tool": tool, "input": input}), task_id)


def result(found: list[Frame]) -> dict[str, Any]:
    return next(frame.data for frame in found if frame.event == "tool_result")


def consent(world: World, auth_url: str, tokens: dict[str, Any]) -> dict[str, str]:
    """What the browser comes back with; the token endpoint will answer this."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(auth_url).query).items()}
    assert asked["tenant"] == "x"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "https://holdfast.example/assets/oauth/callback"
    assert asked["scope"] == "read write"
    world.fake.token_answers = [(200, tokens)]
    world.fake.token_requests.clear()
    return {"code": "canary-code", "state": asked["state"], "challenge": asked["code_challenge"]}


def test_servers_are_listed_with_what_they_ask_for(client: httpx.Client) -> None:
    assert client.get("/assets/servers").json()[:2] == [
        {
            "server_name": "open",
            "display_name": "Open for all",
            "transport": "streamable_http",
            "auth_method": "none",
            "status": "available",
        },
        {
            "server_name": "keyed",
            "display_name": "keyed",
            "transport": "streamable_http",
            "auth_method": "api_key",
            "status": "available",
        },
    ]


def test_a_connected_server_gives_its_tools_to_the_assistant(client: httpx.Client, task_id: str) -> None:
    made = connect(client, "open")

    tools = json.loads(Engine(client).execute("tools", task_id)[-1].data["output"])
    found = call(client, "open__add", task_id, a=2, b=3)

    assert made["status"] == "connected"
    assert {"open__add", "open__fail", "open__tell", "current_time"} <= set(tools)
    called = next(frame.data for frame in found if frame.event == "tool_call")
    assert (called["tool"], called["input"]) == ("open.add", {"a": 2, "b": 3})
    assert (result(found)["tool"], result(found)["output"]) == ("open.add", "5")
    assert found[-1].data["output"] == "success: 5"
    assert client.get("/assets/servers").json()[0]["status"] == "connected"


def test_a_server_over_sse_gets_its_key_with_every_request(world: World, client: httpx.Client, task_id: str) -> None:
    world.fake.accepted = {CANARY}
    connect(client, "events", api_key=CANARY)

    assert result(call(client, "events__add", task_id, a=2, b=3))["output"] == "5"


def test_after_disconnecting_its_tools_are_gone(client: httpx.Client, task_id: str) -> None:
    ref_id = connect(client, "open")["ref_id"]

    ended = client.delete(f"/assets/connections/{ref_id}")

    assert ended.json() == {"status": "disconnected", "ref_id": ref_id}
    assert client.get("/assets/connections").json() == []
    assert "open__add" not in Engine(client).execute("tools", task_id)[-1].data["output"]
    again = client.delete(f"/assets/connections/{ref_id}")
    assert (again.status_code, again.json()["error"]) == (404, "ASSET_NOT_FOUND")


def test_a_failing_tool_and_a_wrong_input_do_not_end_the_turn(client: httpx.Client, task_id: str) -> None:
    connect(client, "open")

    failed, wrong = call(client, "open__fail", task_id), call(client, "open__add", task_id, a="two", b=3)

    assert result(failed)["error"] == "tool_failed"
    assert "out of paper" in result(failed)["message"]
    assert result(wrong)["error"] == "invalid_input"
    assert failed[-1].data["phase"] == wrong[-1].data["phase"] == "completed"


def test_over_stdio_a_server_gets_its_key_and_nothing_else_of_ours(client: httpx.Client, task_id: str) -> None:
    connect(client, "local", api_key=CANARY)

    told = json.loads(result(call(client, "local__tell", task_id))["output"])

    assert told["environment"] == {"FAKE_KEY": "[secret]"}


def test_a_wrong_key_connects_nothing(world: World, client: httpx.Client) -> None:
    world.fake.accepted = {"another"}

    refused = client.post("/assets/connect", json={"server_name": "keyed", "server_config": {"api_key": CANARY}})

    assert (refused.status_code, refused.json()["error"]) == (401, "MCP_TOKEN_EXPIRED")
    assert set(refused.json()["details"]) == {"ref_id"}
    assert CANARY not in refused.text
    assert client.get("/assets/connections").json() == []


@pytest.mark.parametrize(
    ("body", "status", "error", "field"),
    [
        ({"server_name": "nobody"}, 404, "ASSET_NOT_FOUND", None),
        ({"server_name": "keyed"}, 422, "INVALID_REQUEST", "server_config.api_key"),
        ({"server_name": "open", "server_config": {"api_key": "k"}}, 422, "INVALID_REQUEST", "server_config.api_key"),
        ({"server_name": "keyed", "server_config": {"key": "k"}}, 422, "INVALID_REQUEST", "server_config.key"),
        ({"server_config": {}}, 422, "INVALID_REQUEST", "server_name"),
        ({"server_name": "gone"}, 502, "MCP_CONNECTION_FAILED", None),
    ],
)
def test_what_cannot_be_connected(
    client: httpx.Client, body: dict[str, Any], status: int, error: str, field: str | None
) -> None:
    refused = client.post("/assets/connect", json=body)

    assert (refused.status_code, refused.json()["error"]) == (status, error)
    assert refused.json().get("details", {}).get("field") == field
    assert client.get("/assets/connections").json() == []


def test_a_consent_comes_back_once(world: World, client: httpx.Client) -> None:
    pending = connect(client, "consent")
    back = consent(world, pending["auth_url"], {"access_token": "canary-access", "expires_in": 3600, "scope": "read"})
    world.fake.accepted = {"canary-access"}

    with world.server.client(key=None, timeout=60) as browser:
        page = browser.get("/assets/oauth/callback", params={"code": back["code"], "state": back["state"]})
        again = browser.get(
            "/assets/oauth/callback",
            params={"code": back["code"], "state": back["state"]},
            headers={"Accept": "application/json"},
        )

    assert pending["status"] == "pending_oauth"
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (again.status_code, again.json()["error"]) == (400, "INVALID_STATE")
    (sent,) = world.fake.token_requests
    digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == back["challenge"]
    assert (sent["client_id"], sent["client_secret"]) == ("holdfast-test", "canary-client-secret")
    (kept,) = client.get("/assets/connections").json()
    assert (kept["ref_id"], kept["status"], kept["scopes"]) == (pending["ref_id"], "connected", ["read"])
    assert kept["expires_at"].endswith("Z")


def test_an_unknown_state_is_refused_with_a_key_and_without(world: World, client: httpx.Client) -> None:
    keyed = client.post("/assets/callback", json={"code": "c", "state": "s"})
    with world.server.client(key=None) as browser:
        public = browser.get("/assets/oauth/callback", params={"code": "c", "state": "s", "iss": "https://x"})

    assert (keyed.status_code, keyed.json()["error"]) == (400, "INVALID_STATE")
    assert (public.status_code, public.headers["content-type"]) == (400, "text/html; charset=utf-8")


def test_a_token_is_renewed_before_it_ends(world: World, client: httpx.Client, task_id: str) -> None:
    first = {"access_token": "canary-first", "refresh_token": "canary-refresh", "expires_in": 30}
    back = consent(world, connect(client, "consent")["auth_url"], first)
    made = client.post("/assets/callback", json={"code": back["code"], "state": back["state"]})
    world.fake.token_answers = [(200, {"access_token": "canary-second", "expires_in": 3600})]
    world.fake.accepted = {"canary-second"}

    found = call(client, "consent__add", task_id, a=1, b=1)

    assert made.json()["status"] == "connected"
    assert result(found)["output"] == "2"
    assert world.fake.token_requests[-1]["grant_type"] == "refresh_token"
    assert world.fake.token_requests[-1]["refresh_token"] == "canary-refresh"


def test_a_token_that_cannot_be_renewed_is_a_tool_error(world: World, client: httpx.Client, task_id: str) -> None:
    back = consent(world, connect(client, "consent")["auth_url"], {"access_token": "canary-only"})
    client.post("/assets/callback", json={"code": back["code"], "state": back["state"]})
    world.fake.accepted = set()

    found = call(client, "consent__add", task_id, a=1, b=1)

    assert result(found)["error"] == "MCP_TOKEN_EXPIRED"
    assert found[-1].data["phase"] == "completed"
    assert client.get("/assets/connections").json()[0]["status"] == "expired"


def test_after_five_failures_calls_fail_at_once(world: World, client: httpx.Client, task_id: str) -> None:
    connect(client, "open")
    world.fake.is_down = True

    errors = [result(call(client, "open__add", task_id, a=1, b=1))["error"] for _ in range(5)]
    world.fake.is_down, world.fake.mcp_requests = False, 0
    sixth = result(call(client, "open__add", task_id, a=1, b=1))

    assert errors == ["MCP_CONNECTION_FAILED"] * 5
    assert sixth["error"] == "MCP_CONNECTION_FAILED"
    assert "tried again in" in sixth["message"]
    assert world.fake.mcp_requests == 0


def test_no_credential_is_in_answers_journal_log_or_store(world: World, client: httpx.Client, task_id: str) -> None:
    """A server that tells everything it knows, with and without success."""
    connect(client, "keyed", api_key=CANARY)
    told = call(client, "keyed__tell", task_id)
    world.fake.accepted = set()
    refused = call(client, "keyed__add", task_id, a=1, b=1)
    bodies = [client.get(path).text for path in ("/assets/connections", "/assets/servers", "/runs?limit=100")]
    frames = json.dumps([frame.data for frame in [*told, *refused]])

    kept = b"".join(
        path.read_bytes() for path in world.data.rglob("*") if path.is_file() and "catalog" not in path.parts
    )

    assert "[secret]" in result(told)["output"]
    assert b"listening" in kept
    for canary in (CANARY, "canary-first", "canary-second", "canary-refresh", "canary-access", "canary-client-secret"):
        assert canary.encode() not in kept
        assert canary not in frames
        assert not any(canary in body for body in bodies)


def test_a_call_that_a_crash_cut_off_is_not_made_again_without_asking(tmp_path: Path) -> None:
    """The server does not say that the tool only reads; whether it did its work, only a person can find out."""
    FakeServers.held.clear()
    with fake_servers() as fake:
        environment = {
            "HOLDFAST_CATALOG": str(catalog(tmp_path / "catalog", fake.url)),
            "HOLDFAST_ASSET_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        }
        start = functools.partial(running_server, tmp_path / "data", agents=AGENTS, environment=environment)
        try:
            with start() as server, server.client(timeout=60) as client:
                connect(client, "open")
                body = {"task_id": "t", "message": json.dumps({"tool": "open__hold"})}
                with client.stream("POST", "/execute", json=body) as response:
                    next(frame for frame in events(response) if frame.event == "tool_call")
                    wait_until(lambda: bool(FakeServers.held))
                    server.kill()
        finally:
            FakeServers.is_released.set()
        with start() as server, server.client(timeout=60) as client:
            wait_until(lambda: bool(client.get("/hitl/pending").json()["pending"]))
            (asked,) = client.get("/hitl/pending").json()["pending"]
            Engine(client).respond("t", "no").raise_for_status()
            found = Engine(client).replay(task_id="t")
    FakeServers.is_released.clear()

    assert (asked["rule"], asked["tool"]) == ("outcome_unknown", "open.hold")
    assert len(FakeServers.held) == 1
    assert result(found)["error"] == "outcome_unknown"
    assert found[-1].data["phase"] == "completed"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
