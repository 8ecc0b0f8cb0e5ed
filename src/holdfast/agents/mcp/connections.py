"""
A tenant's connections to MCP servers, kept as records of the store.

A tenant has at most one connection to a server; a new one takes the place of the old. The body of a record holds the
credential encrypted and nothing of it in the clear. States of OAuth are records too, so that the person may come back to
another process than the one that sent them away; whoever deletes such a record has used it, and nobody else can.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import structlog

from holdfast.agents.mcp import oauth
from holdfast.agents.mcp.circuit import Circuits
from holdfast.agents.mcp.remote import RemoteTool
from holdfast.agents.mcp.servers import McpServer
from holdfast.agents.mcp.vault import Credential, Vault
from holdfast.agents.tools import Reason, ToolError
from holdfast.agents.tools.egress import Egress
from holdfast.clock import Clock
from holdfast.errors import (
    AssetNotFound,
    InvalidRequest,
    InvalidState,
    McpConnectionFailed,
    McpTokenExpired,
    NotConfigured,
)
from holdfast.ids import Ids
from holdfast.model import Record
from holdfast.store.base import Store

log = structlog.get_logger(__name__)

KIND: Final = "mcp_connection"
STATE_KIND: Final = "mcp_state"
# States are found before it is known whose they are.
_NO_TENANT: Final = ""

STATE_SECONDS: Final = 600
SECOND: Final = 1_000_000
# A token that has no longer to live than this is renewed before it is used.
RENEW_SECONDS: Final = 60
# What a server offers is asked for again after so long.
LISTED_SECONDS: Final = 60.0

CALLBACK: Final = "/assets/oauth/callback"

T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a connection's record."""

    server: str
    status: str = "connected"  # connected, expired, error
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None
    sealed: str | None = None
    can_renew: bool = False


class Connection(msgspec.Struct, frozen=True):
    """A connection, without its credential."""

    ref_id: str
    server_name: str
    status: str  # connected, expired, error
    scopes: tuple[str, ...]
    expires_at: int | None  # microseconds


class Pending(msgspec.Struct, frozen=True):
    """A connection that a person has to consent to."""

    ref_id: str
    auth_url: str


class _State(msgspec.Struct, frozen=True):
    tenant: str
    ref_id: str
    server: str
    expires_at: int
    sealed: str  # the verifier


