"""MCP servers without any: what a declaration may be, states of OAuth, the circuit, what a model knows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from holdfast.agents.mcp import Mcp, McpServer, Pending, RemoteTool, load_servers
from holdfast.agents.mcp.circuit import FAILURES_MAX, OPEN_SECONDS, Circuits
from holdfast.agents.mcp.oauth import Tokens, challenge_of
from holdfast.agents.mcp.remote import remote_tool
from holdfast.agents.mcp.servers import OAuth
from holdfast.agents.mcp.vault import Credential, Vault
from holdfast.agents.tools.egress import Egress
from holdfast.agents.tools.policy import Allowed, Ask, decide
from holdfast.clock import HeldClock
from holdfast.errors import AssetNotFound, InvalidState, McpConnectionFailed, NotConfigured
from holdfast.ids import SeededIds
from holdfast.model import Record
from holdfast.settings import InvalidSetting
from holdfast.store.base import Store
from holdfast.variables import load_settings

KEY = base64.urlsafe_b64encode(bytes(32)).decode()
HTTP: dict[str, Any] = {"transport": "streamable_http", "url": "https://x.example/mcp"}
OAUTH = OAuth(authorization_url="https://x.example/authorize", token_url="https://x.example/token", client_id="me")
SERVER = McpServer(name="x", auth_method="oauth", oauth=OAUTH, **HTTP)


class Records:
    """Records in a dict, as the contract of the store has them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Record] = {}

    async def put_records(self, records: list[Record]) -> None:
        self.kept |= {(one.tenant, one.kind, one.name): one for one in records}

    async def record(self, tenant: str, kind: str, name: str) -> Record | None:
        return self.kept.get((tenant, kind, name))

    async def records(self, kind: str, *, tenant: str) -> list[Record]:
        return [one for one in self.kept.values() if (one.kind, one.tenant) == (kind, tenant)]

    async def delete_record(self, tenant: str, kind: str, name: str) -> bool:
        return self.kept.pop((tenant, kind, name), None) is not None


class World:
    def __init__(self, *, key: str | None = KEY, public_url: str | None = "https://me.example") -> None:
        self.clock = HeldClock()
        self.records = Records()
        ids = SeededIds(self.clock)
        store = cast(Store, self.records)
        self.mcp = Mcp({"x": SERVER}, store, self.clock, ids, key=key, public_url=public_url)

    async def state(self) -> str:
        """What a person is sent away with, of the tenant `a`."""
        pending = await self.mcp.connect("a", "x", None)
        assert isinstance(pending, Pending)
        return parse_qs(urlsplit(pending.auth_url).query)["state"][0]


async def test_a_state_is_good_for_ten_minutes() -> None:
    world = World()
    state = await world.state()
    world.clock.advance(600)

    with pytest.raises(InvalidState, match="10 minutes"):
        await world.mcp.finish(state, "code")


async def test_a_state_that_was_refused_is_used_up() -> None:
    world = World()
    state = await world.state()

    with pytest.raises(InvalidState, match="consent"):
        await world.mcp.finish(state, None)
    with pytest.raises(InvalidState, match="used"):
        await world.mcp.finish(state, "code")


async def test_another_tenant_cannot_use_a_state_nor_use_it_up() -> None:
    world = World()
    state = await world.state()

    with pytest.raises(InvalidState):
        await world.mcp.finish(state, "code", tenant="b")

    assert len(world.records.kept) == 1


async def test_states_that_nobody_came_back_with_are_removed_at_the_next_one() -> None:
    world = World()
    await world.state()
    world.clock.advance(600)
    await world.state()

    assert len(world.records.kept) == 1


async def test_neither_state_nor_verifier_is_kept_in_the_clear() -> None:
    world = World()
    state = await world.state()
    (kept,) = world.records.kept.values()

    assert state.encode() not in kept.body
    assert state != kept.name
    verifier = Vault(KEY).open(json.loads(kept.body)["sealed"])
    assert verifier not in kept.body
    assert 43 <= len(verifier) <= 128  # RFC 7636, section 4.1


@pytest.mark.parametrize(("refresh_token", "status"), [(None, "expired"), ("again", "connected")])
async def test_a_token_that_is_over_is_shown_as_expired_unless_it_can_be_renewed(
    monkeypatch: pytest.MonkeyPatch, refresh_token: str | None, status: str
) -> None:
    world = World()
    state = await world.state()

    async def exchanged(*_: Any, **__: Any) -> Tokens:
        return Tokens(Credential("secret", refresh_token), expires_in=100.0)

    async def listed(*_: Any) -> list[RemoteTool]:
        return []

    monkeypatch.setattr("holdfast.agents.mcp.oauth.exchange_code", exchanged)
    monkeypatch.setattr("holdfast.agents.mcp.session.list_tools", listed)
    made = await world.mcp.finish(state, "code")
    world.clock.advance(100)

    assert made.status == "connected"
    assert [one.status for one in await world.mcp.connections("a")] == [status]


