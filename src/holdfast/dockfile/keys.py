"""
Every key of a Dockfile.yaml, version "1.0": the one table that parsing, checking and the documentation share. No I/O.

A field is a key, its type what the key takes, its default what holds once its section is written, its description what it
does. Two sections are not structs of ours: `io_schema.input` and `output` are JSON Schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from holdfast.dockfile.checking import Notes


def _text(expected: str, description: str, **limits: Any) -> Meta:
    return Meta(description=description, extra={"expected": expected}, **limits)


def _says(description: str, **limits: Any) -> Meta:
    return Meta(description=description, **limits)


_VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
_HEADER: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"
_REFERENCE: Final = (
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
)
_REFERENCE_TEXT: Final = "module.path:callable"

Filled = Annotated[str, Meta(min_length=1)]
Variable = Annotated[str, _text("the name of a variable", "a variable", pattern=_VARIABLE)]
Url = Annotated[str, _text("a URL with http:// or https://", "a URL", pattern=r"^https?://[^\s]+$")]
Prefix = Annotated[str, _text("letters, digits and _", "a prefix", pattern="^[A-Za-z][A-Za-z0-9_]*$")]
Reference = Annotated[str, _text(_REFERENCE_TEXT, "a callable", pattern=_REFERENCE)]
# The names stand here once more, for types must be literal; a test holds them against access.py.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA", "HS256", "HS384", "HS512"
]
Permission = Literal["deploy", "rollback", "invoke", "view_metrics", "key_manage", "read_logs", "read_docs"]


class Agent(Struct, frozen=True, kw_only=True):
    """What is served."""

    name: Annotated[
        str,
        _text(
            "1 to 63 of a-z, 0-9 and -, without a hyphen at the ends",
            "The agent's name: 1 to 63 of `a-z`, `0-9` and `-`, no hyphen at the ends.",
            pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        ),
    ]
    description: Annotated[str | None, _says("Shown in `/agents` and `/info`.")] = None
    handler: Annotated[
        Reference | None,
        _says("`module.path:callable`, a function, from the file's folder. It wins over `entrypoint`."),
    ] = None
    entrypoint: Annotated[
        Reference | None,
        _says(
            "`module.path:callable`, a graph or a factory of one; a factory is called once. Needs `framework`.",
        ),
    ] = None
    framework: Annotated[
        Literal["custom", "langgraph", "langchain"] | None,
        _says("How the agent is made; `custom` if it is left out beside a `handler`."),
    ] = None


class IoSchema(Struct, frozen=True, kw_only=True):
    """What the agent takes and gives."""

    strict: Annotated[
        bool | None,
        _says(
            "`true`: undeclared keys of the input are 422, those of the output are removed. "
            "`false`: an output that does not fit passes. Left out: undeclared keys are kept, a misfit fails the run."
        ),
    ] = None
    input: Annotated[
        dict[str, Any] | None, _says("JSON Schema 2020-12 of the input; without one it is any object.")
    ] = None
    output: Annotated[
        dict[str, Any] | None, _says("JSON Schema 2020-12 of the output; without one it is any object.")
    ] = None


class Cors(Struct, frozen=True, kw_only=True):
    """Which pages may call."""

    origins: Annotated[
        tuple[Filled, ...], _says("Origins whose pages may call, with credentials; `*`: all, without.")
    ] = ("*",)
    methods: Annotated[
        tuple[Annotated[str, _text("an HTTP method", "a method", pattern="^[A-Z]{3,7}$")], ...] | None,
        _says("The methods that a preflight is told; all that there are, if left out."),
    ] = None


class Expose(Struct, frozen=True, kw_only=True):
    """Where and how the agent is reached."""

    rest: Annotated[bool, _says("`false`: `/invoke` is 404 `NOT_ENABLED`.")] = True
    streaming: Annotated[
        Literal["sse", "websocket", "none"],
        _says("`sse`: no WebSocket; `websocket`: both; `none`: neither, nor `/invoke/stream`."),
    ] = "sse"
    port: Annotated[int, _says("The port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8080
    host: Annotated[
        Filled | None,
        _says("The address to listen on: `0.0.0.0`, and `127.0.0.1` where no key is asked for."),
    ] = None
    cors: Annotated[Cors | None, _says("Pages of other origins.")] = None


class Arguments(Struct, frozen=True, kw_only=True):
    """How the agent is called."""

    timeout_sec: Annotated[
        float, _says("Seconds of execution after which a run fails, waiting excluded; 0: none.", ge=0, le=86_400)
    ] = 0


class Tools(Struct, frozen=True, kw_only=True):
    """Which tools the agent may call."""

    allowed: Annotated[tuple[Filled, ...], _says("The tools that may be called.")] = ()
    deny_by_default: Annotated[bool, _says("`false`: tools that are not listed may be called too.")] = True


class Safety(Struct, frozen=True, kw_only=True):
    """What is not let in, and what is not let out."""

    block_prompt_injection: Annotated[
        bool, _says("An input with a known phrase starts no run: 400 `POLICY_VIOLATION`.")
    ] = True
    redact_patterns: Annotated[
        tuple[Filled, ...], _says("Regular expressions; a match leaves the server as `[REDACTED]`.")
    ] = ()
    max_output_chars: Annotated[
        Annotated[int, Meta(ge=1)] | None, _says("Longer output JSON is cut to so many characters.")
    ] = None
    halt_on_violation: Annotated[bool, _says("A match of `redact_patterns` fails the run instead.")] = False


class Policies(Struct, frozen=True, kw_only=True):
    """What the agent must not do."""

    tools: Annotated[Tools | None, _says("Which tools may be called.")] = None
    safety: Annotated[Safety | None, _says("What is not let in, and what is not let out.")] = None


class ApiKeys(Struct, frozen=True, kw_only=True):
    """Keys from the environment."""

    env_var: Annotated[
        Variable,
        _says(
            "The variable with the key, or several, comma-separated; unset is refused. `<ENV_VAR>_<ROLE>` has keys of that role."
        ),
    ] = "HOLDFAST_API_KEY"
    prefix: Annotated[
        Prefix | None,
        _says("`p` reads `P_API_KEY` instead of `env_var`."),
    ] = None
    header: Annotated[
        str, _text("the name of a header", "One more header in which a key may come.", pattern=_HEADER)
    ] = "X-API-Key"
    allow_bearer: Annotated[bool, _says("`false`: not as `Authorization: Bearer`.")] = True
    enabled: Annotated[bool, _says("`false` is refused: write `auth.mode: none`.")] = True
    rotation_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)] | None, _says("Shown in `/info`; nothing else follows from it.")
    ] = None


class Claims(Struct, frozen=True, kw_only=True):
    """Which claim of a token means what; `a.b` is a claim in a claim."""

    user_id: Annotated[Filled, _says("Who calls.")] = "sub"
    tenant_id: Annotated[Filled | None, _says("Whose runs they are; left out: each user's own.")] = None
    roles: Annotated[Filled, _says("Names of `auth.roles`.")] = "roles"
    permissions: Annotated[Filled, _says("Permissions beside those of the roles.")] = "permissions"
    scopes: Annotated[Filled, _says("Permissions too, as OAuth's scopes.")] = "scope"


class Jwt(Struct, frozen=True, kw_only=True):
    """Tokens of another issuer."""

    jwks_url: Annotated[
        Url | None,
        _says("The issuer's key set: `https://…`, or `http://…` of this machine."),
    ] = None
    public_key_env: Annotated[
        Variable | None,
        _says("The variable with the public key in PEM, instead."),
    ] = None
    issuer: Annotated[Filled | None, _says("What `iss` has to be.")] = None
    audience: Annotated[Filled | None, _says("What `aud` has to be, or to hold.")] = None
    algorithms: Annotated[
        tuple[Algorithm, ...], _says("The signatures that are taken; `HS…` only by themselves.", min_length=1)
    ] = ("RS256",)
    leeway_seconds: Annotated[int, _says("How far the issuer's clock may be off.", ge=0, le=300)] = 30
    claims: Annotated[Claims | None, _says("Which claim means what.")] = None


class RoleKey(Struct, frozen=True, kw_only=True):
    """A role."""

    name: Annotated[
        str, _text("letters, digits, _ and -", "The role's name.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    ]
    permissions: Annotated[
        tuple[Permission, ...],
        _says("`invoke` opens the calls of runs, `view_metrics` and `read_docs` pages; others nothing here."),
    ]


class Auth(Struct, frozen=True, kw_only=True):
    """Who may call. Without this section, and with mode `none`, anybody on this machine."""

    mode: Annotated[Literal["none", "api_key", "jwt"], _says("How callers say who they are.")] = "api_key"
    api_keys: Annotated[ApiKeys | None, _says("Keys from the environment.")] = None
    jwt: Annotated[Jwt | None, _says("Tokens of another issuer; needs the extra `jwt`.")] = None
    roles: Annotated[tuple[RoleKey, ...] | None, _says("Without it, every caller may `invoke`.")] = None
    rate_limits: Annotated[
        dict[str, str],
        _says("`role: 100/hour`: so many started runs in any such window; `default` for all other roles."),
    ] = {}


class IdGenerator(Struct, frozen=True, kw_only=True):
    """Ids of runs that bring none."""

    type: Annotated[Literal["uuid", "custom"], _says("`uuid`: UUIDv7; `custom`: what `handler` returns.")] = "uuid"
    handler: Annotated[Reference | None, _says("`module.path:callable`, called without arguments.")] = None


class Events(Struct, frozen=True, kw_only=True):
    """Events that readers get."""

    allowed: Annotated[
        Filled | tuple[Filled, ...] | None,
        _says("A preset (`minimal`, `chat`, `debug`, `all`) or a list of types; a request can only narrow it."),
    ] = None
    heartbeat_interval: Annotated[float, _says("Silence before a stream sends a heartbeat.", ge=1, le=300)] = 15
    max_run_duration: Annotated[
        float, _says("Seconds of execution after which a run fails, waiting excluded.", ge=1, le=86_400)
    ] = 3600


class StreamConnection(Struct, frozen=True, kw_only=True):
    """Readers of a run."""

    default_timeout: Annotated[
        float, _says("Seconds without an event after which a stream ends, if `timeout=` says nothing.", ge=1, le=3600)
    ] = 300
    max_subscribers_per_run: Annotated[int, _says("More readers of one run are 429.", ge=1, le=1000)] = 100


class Streaming(Struct, frozen=True, kw_only=True):
    """Runs beside their calls."""

    async_runs: Annotated[bool, _says("`false`: `POST` and `GET` of `/runs` are 404 `NOT_ENABLED`.")] = True
    backend: Annotated[
        Literal["memory"], _says("`memory`: the embedded store, which is on disk; a notice says so.")
    ] = "memory"
    id_generator: Annotated[IdGenerator | None, _says("Ids of runs that bring none.")] = None
    allow_client_ids: Annotated[bool, _says("`false`: `run_id=` is 422.")] = True
    events: Annotated[Events | None, _says("Events that readers get.")] = None
    connection: Annotated[StreamConnection | None, _says("Readers of a run.")] = None


class RequiredSecret(Struct, frozen=True, kw_only=True):
    """A variable that must be set."""

    name: Annotated[Variable, _says("The variable.")]
    description: Annotated[str | None, _says("Told if it is missing.")] = None


class OptionalSecret(Struct, frozen=True, kw_only=True):
    """A variable that may be set."""

    name: Annotated[Variable, _says("The variable.")]
    description: Annotated[str | None, _says("For people.")] = None
    default: Annotated[str | None, _says("What the variable is if it is unset, for the agent too.")] = None


class Secrets(Struct, frozen=True, kw_only=True):
    """Variables that the agent needs."""

    required: Annotated[tuple[RequiredSecret, ...], _says("Each must be set.")] = ()
    optional: Annotated[tuple[OptionalSecret, ...], _says("Each may be set.")] = ()


class Metrics(Struct, frozen=True, kw_only=True):
    """Groups of metrics."""

    latency: Annotated[bool, _says("`false` removes the latencies from `/metrics`.")] = True
    tokens: Annotated[bool, _says("`false` removes the tokens.")] = True
    cost: Annotated[bool, _says("`false` removes the cost.")] = True


class Langfuse(Struct, frozen=True, kw_only=True):
    """Where spans go."""

    public_key: Annotated[Filled, _says("Langfuse's public key.")]
    secret_key: Annotated[Filled, _says("Langfuse's secret key.")]
    host: Annotated[Url, _says("Langfuse's address.")] = "https://cloud.langfuse.com"


class Observability(Struct, frozen=True, kw_only=True):
    """What is told of what happens."""

    log_level: Annotated[
        Literal["debug", "info", "warn", "warning", "error"], _says("The least level that is logged.")
    ] = "info"
    tracing: Annotated[bool, _says("Spans of runs and steps, through the OpenTelemetry API.")] = True
    metrics: Annotated[Metrics | None, _says("Groups of metrics.")] = None
    langfuse: Annotated[Langfuse | None, _says("Spans go there, over OTLP; needs the extra `otlp`.")] = None


class BuildInclude(Struct, frozen=True, kw_only=True):
    """What goes into an image."""

    directories: Annotated[tuple[Filled, ...], _says("Folders.")] = ()
    files: Annotated[tuple[Filled, ...], _says("Files.")] = ()
    patterns: Annotated[tuple[Filled, ...], _says("Glob patterns.")] = ()


class Build(Struct, frozen=True, kw_only=True):
    """Images alone: checked, and without effect on `holdfast serve`, which says so."""

    include: Annotated[BuildInclude | None, _says("What goes into an image.")] = None
    exclude: Annotated[tuple[Filled, ...], _says("Glob patterns of what does not.")] = ()
    auto_detect_imports: Annotated[bool, _says("Take along what the agent imports.")] = False


class Metadata(Struct, frozen=True, kw_only=True):
    """Shown in `/info`."""

    maintainer: Annotated[str | None, _says("Who looks after the agent.")] = None
    version: Annotated[Filled | None, _says("The agent's version; `1.0.0` if left out.")] = None
    tags: Annotated[tuple[Filled, ...], _says("Words.")] = ()


class Holdfast(Struct, frozen=True, kw_only=True):
    """Our settings; each is also a variable `HOLDFAST_<NAME>`, which wins."""

    store: Annotated[Filled | None, _says("Where runs are kept: a directory, or `postgresql://…`.")] = None
    restart: Annotated[
        Literal["waiting", "always", "never"] | None,
        _says("What may happen to a run whose process dies; what the agent's code declares, if left out."),
    ] = None
    allow_query_key: Annotated[bool, _says("`true`: a key may come as `?api_key=`.")] = False
    public_pages: Annotated[
        bool, _says("`off`: `/metrics` needs `view_metrics`, `/docs` and `/openapi.json` need `read_docs`.")
    ] = True
    allowed_hosts: Annotated[
        tuple[Filled, ...], _says("Further host names that are answered on a loopback address.")
    ] = ()
    retention_days: Annotated[
        Annotated[float, Meta(gt=0)] | None, _says("Days that the journal of a finished run is kept.")
    ] = None
    webhook_secret: Annotated[
        Filled | None, _says("Signs the webhooks of runs whose start names a `webhook_url`: `whsec_…`.")
    ] = None


class Dockfile(Struct, frozen=True, kw_only=True):
    """The whole file."""

    version: Annotated[Literal["1.0"], _says("The version of this format.")]
    agent: Annotated[Agent, _says("What is served.")]
    io_schema: Annotated[IoSchema, _says("What the agent takes and gives; may be `{}`.")]
    expose: Annotated[Expose, _says("Where and how it is reached; may be `{}`.")]
    arguments: Annotated[Arguments | None, _says("How the agent is called.")] = None
    policies: Annotated[Policies | None, _says("What the agent must not do.")] = None
    auth: Annotated[Auth | None, _says("Who may call.")] = None
    streaming: Annotated[Streaming | None, _says("Runs beside their calls.")] = None
    secrets: Annotated[Secrets | None, _says("Variables that the agent needs.")] = None
    observability: Annotated[Observability | None, _says("What is told of what happens.")] = None
    build: Annotated[Build | None, _says("Images alone.")] = None
    metadata: Annotated[Metadata | None, _says("Shown in `/info`.")] = None
    holdfast: Annotated[Holdfast | None, _says("Our settings.")] = None


_POSTGRES: Final = "runs are kept in the store: for several processes name a Postgres in holdfast.store"

NOTES: Final = Notes(
    refused={
        "auth.oauth2": "OAuth 2 is not served here: have tokens checked with auth.mode: jwt",
        "auth.jwt.claims.email": "nothing here shows it; leave it out",
        "auth.jwt.claims.name": "nothing here shows it; leave it out",
        "streaming.redis": _POSTGRES,
    },
    refused_values={
        ("auth.mode", "oauth2"): "have tokens checked with mode: jwt",
        ("streaming.backend", "redis"): _POSTGRES,
    },
)
