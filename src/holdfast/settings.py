"""
Every setting of a server, in one frozen struct; `holdfast.variables` makes it of flags and the environment.

Each field carries its documentation; docs/settings.md is held against it by a test. A value that does not fit, or that
contradicts another, refuses the start.
"""

from __future__ import annotations

import base64
import re
from ipaddress import ip_address
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from holdfast.errors import HoldfastError
from holdfast.model.selection import Selection, UnknownType

METRICS: Final = ("latency", "tokens", "cost")
TRUST_LEVELS: Final = ("sandbox", "standard", "elevated", "privileged")

_SHA256_HEX: Final = re.compile(r"[0-9a-fA-F]{64}\Z")


class InvalidSetting(HoldfastError):
    """A setting has a value that does not fit. Nothing was started. `setting` names it."""

    code = "invalid_setting"

    def __init__(self, message: str, setting: str) -> None:
        super().__init__(message, setting=setting)
        self.setting = setting


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is started with. Times are seconds unless their name says otherwise."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    data: Annotated[
        str, Meta(min_length=1, description="directory of the embedded store, of files and server.json")
    ] = ".holdfast"
    store: Annotated[
        str | None, Meta(description="where runs are kept instead: a SQLite directory or a Postgres URL")
    ] = None
    store_unsafe: Annotated[
        bool, Meta(description="open a Postgres whose settings may lose what was acknowledged; shown in /health")
    ] = False
    store_pooled: Annotated[
        bool, Meta(description="the Postgres URL is that of a pooler in transaction mode: other processes are polled")
    ] = False
    keys: Annotated[tuple[str, ...], Meta(description="API keys of admins, comma-separated; hashed when loaded")] = ()
    key_hashes: Annotated[
        tuple[str, ...], Meta(description="SHA-256 of API keys of admins in hex, comma-separated")
    ] = ()
    key_header: Annotated[str | None, Meta(description="one more header in which an API key may come")] = None
    key_overlap_seconds_max: Annotated[
        float, Meta(ge=0, le=300, description="longest time for which a rotated key is good beside the new one")
    ] = 300.0
    allow_query_key: Annotated[
        bool, Meta(description="take an API key in `?api_key=` too; it then stands in histories and logs of proxies")
    ] = False
    no_auth: Annotated[bool, Meta(description="ask for no key; only on a loopback host")] = False
    agent: Annotated[str | None, Meta(description="the agent that answers where a call names none")] = None
    apis: Annotated[
        tuple[str, ...], Meta(description="the APIs that are served: runtime, engine, workflow, skills")
    ] = (
        "runtime",
        "engine",
        "workflow",
        "skills",
    )
    expose_rest: Annotated[bool, Meta(description="answer /invoke")] = True
    expose_streams: Annotated[
        str,
        Meta(pattern="^(sse|websocket|none)$", description="streams of the Runtime API: sse; websocket: both; none"),
    ] = "websocket"
    async_runs: Annotated[bool, Meta(description="answer POST and GET /runs")] = True
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="origins whose pages may call, comma-separated; `*` holds only with a key that is not dev-engine-key"
        ),
    ] = ("*",)
    cors_methods: Annotated[
        tuple[str, ...], Meta(description="methods that pages of other origins may call with; none: all that there are")
    ] = ()
    public_pages: Annotated[
        bool, Meta(description="show /metrics, /docs and /openapi.json to everybody; else to keys that may see them")
    ] = True
    allowed_hosts: Annotated[
        tuple[str, ...], Meta(description="further host names that are answered on a loopback address")
    ] = ()
    heartbeat_seconds: Annotated[float, Meta(gt=0, le=300, description="silence before a stream sends a heartbeat")] = (
        15.0
    )
    stall_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="a reader that takes nothing for so long is cut off")
    ] = 30.0
    stream_idle_seconds: Annotated[
        Annotated[float, Meta(ge=1, le=3600)] | None,
        Meta(description="a stream of events ends after so long without one, where its call names no `timeout`"),
    ] = None
    subscribers_max: Annotated[
        int, Meta(ge=1, le=1000, description="streams of one run's events that this process serves at once")
    ] = 100
    events_allowed: Annotated[
        tuple[str, ...] | None,
        Meta(description="types of events that readers may see, comma-separated, or a preset; else all"),
    ] = None
    drain_seconds: Annotated[
        float, Meta(ge=0, le=3600, description="what executing runs get at a stop, to finish or to reach a step")
    ] = 8.0
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=300, description="how long a process holds its runs unheard; not normally changed"),
    ] = 8.0
    tool_expires_seconds: Annotated[
        float,
        Meta(ge=1, le=2_592_000, description="after which a tool call that the caller leaves unanswered expires"),
    ] = 86_400.0
    retention_days: Annotated[float, Meta(gt=0, description="days that the journal of a finished run is kept")] = 30.0
    run_retention_days: Annotated[float, Meta(gt=0, description="days that the row of a finished run is kept")] = 365.0
    queue_max: Annotated[int, Meta(ge=0, description="queued runs from which on new ones are refused")] = 10_000
    tenant_queue_max: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="queued runs of one tenant from which on its new ones are refused"),
    ] = None
    tenant_runs_max: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="runs of one tenant executed at once by all processes of the store; further ones are queued"),
    ] = None
    agent_runs_max: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="the same of one agent that declares no runs_max itself"),
    ] = None
    runs_max: Annotated[int, Meta(ge=1, description="runs executed at once in this process")] = 1000
    threads_max: Annotated[int, Meta(ge=1, description="sync functions executed at once in this process")] = 100
    no_worker: Annotated[
        bool, Meta(description="execute no runs here: other processes of the same Postgres store do")
    ] = False
    workers: Annotated[
        int, Meta(ge=1, le=256, description="processes that share the port; more than one needs a Postgres store")
    ] = 1
    run_seconds_max: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="execution time after which a run fails; waiting does not count"),
    ] = None
    allow_client_ids: Annotated[bool, Meta(description="calls may name their runs with `run_id=`")] = True
    headers_seconds: Annotated[
        float, Meta(gt=0, le=60, description="time for the headers of a request to arrive; then 408")
    ] = 10.0
    body_idle_seconds: Annotated[
        float, Meta(gt=0, le=300, description="time without a byte of a body that is awaited; then 408")
    ] = 30.0
    body_bytes_max: Annotated[int, Meta(ge=1, description="longest body of the Runtime API")] = 1024 * 1024
    webhook_secret: Annotated[
        Annotated[str, Meta(pattern="^whsec_[A-Za-z0-9+/]{32,86}={0,2}$")] | None,
        Meta(description="signs the webhooks of runs whose start names a URL and no secret: whsec_…"),
    ] = None
    skills_roots: Annotated[
        tuple[str, ...],
        Meta(description="folders with skills and capabilities, the first counts most, comma-separated"),
    ] = (".",)
    skills_http_allow: Annotated[
        tuple[str, ...],
        Meta(description="hosts, host:ports and networks that http.fetch may call, though not public"),
    ] = ()
    skills_rate_limit: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="calls of the Skills API that a key may make in 60 s; none: as many as it likes"),
    ] = None
    skills_legacy_status_200: Annotated[
        bool, Meta(description="answer most errors of the Skills API with 200, as clients of old expect it")
    ] = False
    key_trust: Annotated[
        tuple[str, ...],
        Meta(description="how far keys are trusted with capabilities, name=level, comma-separated; `*` stands for all"),
    ] = ()
    webhook_allow: Annotated[
        tuple[str, ...],
        Meta(description="hosts, host:ports and networks that webhooks may go to, though not public or without TLS"),
    ] = ()
    model: Annotated[
        str | None, Meta(description="the assistant's model, provider:name; without one, the offline model")
    ] = None
    model_key: Annotated[str | None, Meta(description="the key of the model's provider")] = None
    model_url: Annotated[str | None, Meta(description="base URL of a model server that speaks a known API")] = None
    model_fallback: Annotated[
        str | None, Meta(description="a model, provider:name, that is asked where the model does not answer")
    ] = None
    model_planner: Annotated[
        str | None, Meta(description="a model, provider:name, that makes a plan before a turn; none: no plan")
    ] = None
    model_light: Annotated[
        str | None, Meta(description="a cheaper model, provider:name, that learns facts from turns; none: no facts")
    ] = None
    embedding_model: Annotated[
        str | None,
        Meta(description="a model, provider:name, by which the memory finds meanings too; none: words alone"),
    ] = None
    learning: Annotated[bool, Meta(description="learn from the assistant's turns, in the background")] = True
    max_tokens: Annotated[int, Meta(ge=1, description="longest answer of the assistant's model, in tokens")] = 4096
    iterations_max: Annotated[int, Meta(ge=1, description="model requests in one turn of the assistant")] = 50
    turn_seconds_max: Annotated[
        float,
        Meta(gt=0, description="execution time after which a turn of the Engine API fails; waiting does not count"),
    ] = 3600.0
    turn_tokens_max: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="tokens, read and written, after which a turn of the assistant asks its model no more"),
    ] = None
    tool_concurrency: Annotated[
        int, Meta(ge=1, le=1000, description="tools of one turn of the assistant that execute at once")
    ] = 10
    hitl_expires_seconds: Annotated[
        float, Meta(ge=1, le=31_536_000, description="after which a question of the assistant counts as unanswered")
    ] = 259_200.0
    compaction: Annotated[
        bool, Meta(description="shorten what the assistant's model sees of a task that grew too long for it")
    ] = True
    catalog: Annotated[
        str | None, Meta(description="directory of the catalog: agents, prompt skills, tools, policy, MCP servers")
    ] = None
    roots: Annotated[
        tuple[str, ...],
        Meta(
            description="directories that the assistant's tools may read and write beside a task's own, comma-separated"
        ),
    ] = ()
    egress_allow: Annotated[
        tuple[str, ...],
        Meta(
            description="hosts that web_fetch and MCP servers may be called at unasked, comma-separated; none: all public ones"
        ),
    ] = ()
    unsandboxed_shell: Annotated[
        bool,
        Meta(
            description="run the assistant's shell without bubblewrap where there is none: with all that this process may do"
        ),
    ] = False
    search_url: Annotated[
        str | None,
        Meta(description="where web_search asks: a search that answers JSON as SearXNG's /search does; none: nowhere"),
    ] = None
    asset_key: Annotated[
        str | None,
        Meta(description="Fernet key that encrypts the credentials of MCP connections; none: nothing connects"),
    ] = None
    public_url: Annotated[
        str | None, Meta(description="where this server is reached from outside; an OAuth consent comes back to it")
    ] = None
    offline_word_delay_seconds: Annotated[
        float, Meta(ge=0, description="pause of the offline model between two words")
    ] = 0.015
    id_generator: Annotated[
        str | None, Meta(description="module:function that makes the ids of runs; none: UUIDv7")
    ] = None
    restart: Annotated[
        Annotated[str, Meta(pattern="^(waiting|always|never)$")] | None,
        Meta(description="what may happen to runs of a Dockfile's agents whose process dies: waiting, always or never"),
    ] = None
    tracing: Annotated[bool, Meta(description="spans of runs and steps, through the OpenTelemetry API")] = False
    otlp_endpoint: Annotated[
        str | None, Meta(description="where spans are sent to, over OTLP; none: as the process is set up")
    ] = None
    otlp_headers: Annotated[
        tuple[str, ...], Meta(description="headers sent along with spans, name=value, comma-separated")
    ] = ()
    metrics: Annotated[
        tuple[str, ...], Meta(description="optional groups of metrics that are shown: latency, tokens, cost")
    ] = ("latency", "tokens", "cost")
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    ] = "info"
    log_json: Annotated[bool, Meta(description="log lines as JSON instead of for people")] = False

    def __post_init__(self) -> None:
        if self.no_auth and not self.is_loopback:
            raise InvalidSetting(
                f"this holds only on a loopback host, not on {self.host}: listen on 127.0.0.1, or ask for keys",
                "no_auth",
            )
        for item in self.key_hashes:
            if not _SHA256_HEX.match(item):
                raise InvalidSetting(f"{item[:12]!r}… is no SHA-256 in hex (64 digits)", "key_hashes")
        if "" in self.keys:
            raise InvalidSetting("an API key is empty", "keys")
        if not self.expose_rest and self.expose_streams == "none":
            raise InvalidSetting("without /invoke and without streams no run could be started and seen", "expose_rest")
        if self.asset_key is not None and not _is_fernet_key(self.asset_key):
            raise InvalidSetting(
                "expected 32 bytes in URL-safe base64, as Fernet's keys are (docs/guides/mcp.md makes one)", "asset_key"
            )
        if self.public_url is not None and not re.match(r"https?://[^/\s?#]+[^\s?#]*\Z", self.public_url):
            raise InvalidSetting("expected an http or https URL without query", "public_url")
        if self.search_url is not None and not re.match(r"https?://[^\s]+\Z", self.search_url):
            raise InvalidSetting("expected an http or https URL", "search_url")
        for name in self.metrics:
            if name not in METRICS:
                raise InvalidSetting(f"there is no group {name!r}; there are {', '.join(METRICS)}", "metrics")
        for item in self.key_trust:
            if item.rpartition("=")[2] not in TRUST_LEVELS or "=" not in item:
                raise InvalidSetting(
                    f"{item!r} is not a key's name, = and one of {', '.join(TRUST_LEVELS)}", "key_trust"
                )
        for name in self.apis:
            if name not in ("runtime", "engine", "workflow", "skills"):
                raise InvalidSetting(
                    f"there is no API {name!r}; there are runtime, engine, workflow and skills", "apis"
                )
        if self.events_allowed is not None:
            try:
                Selection.allowed(self.events_allowed)
            except UnknownType as exc:
                raise InvalidSetting(str(exc), "events_allowed") from None

    def __repr__(self) -> str:
        return f"Settings(host={self.host!r}, port={self.port}, data={self.data!r}, …)"  # some fields are secrets

    @property
    def trust_of_keys(self) -> dict[str, str]:
        """The trust that is set for keys, by their names; `*` stands for all others."""
        pairs = (item.rpartition("=") for item in self.key_trust)
        return {name: level for name, _, level in pairs}

    @property
    def is_embedded(self) -> bool:
        """Whether the store belongs to one process alone."""
        return "://" not in (self.store or "")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode(), altchars=b"-_", validate=True)) == 32
    except ValueError:
        return False