def test_the_challenge_is_that_of_the_specification() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(
    ("missing", "setting"),
    [({"key": None}, "HOLDFAST_ASSET_KEY"), ({"public_url": None}, "HOLDFAST_PUBLIC_URL")],
)
async def test_what_is_not_configured_is_named(missing: dict[str, Any], setting: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        await World(**missing).mcp.connect("a", "x", None)

    assert refused.value.details == {"setting": setting}


async def test_what_is_not_there_cannot_be_connected_nor_disconnected() -> None:
    world = World()

    with pytest.raises(AssetNotFound):
        await world.mcp.connect("a", "y", None)
    with pytest.raises(AssetNotFound):
        await world.mcp.disconnect("a", "y")


def test_a_credential_is_read_with_its_key_alone_and_not_shown() -> None:
    credential = Credential("canary", "refresh")
    sealed = Vault(KEY).seal_credential(credential)

    assert Vault(KEY).open_credential(sealed) == credential
    assert "canary" not in sealed + repr(credential)
    with pytest.raises(McpConnectionFailed, match="another key"):
        Vault(base64.urlsafe_b64encode(b"x" * 32).decode()).open_credential(sealed)


def test_the_circuit_opens_after_failures_in_a_row_and_tries_again_later() -> None:
    clock = HeldClock()
    circuits = Circuits(clock)
    for _ in range(FAILURES_MAX - 1):
        circuits.failed("a")
    circuits.succeeded("a")
    for _ in range(FAILURES_MAX):
        circuits.check("a")
        circuits.failed("a")

    with pytest.raises(McpConnectionFailed):
        circuits.check("a")
    circuits.check("b")
    clock.advance(OPEN_SECONDS)
    circuits.check("a")
    circuits.failed("a")
    with pytest.raises(McpConnectionFailed):
        circuits.check("a")


@pytest.mark.parametrize("key", ["", "x", KEY[:-1], KEY + "A", "é" * 44])
def test_an_asset_key_that_is_none_prevents_the_start(key: str) -> None:
    if not key:
        assert load_settings({"AD_ENCRYPTION_KEY": key}).asset_key is None
        return
    with pytest.raises(InvalidSetting):
        load_settings({"AD_ENCRYPTION_KEY": key})


@pytest.mark.parametrize(
    "declared",
    [
        {"transport": "carrier-pigeon"},
        {"transport": "stdio"},
        {"transport": "stdio", "command": "x", "url": "https://x"},
        {"transport": "stdio", "command": "x", "auth_method": "api_key"},
        {"transport": "sse"},
        {**HTTP, "url": "file:///etc/passwd"},
        {**HTTP, "url": "https://["},
        {**HTTP, "auth_method": "oauth"},
        {**HTTP, "surprise": 1},
        {**HTTP, "oauth": {"authorization_url": "https://x", "token_url": "https://x", "client_id": "c"}},
    ],
)
def test_a_declaration_that_does_not_fit_prevents_the_start(tmp_path: Path, declared: dict[str, Any]) -> None:
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"mcpServers": {"one": declared}}))

    with pytest.raises(InvalidSetting, match=r"mcp_servers\.json"):
        load_servers(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mcpServers": {"A b": {"transport": "stdio", "command": "x"}}}'])
def test_a_file_that_is_none_prevents_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "mcp_servers.json").write_text(text)

    with pytest.raises(InvalidSetting):
        load_servers(str(tmp_path))


def test_without_a_file_there_are_no_servers(tmp_path: Path) -> None:
    assert load_servers(None) == load_servers(str(tmp_path)) == {}


@pytest.mark.parametrize("action", ["add", "issues/list.all", "x" * 100, "größe"])
def test_models_know_tools_by_names_that_every_provider_takes(action: str) -> None:
    tool = RemoteTool(ref_id="r", server="tickets", action=action, description="", schema={})

    assert tool.name == f"tickets.{action}"
    assert tool.model_name.isascii()
    assert tool.model_name.replace("_", "").replace("-", "").isalnum()
    assert len(tool.model_name) <= 64


async def test_an_action_of_a_server_that_is_not_in_the_egress_list_is_asked_about() -> None:
    mcp = World().mcp
    tool = remote_tool(mcp, RemoteTool(ref_id="r", server="x", action="a", description="", schema={}))

    found = []
    for entries in ([], ["x.example"], ["y.example"]):
        mcp.egress = Egress(entries)
        found.append(decide(tool, {}))

    assert [type(one) for one in found] == [Allowed, Allowed, Ask]
    asked = found[2]
    assert isinstance(asked, Ask)
    assert (asked.rule, asked.grant.host, asked.may_remember) == ("egress", "x.example", True)
