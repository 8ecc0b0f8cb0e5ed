"""
What a handler holds: one request, with the caller it came from and the services it may use.
"""

from __future__ import annotations

import time
from typing import Any, cast
from urllib.parse import unquote

import msgspec
from litestar import Request

from holdfast.access import Access
from holdfast.agents.catalog import CallingProgram, Catalogs, PromptSkills
from holdfast.agents.mcp import Mcp
from holdfast.agents.registry import Registry
from holdfast.agents.skill.lookup import Lookup
from holdfast.agents.tools.gate import Gate
from holdfast.agents.tools.sandbox import Sandbox
from holdfast.api.http.asgi import Receive, Scope, connection_of, exchange_of
from holdfast.api.http.auth import Authenticator, Grant
from holdfast.api.http.body import has_body, header, read_body, read_json_body
from holdfast.api.http.connection import Connection
from holdfast.api.http.errors import InvalidQuery, NotReady
from holdfast.api.http.metrics import Metrics
from holdfast.api.http.query import Query, read_query
from holdfast.api.http.routing import Api
from holdfast.api.http.sse import StreamTimes
from holdfast.api.http.subscribers import Subscribers
from holdfast.clock import Clock
from holdfast.execution.program import Program
from holdfast.ids import Ids
from holdfast.rates import RateLimiter
from holdfast.runs import Caller, Runs
from holdfast.settings import Settings
from holdfast.shutdown import Shutdown
from holdfast.webhooks import Webhooks


class Services(msgspec.Struct, kw_only=True):
    """What the server gives to all handlers. `opened` is set, once, when the store is up."""

    settings: Settings
    access: Access = Access()  # what a Dockfile says of callers
    authenticator: Authenticator
    registry: Registry  # what is served; with agents that come and go with their files
    clock: Clock
    ids: Ids
    shutdown: Shutdown
    subscribers: Subscribers
    rates: RateLimiter  # of the calls of APIs that limit them
    started_at: int  # wall time of this process's start, in microseconds
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    apis: tuple[Api, ...] = ()  # those that are served
    opened: Runs | None = None
    webhooks: Webhooks | None = None  # set together with `opened`
    mcp: Mcp | None = None  # set before `opened`
    sandbox: Sandbox | None = None  # of the assistant's shell; set before `opened`
    gate: Gate | None = None  # of the assistant's tools; set before `opened`
    catalog: Catalogs | None = None  # set before `opened`; None: the settings name none
    prompt_skills: PromptSkills | None = None  # set before `opened`
    calling: CallingProgram | None = None  # of /rpc; set before `opened`; None: there is no assistant
    library: Lookup | None = None  # of skills and capabilities; set before `opened`
    notices: tuple[str, ...] = ()  # what the store cannot keep of what is promised, as its user allowed

    @property
    def programs(self) -> list[Program]:
        """The agents that may be started now."""
        return self.registry.startable()

    @property
    def default_agent(self) -> str | None:
        """The agent that answers now where none is named."""
        return self.registry.default

    @property
    def runs(self) -> Runs:
        """
        The service that does the work.

        Raises:
            NotReady: the store is not up yet; only public calls get here before that.
        """
        if self.opened is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.opened

    @property
    def hooks(self) -> Webhooks:
        """
        The service that tells others of runs.

        Raises:
            NotReady: as for `runs`.
        """
        if self.webhooks is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.webhooks

    @property
    def connections(self) -> Mcp:
        """
        The service for MCP servers.

        Raises:
            NotReady: as for `runs`.
        """
        if self.opened is None or self.mcp is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.mcp

    @property
    def permissions(self) -> Gate:
        """
        What decides about the tool calls of the assistant.

        Raises:
            NotReady: as for `runs`.
        """
        if self.opened is None or self.gate is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.gate

    @property
    def prompts(self) -> PromptSkills:
        """
        The service for prompt skills.

        Raises:
            NotReady: as for `runs`.
        """
        if self.opened is None or self.prompt_skills is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.prompt_skills

    @property
    def skills(self) -> Lookup:
        """
        The skills and capabilities that there are.

        Raises:
            NotReady: as for `runs`.
        """
        if self.opened is None or self.library is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        return self.library

    @property
    def stream_times(self) -> StreamTimes:
        """How long streams wait for what, without a limit of their own."""
        return StreamTimes(heartbeat=self.settings.heartbeat_seconds, stall=self.settings.stall_seconds)