class Mcp:
    """The service: servers, connections, calls."""

    def __init__(
        self,
        servers: Mapping[str, McpServer],
        store: Store,
        clock: Clock,
        ids: Ids,
        *,
        key: str | None,
        public_url: str | None,
    ) -> None:
        self.servers_known = servers
        self.egress = Egress()  # replaced once, before the first call
        self._store = store
        self._clock = clock
        self._ids = ids
        self._vault = Vault(key)
        self._public_url = None if public_url is None else public_url.rstrip("/")
        self._circuits = Circuits(clock)
        self._has_key = key is not None
        self._renewing: dict[str, asyncio.Lock] = {}
        self._listed: dict[str, tuple[float, list[RemoteTool]]] = {}

    # Servers and connections

    def egress_reason(self, server_name: str) -> Reason | None:
        """Why a person is asked before an action of this server is called; None: nobody is."""
        server = self.servers_known.get(server_name)
        return None if server is None or server.url is None else self.egress.reason(server.url)

    async def servers(self, tenant: str) -> list[tuple[McpServer, str]]:
        """All servers, and for each whether this tenant is `connected` or it is `available`."""
        connected = {item.server_name for item in await self.connections(tenant) if item.status == "connected"}
        return [(one, "connected" if one.name in connected else "available") for one in self.servers_known.values()]

    async def connections(self, tenant: str) -> list[Connection]:
        """In the order in which they were made."""
        return [self._shown(record) for record in await self._store.records(KIND, tenant=tenant)]

    @property
    def health(self) -> str:
        """`not_configured` where nothing can be connected, `error` where the last call of a connection failed, else `ok`."""
        if not self._has_key:
            return "not_configured"
        return "error" if self._circuits.is_failing else "ok"

    async def is_used(self, tenant: str) -> bool:
        """Whether there is any connection."""
        return bool(self.servers_known) and bool(await self._store.records(KIND, tenant=tenant))

    async def connect(self, tenant: str, server_name: str, api_key: str | None) -> Connection | Pending:
        """
        Connect to a server, after a handshake; where a person has to consent, say where.

        Raises:
            AssetNotFound: there is no such server.
            NotConfigured: a setting is missing, which it names.
            InvalidRequest: the key is missing, or not asked for.
            McpConnectionFailed, McpTokenExpired: the handshake failed; nothing is kept.
        """
        server = self.servers_known.get(server_name)
        if server is None:
            raise AssetNotFound(
                f"there is no MCP server {server_name!r}; known: {', '.join(self.servers_known) or 'none'}"
            )
        self._vault.check()
        if server.auth_method == "api_key":
            if not api_key:
                raise InvalidRequest("server_config.api_key: this server asks for a key", field="server_config.api_key")
            return await self._establish(tenant, server, self._ids.short("ast"), oauth.Tokens(Credential(api_key)))
        if api_key is not None:
            raise InvalidRequest("server_config.api_key: this server takes none", field="server_config.api_key")
        if server.auth_method == "oauth":
            return await self._send_away(tenant, server)
        return await self._establish(tenant, server, self._ids.short("ast"), None)

    async def finish(self, state: str, code: str | None, *, tenant: str | None = None) -> Connection:
        """
        Take a person back who consented (`code`), or did not (None). The state is used up, whatever comes of it.

        Raises:
            InvalidState: it is unknown, used, too old or another tenant's, or there is no code.
            McpConnectionFailed, McpTokenExpired: there are no tokens, or the handshake failed; nothing is kept.
        """
        name = _state_name(state)
        record = await self._store.record(_NO_TENANT, STATE_KIND, name)
        kept = None if record is None else msgspec.json.decode(record.body, type=_State)
        if kept is None or (tenant is not None and kept.tenant != tenant):
            raise InvalidState("this state is not known, or was used")
        if not await self._store.delete_record(_NO_TENANT, STATE_KIND, name):
            raise InvalidState("this state is not known, or was used")
        if kept.expires_at <= self._clock.now():
            raise InvalidState(f"this state is older than {STATE_SECONDS // 60} minutes: connect again")
        server = self.servers_known.get(kept.server)
        if server is None or server.oauth is None:
            raise InvalidState("its server is not known any more")
        if code is None:
            raise InvalidState("the consent was not given")
        verifier = self._vault.open(kept.sealed).decode()
        tokens = await oauth.exchange_code(
            server.oauth, code=code, redirect_uri=self._redirect_uri(), verifier=verifier
        )
        return await self._establish(kept.tenant, server, kept.ref_id, tokens)

    async def disconnect(self, tenant: str, ref_id: str) -> None:
        """
        Forget a connection, and its credential with it.

        Raises:
            AssetNotFound
        """
        if not await self._store.delete_record(tenant, KIND, ref_id):
            raise AssetNotFound(f"there is no connection {ref_id!r}")
        self._forget(ref_id)

    # Tools

    async def tools(self, tenant: str) -> list[RemoteTool]:
        """What the connected servers offer. One that fails offers nothing, and its failure counts."""
        found: list[RemoteTool] = []
        records = await self._store.records(KIND, tenant=tenant)
        for one in await asyncio.gather(*(self._tools_of(record) for record in records)):
            found += one
        return found

    async def call(self, tenant: str, ref_id: str, action: str, arguments: dict[str, Any]) -> Any:
        """
        Call a tool once.

        Raises:
            ToolError: the tool itself failed.
            McpConnectionFailed, McpTokenExpired
        """
        record = await self._store.record(tenant, KIND, ref_id)
        if record is None:
            raise McpConnectionFailed("this connection was ended")
        server = self._server_of(record)

        async def work(credential: Credential | None) -> Any:
            from holdfast.agents.mcp import session

            return await session.call_tool(server, credential, action, arguments)

        return await self._guarded(record, server, work)

    async def call_server(self, tenant: str, server_name: str, action: str, arguments: dict[str, Any]) -> Any:
        """
        Call a tool of a server by the server's name: with the tenant's connection, or without any where the server asks
        for no credential.

        Raises:
            AssetNotFound: there is no such server, or the tenant is not connected to it.
            ToolError: the tool itself failed.
            McpConnectionFailed, McpTokenExpired, NotConfigured
        """
        server = self.servers_known.get(server_name)
        if server is None:
            raise AssetNotFound(
                f"there is no MCP server {server_name!r}; known: {', '.join(self.servers_known) or 'none'}"
            )
        for record in await self._store.records(KIND, tenant=tenant):
            if _body(record).server == server_name:
                return await self.call(tenant, record.name, action, arguments)
        if server.auth_method != "none":
            raise AssetNotFound(f"there is no connection to the MCP server {server_name!r}: connect to it first")
        await _load()
        from holdfast.agents.mcp import session

        return await session.call_tool(server, None, action, arguments)

    async def _tools_of(self, record: Record) -> list[RemoteTool]:
        ref_id = record.name
        known = self._listed.get(ref_id)
        if known is not None and self._clock.monotonic() - known[0] < LISTED_SECONDS:
            return known[1]
        try:
            server = self._server_of(record)

            async def work(credential: Credential | None) -> list[RemoteTool]:
                from holdfast.agents.mcp import session

                return await session.list_tools(server, ref_id, credential)

            listed = await self._guarded(record, server, work)
        except (McpConnectionFailed, McpTokenExpired, NotConfigured) as exc:
            log.warning("mcp_server_unusable", ref_id=ref_id, code=exc.code, reason=exc.message)
            return known[1] if known is not None else []
        self._listed[ref_id] = (self._clock.monotonic(), listed)
        return listed

    async def _guarded(self, record: Record, server: McpServer, work: Callable[[Credential | None], Awaitable[T]]) -> T:
        """Do something with a server, with a credential that is good, if the circuit lets it; note what came of it."""
        ref_id = record.name
        self._circuits.check(ref_id)
        try:
            await _load()
            record, credential = await self._fresh(record, server)
            try:
                result = await work(credential)
            except McpTokenExpired:
                if credential is None or credential.refresh_token is None:
                    raise
                record, credential = await self._fresh(record, server, is_refused=True)
                result = await work(credential)
        except McpTokenExpired:
            self._circuits.failed(ref_id)
            await self._mark(record, "expired")
            raise
        except (McpConnectionFailed, NotConfigured):
            self._circuits.failed(ref_id)
            await self._mark(record, "error")
            raise
        except ToolError:
            self._circuits.succeeded(ref_id)
            raise
        self._circuits.succeeded(ref_id)
        await self._mark(record, "connected")
        return result

    # Credentials

    async def _fresh(
        self, record: Record, server: McpServer, *, is_refused: bool = False
    ) -> tuple[Record, Credential | None]:
        """The credential, renewed if it ends soon or was refused."""
        body = _body(record)
        if body.sealed is None:
            return record, None
        if not is_refused and not self._ends_soon(body):
            return record, self._vault.open_credential(body.sealed)
        async with self._renewing.setdefault(record.name, asyncio.Lock()):
            return await self._renew(record, server)

    async def _renew(self, before: Record, server: McpServer) -> tuple[Record, Credential]:
        """Renew a token, unless somebody did since it was read."""
        record = await self._store.record(before.tenant, KIND, before.name)
        if record is None:
            raise McpConnectionFailed("this connection was ended")
        body = _body(record)
        credential = self._vault.open_credential(body.sealed or "")
        if body.sealed != _body(before).sealed:
            return record, credential
        if server.oauth is None or credential.refresh_token is None:
            raise McpTokenExpired("the token has expired, and there is none to renew it with: connect again")
        try:
            tokens = await oauth.renew(server.oauth, credential.refresh_token)
        except McpTokenExpired:
            # Another process may have used the refresh token up just now.
            latest = await self._store.record(before.tenant, KIND, before.name)
            if latest is None or _body(latest).sealed == body.sealed:
                raise
            return latest, self._vault.open_credential(_body(latest).sealed or "")
        renewed = self._record(record.tenant, record.name, server, tokens, created_at=record.created_at)
        # Not after a disconnect, which has erased it.
        if not await self._store.swap_record(renewed, record.body):
            latest = await self._store.record(before.tenant, KIND, before.name)
            if latest is None:
                raise McpConnectionFailed("this connection was ended")
            return latest, tokens.credential
        return renewed, tokens.credential

    def _ends_soon(self, body: Body) -> bool:
        return body.expires_at is not None and body.expires_at - self._clock.now() < RENEW_SECONDS * SECOND

    async def _mark(self, record: Record, status: str) -> None:
        body = _body(record)
        if body.status != status:
            changed = msgspec.json.encode(msgspec.structs.replace(body, status=status))
            replaced = msgspec.structs.replace(record, body=changed, updated_at=self._clock.now())
            await self._store.swap_record(replaced, record.body)

    async def _establish(self, tenant: str, server: McpServer, ref_id: str, tokens: oauth.Tokens | None) -> Connection:
        """Shake hands, then keep the connection in the place of an older one."""
        await _load()
        from holdfast.agents.mcp import session

        try:
            listed = await session.list_tools(server, ref_id, None if tokens is None else tokens.credential)
        except McpTokenExpired as exc:
            raise McpTokenExpired(exc.message, ref_id=ref_id) from None
        record = self._record(tenant, ref_id, server, tokens, created_at=self._clock.now())
        await self._store.put_records([record])
        for other in await self._store.records(KIND, tenant=tenant):
            if other.name != ref_id and _body(other).server == server.name:
                await self._store.delete_record(tenant, KIND, other.name)
                self._forget(other.name)
        self._listed[ref_id] = (self._clock.monotonic(), listed)
        return self._shown(record)

    async def _send_away(self, tenant: str, server: McpServer) -> Pending:
        assert server.oauth is not None
        redirect_uri, now = self._redirect_uri(), self._clock.now()
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        ref_id = self._ids.short("ast")
        kept = _State(tenant, ref_id, server.name, now + STATE_SECONDS * SECOND, self._vault.seal(verifier.encode()))
        body, name = msgspec.json.encode(kept), _state_name(state)
        for old in await self._store.records(STATE_KIND, tenant=_NO_TENANT):
            if old.created_at + STATE_SECONDS * SECOND <= now:
                await self._store.delete_record(_NO_TENANT, STATE_KIND, old.name)
        await self._store.put_records(
            [Record(kind=STATE_KIND, tenant=_NO_TENANT, name=name, body=body, created_at=now, updated_at=now)]
        )
        url = oauth.authorization_url(server.oauth, redirect_uri=redirect_uri, state=state, verifier=verifier)
        return Pending(ref_id, url)

    def _redirect_uri(self) -> str:
        if self._public_url is None:
            setting = "HOLDFAST_PUBLIC_URL"
            raise NotConfigured(f"{setting} says where a person comes back to after the consent", setting=setting)
        return self._public_url + CALLBACK

    def _record(
        self, tenant: str, ref_id: str, server: McpServer, tokens: oauth.Tokens | None, *, created_at: int
    ) -> Record:
        now = self._clock.now()
        expires_in = None if tokens is None else tokens.expires_in
        body = Body(
            server=server.name,
            scopes=() if tokens is None else tokens.scopes,
            expires_at=None if expires_in is None else now + int(expires_in * SECOND),
            sealed=None if tokens is None else self._vault.seal_credential(tokens.credential),
            can_renew=tokens is not None and tokens.credential.refresh_token is not None,
        )
        return Record(
            kind=KIND,
            tenant=tenant,
            name=ref_id,
            body=msgspec.json.encode(body),
            created_at=created_at,
            updated_at=now,
        )

    def _server_of(self, record: Record) -> McpServer:
        name = _body(record).server
        server = self.servers_known.get(name)
        if server is None:
            raise McpConnectionFailed(f"the MCP server {name} is not in mcp_servers.json any more")
        return server

    def _shown(self, record: Record) -> Connection:
        body = _body(record)
        is_over = body.expires_at is not None and body.expires_at <= self._clock.now() and not body.can_renew
        status = "expired" if is_over else body.status
        return Connection(record.name, body.server, status, body.scopes, body.expires_at)

    def _forget(self, ref_id: str) -> None:
        self._listed.pop(ref_id, None)
        self._renewing.pop(ref_id, None)
        self._circuits.succeeded(ref_id)


def _body(record: Record) -> Body:
    return msgspec.json.decode(record.body, type=Body)


def _state_name(state: str) -> str:
    """What a state is kept under: who reads the store cannot use it."""
    return hashlib.sha256(state.encode()).hexdigest()


async def _load() -> None:
    """Load the client, which takes seconds the first time, off the event loop."""
    try:
        await asyncio.to_thread(__import__, "holdfast.agents.mcp.session")
    except ImportError:
        setting = "holdfast[mcp]"
        raise NotConfigured(f"the MCP client is not installed: install {setting}", setting=setting) from None