class Exchange(msgspec.Struct):
    """What the door found out about a request; it stands in the scope under `holdfast`."""

    api: Api
    request_id: str
    headers: list[tuple[bytes, bytes]]
    services: Services
    grant: Grant
    is_head: bool
    facts: dict[str, Any] = msgspec.field(default_factory=dict)  # what the API notes down about it
    refusal: Exception | None = None  # what refuses the call once its role is known to be high enough
    agent: str = ""  # the one that is called, as far as the call tells
    has_begun: bool = False  # a status line is out
    status: int = 0  # that of the answer; 0: there was none
    arrived: float = msgspec.field(default_factory=time.monotonic)
    seconds: float = 0.0  # from its arrival to the status line

    def begin(self, status: int) -> None:
        """The status line is going out."""
        self.has_begun = True
        self.status = status
        self.seconds = time.monotonic() - self.arrived


class Call(Request[Any, Any, Any]):
    """One request of an API."""

    @property
    def _asgi(self) -> Scope:
        return cast(Scope, self.scope)

    @property
    def exchange(self) -> Exchange:
        return exchange_of(self._asgi)

    @property
    def services(self) -> Services:
        return self.exchange.services

    @property
    def runs(self) -> Runs:
        return self.services.runs

    @property
    def grant(self) -> Grant:
        """The key that this call was made with; tells a stream when it is revoked."""
        return self.exchange.grant

    @property
    def caller(self) -> Caller:
        return self.exchange.grant.caller

    @property
    def request_id(self) -> str:
        return self.exchange.request_id

    @property
    def connection(self) -> Connection:
        return connection_of(self._asgi)

    def path_value(self, name: str) -> str:
        """A parameter of the path, decoded."""
        value: str = self._asgi["path_params"][name]
        return unquote(value) if "%" in value else value

    def header(self, name: bytes) -> bytes | None:
        """The first header of this (lower-case) name."""
        return header(self._asgi["headers"], name)

    def query(self, *known: str) -> Query:
        """
        The query parameters, which must be among these.

        Raises:
            UnknownParameter, InvalidQuery
        """
        return read_query(self._asgi["query_string"], known)

    @property
    def has_body(self) -> bool:
        return has_body(self._asgi["headers"])

    async def json_body(self, limit: int | None = None) -> Any:
        """
        The body as a JSON value, read as this API reads it.

        Raises:
            UnsupportedMediaType, BodyTooLarge, BodyTimeout, MalformedBody
        """
        api = self.exchange.api
        return await read_json_body(
            self._asgi["headers"],
            cast(Receive, self.receive),
            api.body_max if limit is None else limit,
            idle_seconds=self.services.settings.body_idle_seconds,
            repair=api.repairs_text,
        )

    async def raw_body(self, limit: int) -> bytes:
        """
        The body as it came, for calls that take no JSON; they look at its media type by themselves.

        Raises:
            BodyTooLarge, BodyTimeout
        """
        idle_seconds = self.services.settings.body_idle_seconds
        return await read_body(self._asgi["headers"], cast(Receive, self.receive), limit, idle_seconds=idle_seconds)

    def idempotency_key(self) -> str | None:
        """
        The header Idempotency-Key: 1 to 255 visible ASCII characters; on an API that takes them, spaces too.

        Raises:
            InvalidQuery
        """
        raw = self.header(b"idempotency-key")
        if raw is None:
            return None
        has_spaces = self.exchange.api.keys_with_spaces
        return idempotency_key_of(raw.decode("latin-1"), "Idempotency-Key", has_spaces=has_spaces)


def idempotency_key_of(text: str, field: str, *, has_spaces: bool) -> str:
    """
    A key of idempotency, as it came in a header or, on a socket, in a member.

    Raises:
        InvalidQuery: it is not 1 to 255 visible ASCII characters, or printable ones where it may have spaces.
    """
    least, kind = (" ", "printable") if has_spaces else ("!", "visible")
    if not 1 <= len(text) <= 255 or not all(least <= character <= "~" for character in text):
        raise InvalidQuery(f"{field} is 1 to 255 {kind} ASCII characters", field=field)
    return text
