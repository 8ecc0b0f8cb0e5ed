"""
Dockfile.yaml: each key has its effect or is refused with its path, and everything that is wrong is told at once.

The two tables below are held against the table of keys: a key without an effect that a test sees does not exist.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import inspect

from holdfast.access import ALGORITHMS, PERMISSIONS, Role
from holdfast.dockfile import InvalidDockfile, Plan, keys, read_dockfile
from holdfast.dockfile.checking import type_of
from holdfast.rates import Rate
from holdfast.settings import Settings
from holdfast.variables import load_settings

PEM = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ENVIRONMENT = {
    "HOLDFAST_API_KEY": "k",
    "OWN_KEY": "o, o2",
    "P_API_KEY": "p",
    "PUBLIC": PEM.decode(),
    "HOLDFAST_API_KEY_ONE": "r",
}


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "agent": {"name": "tutor", "handler": "app.service:handle"},
        "io_schema": {},
        "expose": {},
        **changes,
    }


def plan_of(changes: dict[str, Any]) -> Plan:
    return read_dockfile(yaml.safe_dump(document(**changes)), ENVIRONMENT, "Dockfile.yaml")


def problems_of(changes: dict[str, Any], environment: dict[str, str] = ENVIRONMENT) -> dict[str, str]:
    with pytest.raises(InvalidDockfile) as refused:
        read_dockfile(yaml.safe_dump(document(**changes)), environment, "Dockfile.yaml")
    return {item.path: str(item) for item in refused.value.problems}


def setting(name: str) -> Callable[[Plan], Any]:
    return lambda plan: getattr(load_settings({}, file=plan.settings), name)


def agent(**more: Any) -> dict[str, Any]:
    return {"agent": {"name": "tutor", "handler": "app.service:handle", **more}}


def jwt(**more: Any) -> dict[str, Any]:
    return {"auth": {"mode": "jwt", "jwt": {"public_key_env": "PUBLIC", **more}}}


def tokens(name: str) -> Callable[[Plan], Any]:
    return lambda plan: getattr(plan.access.tokens, name)


def langfuse(**more: str) -> dict[str, Any]:
    return {"observability": {"langfuse": {"public_key": "pk", "secret_key": "sk", **more}}}


ROLES = [{"name": "one", "permissions": ["invoke"]}, {"name": "two", "permissions": ["read_docs", "deploy"]}]
OBJECT = {"type": "object", "required": ["a"]}

BUILDS: dict[str, dict[str, Any]] = {
    "build": {"build": {}},
    "build.include": {"build": {"include": {}}},
    "build.include.directories": {"build": {"include": {"directories": ["app"]}}},
    "build.include.files": {"build": {"include": {"files": ["a.json"]}}},
    "build.include.patterns": {"build": {"include": {"patterns": ["*.csv"]}}},
    "build.exclude": {"build": {"exclude": ["tests"]}},
    "build.auto_detect_imports": {"build": {"auto_detect_imports": True}},
}


def _tells_of_build(plan: Plan) -> bool:
    return any("build concerns images alone" in notice for notice in plan.notices)


Case = tuple[dict[str, Any], Callable[[Plan], Any], Any]

SECRET = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="

# For each key: what is written, where its effect is seen, and what it is there.
EFFECTS: dict[str, Case] = {
    "version": ({"version": 1.0}, lambda plan: plan.agent.name, "tutor"),
    "agent": (agent(), lambda plan: plan.agent.reference, "app.service:handle"),
    "agent.name": (agent(name="a-1"), lambda plan: plan.agent.name, "a-1"),
    "agent.description": (agent(description="d"), lambda plan: plan.agent.spec.description, "d"),
    "agent.handler": (
        agent(entrypoint="a:b", framework="langgraph"),
        lambda plan: (plan.agent.reference, plan.agent.spec.mode, plan.agent.spec.handler),
        ("app.service:handle", "handler", "app.service:handle"),
    ),
    "agent.entrypoint": (
        {"agent": {"name": "g", "entrypoint": "app.graph:build", "framework": "langgraph"}},
        lambda plan: (plan.agent.reference, plan.agent.spec.mode),
        ("app.graph:build", "entrypoint"),
    ),
    "agent.framework": (agent(framework="langchain"), lambda plan: plan.agent.framework, "langchain"),
    "io_schema": ({"io_schema": {}}, lambda plan: plan.agent.spec.input_schema, None),
    "io_schema.strict": (
        {"io_schema": {"strict": True}},
        lambda plan: (plan.agent.spec.input_strict, plan.agent.spec.output_strict),
        (True, True),
    ),
    "io_schema.input": ({"io_schema": {"input": OBJECT}}, lambda plan: plan.agent.spec.input_schema, OBJECT),
    "io_schema.output": ({"io_schema": {"output": OBJECT}}, lambda plan: plan.agent.spec.output_schema, OBJECT),
    "expose": ({"expose": {}}, setting("port"), 8080),
    "expose.rest": ({"expose": {"rest": False}}, setting("expose_rest"), False),
    "expose.streaming": ({"expose": {"streaming": "websocket"}}, setting("expose_streams"), "websocket"),
    "expose.port": ({"expose": {"port": 9000}}, setting("port"), 9000),
    "expose.host": ({"expose": {"host": "::1"}}, setting("host"), "::1"),
    "expose.cors": ({"expose": {"cors": {}}}, setting("cors_origins"), ("*",)),
    "expose.cors.origins": ({"expose": {"cors": {"origins": ["https://a"]}}}, setting("cors_origins"), ("https://a",)),
    "expose.cors.methods": ({"expose": {"cors": {"methods": ["GET"]}}}, setting("cors_methods"), ("GET",)),
    "arguments": ({"arguments": {}}, lambda plan: plan.agent.spec.timeout_seconds, None),
    "arguments.timeout_sec": ({"arguments": {"timeout_sec": 5}}, lambda plan: plan.agent.spec.timeout_seconds, 5),
    "policies": ({"policies": {}}, lambda plan: plan.agent.spec.safety.block_prompt_injection, False),
    "policies.tools": ({"policies": {"tools": {}}}, lambda plan: plan.agent.spec.tools.allows("x"), False),
    "policies.tools.allowed": (
        {"policies": {"tools": {"allowed": ["x"]}}},
        lambda plan: (plan.agent.spec.tools.allows("x"), plan.agent.spec.tools.allows("y")),
        (True, False),
    ),
    "policies.tools.deny_by_default": (
        {"policies": {"tools": {"allowed": ["x"], "deny_by_default": False}}},
        lambda plan: plan.agent.spec.tools.allows("y"),
        True,
    ),
    "policies.safety": ({"policies": {"safety": {}}}, lambda plan: plan.agent.spec.safety.block_prompt_injection, True),
    "policies.safety.block_prompt_injection": (
        {"policies": {"safety": {"block_prompt_injection": False}}},
        lambda plan: plan.agent.spec.safety.block_prompt_injection,
        False,
    ),
    "policies.safety.redact_patterns": (
        {"policies": {"safety": {"redact_patterns": [r"\d{3}-\d{2}"]}}},
        lambda plan: plan.agent.spec.safety.redact_patterns,
        (r"\d{3}-\d{2}",),
    ),
    "policies.safety.max_output_chars": (
        {"policies": {"safety": {"max_output_chars": 9}}},
        lambda plan: plan.agent.spec.safety.max_output_chars,
        9,
    ),
    "policies.safety.halt_on_violation": (
        {"policies": {"safety": {"halt_on_violation": True}}},
        lambda plan: plan.agent.spec.safety.halt_on_violation,
        True,
    ),
    "auth": ({"auth": {}}, lambda plan: (plan.access.mode, plan.settings["host"]), ("api_key", "0.0.0.0")),
    "auth.mode": ({"auth": {"mode": "none"}}, setting("no_auth"), True),
    "auth.api_keys": ({"auth": {"api_keys": {}}}, lambda plan: plan.access.keys[0].name, "HOLDFAST_API_KEY"),
    "auth.api_keys.env_var": (
        {"auth": {"api_keys": {"env_var": "OWN_KEY"}}},
        lambda plan: [(key.name, key.roles) for key in plan.access.keys],
        [("OWN_KEY", None), ("OWN_KEY-2", None)],
    ),
    "auth.api_keys.prefix": (
        {"auth": {"api_keys": {"prefix": "p"}}},
        lambda plan: [key.name for key in plan.access.keys],
        ["P_API_KEY"],
    ),
    "auth.api_keys.header": ({"auth": {"api_keys": {"header": "X-Own"}}}, setting("key_header"), "X-Own"),
    "auth.api_keys.allow_bearer": (
        {"auth": {"api_keys": {"allow_bearer": False}}},
        lambda plan: plan.access.allow_bearer,
        False,
    ),
    "auth.api_keys.enabled": ({"auth": {"api_keys": {"enabled": True}}}, lambda plan: plan.access.mode, "api_key"),
    "auth.api_keys.rotation_days": (
        {"auth": {"api_keys": {"rotation_days": 30}}},
        lambda plan: plan.access.rotation_days,
        30,
    ),
    "auth.jwt": (jwt(), tokens("algorithms"), ("RS256",)),
    "auth.jwt.jwks_url": (
        {"auth": {"mode": "jwt", "jwt": {"jwks_url": "https://idp/keys"}}},
        tokens("jwks_url"),
        "https://idp/keys",
    ),
    "auth.jwt.public_key_env": (jwt(), tokens("public_key"), PEM.decode()),
    "auth.jwt.issuer": (jwt(issuer="https://idp"), tokens("issuer"), "https://idp"),
    "auth.jwt.audience": (jwt(audience="api"), tokens("audience"), "api"),
    "auth.jwt.algorithms": (jwt(algorithms=["RS512"]), tokens("algorithms"), ("RS512",)),
    "auth.jwt.leeway_seconds": (jwt(leeway_seconds=0), tokens("leeway_seconds"), 0),
    "auth.jwt.claims": (jwt(claims={}), tokens("user_claim"), "sub"),
    "auth.jwt.claims.user_id": (jwt(claims={"user_id": "uid"}), tokens("user_claim"), "uid"),
    "auth.jwt.claims.tenant_id": (jwt(claims={"tenant_id": "a.b"}), tokens("tenant_claim"), "a.b"),
    "auth.jwt.claims.roles": (jwt(claims={"roles": "r"}), tokens("roles_claim"), "r"),
    "auth.jwt.claims.permissions": (jwt(claims={"permissions": "p"}), tokens("permissions_claim"), "p"),
    "auth.jwt.claims.scopes": (jwt(claims={"scopes": "scp"}), tokens("scopes_claim"), "scp"),
    "auth.roles": (
        {"auth": {"roles": ROLES}},
        lambda plan: [(key.name, key.roles) for key in plan.access.keys],
        [("HOLDFAST_API_KEY", None), ("HOLDFAST_API_KEY_ONE", ("one",))],
    ),
    "auth.roles[].name": (
        {"auth": {"roles": ROLES}},
        lambda plan: (plan.access.roles or ())[0],
        Role("one", ("invoke",)),
    ),
    "auth.roles[].permissions": (
        {"auth": {"roles": ROLES}},
        lambda plan: plan.access.rights(["two"]).permissions,
        ("deploy", "read_docs"),
    ),
    "auth.rate_limits": (
        {"auth": {"roles": ROLES, "rate_limits": {"one": "5/m", "default": "1/day"}}},
        lambda plan: (plan.access.rights(["one"]).rate, plan.access.rights(["two"]).rate),
        (Rate(5, 60), Rate(1, 86400)),
    ),
    "streaming": ({"streaming": {}}, setting("async_runs"), True),
    "streaming.async_runs": ({"streaming": {"async_runs": False}}, setting("async_runs"), False),
    "streaming.backend": ({"streaming": {"backend": "memory"}}, lambda plan: "on disk" in plan.notices[-1], True),
    "streaming.id_generator": ({"streaming": {"id_generator": {}}}, setting("id_generator"), None),
    "streaming.id_generator.type": ({"streaming": {"id_generator": {"type": "uuid"}}}, setting("id_generator"), None),
    "streaming.id_generator.handler": (
        {"streaming": {"id_generator": {"type": "custom", "handler": "a:b"}}},
        setting("id_generator"),
        "a:b",
    ),
    "streaming.allow_client_ids": ({"streaming": {"allow_client_ids": False}}, setting("allow_client_ids"), False),
    "streaming.events": (
        {"streaming": {"events": {}}},
        lambda plan: (plan.agent.spec.timeout_seconds, setting("heartbeat_seconds")(plan)),
        (3600, 15),
    ),
    "streaming.events.allowed": ({"streaming": {"events": {"allowed": "chat"}}}, setting("events_allowed"), ("chat",)),
    "streaming.events.heartbeat_interval": (
        {"streaming": {"events": {"heartbeat_interval": 1}}},
        setting("heartbeat_seconds"),
        1,
    ),
    "streaming.events.max_run_duration": (
        {"streaming": {"events": {"max_run_duration": 60}}, "arguments": {"timeout_sec": 90}},
        lambda plan: plan.agent.spec.timeout_seconds,
        60,
    ),
    "streaming.connection": ({"streaming": {"connection": {}}}, setting("stream_idle_seconds"), 300),
    "streaming.connection.default_timeout": (
        {"streaming": {"connection": {"default_timeout": 9}}},
        setting("stream_idle_seconds"),
        9,
    ),
    "streaming.connection.max_subscribers_per_run": (
        {"streaming": {"connection": {"max_subscribers_per_run": 2}}},
        setting("subscribers_max"),
        2,
    ),
    "secrets": ({"secrets": {}}, lambda plan: plan.environment, {}),
    "secrets.required": ({"secrets": {"required": [{"name": "PUBLIC"}]}}, lambda plan: plan.environment, {}),
    "secrets.required[].name": ({"secrets": {"required": [{"name": "PUBLIC"}]}}, lambda plan: plan.environment, {}),
    "secrets.required[].description": (
        {"secrets": {"required": [{"name": "PUBLIC", "description": "d"}]}},
        lambda plan: plan.environment,
        {},
    ),
    "secrets.optional": ({"secrets": {"optional": [{"name": "X"}]}}, lambda plan: plan.environment, {}),
    "secrets.optional[].name": (
        {"secrets": {"optional": [{"name": "PUBLIC", "default": "other"}]}},
        lambda plan: plan.environment,
        {},
    ),
    "secrets.optional[].description": (
        {"secrets": {"optional": [{"name": "X", "description": "d"}]}},
        lambda plan: plan.environment,
        {},
    ),
    "secrets.optional[].default": (
        {"secrets": {"optional": [{"name": "X", "default": "x"}]}, **agent(description="${X}")},
        lambda plan: (plan.environment, plan.agent.spec.description),
        ({"X": "x"}, "x"),
    ),
    "observability": ({"observability": {}}, setting("tracing"), True),
    "observability.log_level": ({"observability": {"log_level": "warn"}}, setting("log_level"), "warning"),
    "observability.tracing": ({"observability": {"tracing": False}}, setting("tracing"), False),
    "observability.metrics": ({"observability": {"metrics": {}}}, setting("metrics"), ("latency", "tokens", "cost")),
    "observability.metrics.latency": (
        {"observability": {"metrics": {"latency": False}}},
        setting("metrics"),
        ("tokens", "cost"),
    ),
    "observability.metrics.tokens": (
        {"observability": {"metrics": {"tokens": False}}},
        setting("metrics"),
        ("latency", "cost"),
    ),
    "observability.metrics.cost": (
        {"observability": {"metrics": {"cost": False}}},
        setting("metrics"),
        ("latency", "tokens"),
    ),
    "observability.langfuse": (
        langfuse(),
        setting("otlp_endpoint"),
        "https://cloud.langfuse.com/api/public/otel/v1/traces",
    ),
    "observability.langfuse.public_key": (
        langfuse(public_key="me"),
        setting("otlp_headers"),
        (f"Authorization=Basic {base64.b64encode(b'me:sk').decode()}",),
    ),
    "observability.langfuse.secret_key": (
        langfuse(secret_key="s"),
        setting("otlp_headers"),
        (f"Authorization=Basic {base64.b64encode(b'pk:s').decode()}",),
    ),
    "observability.langfuse.host": (
        langfuse(host="http://localhost:3000/"),
        setting("otlp_endpoint"),
        "http://localhost:3000/api/public/otel/v1/traces",
    ),
    **{path: (changes, _tells_of_build, True) for path, changes in BUILDS.items()},
    "metadata": ({"metadata": {}}, lambda plan: plan.agent.spec.metadata, {"tags": []}),
    "metadata.maintainer": (
        {"metadata": {"maintainer": "m"}},
        lambda plan: plan.agent.spec.metadata,
        {"maintainer": "m", "tags": []},
    ),
    "metadata.version": ({"metadata": {"version": "2.1"}}, lambda plan: plan.agent.spec.version, "2.1"),
    "metadata.tags": ({"metadata": {"tags": ["a"]}}, lambda plan: plan.agent.spec.metadata["tags"], ["a"]),
    "holdfast": ({"holdfast": {}}, setting("retention_days"), 30),
    "holdfast.store": ({"holdfast": {"store": "postgresql://h/d"}}, setting("store"), "postgresql://h/d"),
    "holdfast.restart": ({"holdfast": {"restart": "always"}}, setting("restart"), "always"),
    "holdfast.allow_query_key": ({"holdfast": {"allow_query_key": True}}, setting("allow_query_key"), True),
    "holdfast.public_pages": ({"holdfast": {"public_pages": False}}, setting("public_pages"), False),
    "holdfast.allowed_hosts": ({"holdfast": {"allowed_hosts": ["a.test"]}}, setting("allowed_hosts"), ("a.test",)),
    "holdfast.webhook_secret": ({"holdfast": {"webhook_secret": SECRET}}, setting("webhook_secret"), SECRET),
    "holdfast.retention_days": ({"holdfast": {"retention_days": 0.5}}, setting("retention_days"), 0.5),
}

# What is refused: the path that is told, what is written, and what the problem says.
REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("version", {"version": "2.0"}, 'found "2.0"'),
    ("agent", {"agent": {"name": "a"}}, "handler or entrypoint"),
    ("agent.framework", {"agent": {"name": "a", "entrypoint": "a:b"}}, "entrypoint needs it"),
    ("agent.framework", agent(framework="crewai"), "custom, langchain, langgraph"),
    *(("agent.name", agent(name=name), "1 to 63") for name in ("", "A", "-a", "a-", "a_b", "a" * 64, 5)),
    *(
        ("agent.handler", agent(handler=text), "module.path:callable")
        for text in ("app", "app:", ":f", "app/x:f", "a:b:c")
    ),
    ("io_schema", {"io_schema": None}, "write {}"),
    ("io_schema.input", {"io_schema": {"input": {"type": "objekt"}}}, "a JSON Schema 2020-12"),
    ("io_schema.input", {"io_schema": {"input": {"$ref": "https://example.org/s.json"}}}, "a JSON Schema 2020-12"),
    ("io_schema.output", {"io_schema": {"output": {"type": 5}}}, "a JSON Schema 2020-12"),
    ("io_schema.strict", {"io_schema": {"strict": "true"}}, "without quotes"),
    ("expose.streaming", {"expose": {"streaming": "both"}}, "none, sse, websocket"),
    ("expose.streaming", {"expose": {"rest": False, "streaming": "none"}}, "nothing could be called"),
    ("expose.port", {"expose": {"port": 65536}}, "0 to 65535"),
    ("expose.port", {"expose": {"port": "8080"}}, "without quotes"),
    ("expose.port", {"expose": {"port": True}}, "found true"),
    ("expose.host", {"expose": {"host": "0.0.0.0"}}, "write auth"),
    ("expose.cors.methods[0]", {"expose": {"cors": {"methods": ["get"]}}}, "an HTTP method"),
    ("arguments.timeout_sec", {"arguments": {"timeout_sec": -1}}, "from 0 to 86400"),
    ("arguments.extra", {"arguments": {"extra": {}}}, "known here: timeout_sec"),
    ("policies.safety.redact_patterns[0]", {"policies": {"safety": {"redact_patterns": ["("]}}}, "regular expression"),
    ("policies.safety.max_output_chars", {"policies": {"safety": {"max_output_chars": 0}}}, "at least 1"),
    ("auth", {"auth": None}, "write {}"),
    ("auth.mode", {"auth": {"mode": "oauth2"}}, "mode: jwt"),
    ("auth.oauth2", {"auth": {"oauth2": {}}}, "mode: jwt"),
    ("auth.api_keys.enabled", {"auth": {"api_keys": {"enabled": False}}}, "auth.mode: none"),
    ("auth.api_keys.env_var", {"auth": {"api_keys": {"env_var": "UNSET"}}}, "UNSET"),
    ("auth.api_keys.prefix", {"auth": {"api_keys": {"prefix": "q"}}}, "Q_API_KEY"),
    ("auth.api_keys.header", {"auth": {"api_keys": {"header": "X Key"}}}, "name of a header"),
    ("auth.api_keys.header", {"auth": {"api_keys": {"header": "Authorization"}}}, "a header of its own"),
    ("auth.api_keys", {"auth": {"mode": "none", "api_keys": {}}}, "mode: none"),
    ("auth.jwt", {"auth": {"jwt": {"public_key_env": "PUBLIC"}}}, "mode: api_key"),
    ("auth.jwt", {"auth": {"mode": "jwt"}}, "mode jwt needs it"),
    ("auth.jwt", jwt(jwks_url="https://a"), "found both"),
    ("auth.jwt.public_key_env", jwt(public_key_env="UNSET"), "UNSET"),
    ("auth.jwt.public_key_env", jwt(public_key_env="OWN_KEY"), "public key in PEM"),
    ("auth.jwt.jwks_url", {"auth": {"mode": "jwt", "jwt": {"jwks_url": "http://idp/keys"}}}, "https"),
    ("auth.jwt.algorithms", jwt(algorithms=["RS256", "HS256"]), "only by themselves"),
    ("auth.jwt.algorithms[0]", jwt(algorithms=["none"]), 'found "none"'),
    ("auth.jwt.claims.email", jwt(claims={"email": "email"}), "leave it out"),
    ("auth.roles[0].permissions[0]", {"auth": {"roles": [{"name": "a", "permissions": ["fly"]}]}}, 'found "fly"'),
    ("auth.roles[1].name", {"auth": {"roles": [ROLES[0], ROLES[0]]}}, "each role once"),
    ("auth.roles[0].permissions", {"auth": {"roles": [{"name": "a"}]}}, "required"),
    ("auth.rate_limits.one", {"auth": {"rate_limits": {"one": "100/week"}}}, "100/hour"),
    ("auth.rate_limits.other", {"auth": {"roles": ROLES, "rate_limits": {"other": "1/h"}}}, "known: one, two, default"),
    ("auth.rate_limits", {"auth": {"mode": "none", "rate_limits": {"default": "1/h"}}}, "mode: none"),
    ("streaming.backend", {"streaming": {"backend": "redis"}}, "Postgres in holdfast.store"),
    ("streaming.redis", {"streaming": {"redis": {"url": "x"}}}, "Postgres in holdfast.store"),
    ("streaming.id_generator.handler", {"streaming": {"id_generator": {"type": "custom"}}}, "type custom needs it"),
    ("streaming.id_generator.handler", {"streaming": {"id_generator": {"handler": "a:b"}}}, "type: uuid"),
    ("streaming.events.allowed", {"streaming": {"events": {"allowed": ["tokn"]}}}, "tokn"),
    ("streaming.events.heartbeat_interval", {"streaming": {"events": {"heartbeat_interval": 0.5}}}, "from 1 to 300"),
    ("streaming.events.max_run_duration", {"streaming": {"events": {"max_run_duration": 86401}}}, "from 1 to 86400"),
    ("streaming.connection.default_timeout", {"streaming": {"connection": {"default_timeout": 3601}}}, "1 to 3600"),
    (
        "streaming.connection.max_subscribers_per_run",
        {"streaming": {"connection": {"max_subscribers_per_run": 1001}}},
        "1 to 1000",
    ),
    ("secrets.required[0]", {"secrets": {"required": [{"name": "GONE", "description": "for x"}]}}, "set it: for x"),
    ("observability.log_level", {"observability": {"log_level": "trace"}}, "debug"),
    ("observability.metrics.errors", {"observability": {"metrics": {"errors": True}}}, "known here"),
    ("observability.langfuse.secret_key", {"observability": {"langfuse": {"public_key": "p"}}}, "required"),
    ("observability.langfuse", {"observability": {**langfuse()["observability"], "tracing": False}}, "no spans"),
    ("build.include.dirs", {"build": {"include": {"dirs": []}}}, "directories"),
    ("metadata.owner", {"metadata": {"owner": "me"}}, "known here"),
    ("holdfast.webhook_secret", {"holdfast": {"webhook_secret": "s"}}, "whsec_"),
    ("holdfast.retention_days", {"holdfast": {"retention_days": 0}}, "above 0"),
    ("holdfast.restart", {"holdfast": {"restart": "sometimes"}}, "always"),
    ("extra", {"extra": 1}, "unknown key"),
    ("exposes", {"exposes": {}}, "did you mean expose?"),
]


@pytest.mark.parametrize("path", EFFECTS)
def test_a_key_has_its_effect(path: str) -> None:
    changes, probe, expected = EFFECTS[path]

    assert probe(plan_of(changes)) == expected


def _paths(kind: inspect.Type, prefix: str = "") -> Iterator[str]:
    """Every key below a section, as the tables above write it."""
    kind = _bare(kind)
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            path = f"{prefix}{field.encode_name}"
            yield path
            yield from _paths(field.type, f"{path}.")
    elif isinstance(kind, inspect.VarTupleType):
        yield from _paths(kind.item_type, f"{prefix[:-1]}[].")


def _bare(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return _bare(next(item for item in kind.types if not isinstance(item, inspect.NoneType)))
    return kind


def test_every_key_has_a_case_and_no_other() -> None:
    assert sorted(EFFECTS) == sorted(_paths(type_of(keys.Dockfile)))


@pytest.mark.parametrize(("path", "changes", "says"), REFUSALS)
def test_what_does_not_fit_is_refused_with_its_path(path: str, changes: dict[str, Any], says: str) -> None:
    problems = problems_of(changes)

    assert list(problems) == [path]
    assert says in problems[path]


@pytest.mark.parametrize("name", ["version", "agent", "io_schema", "expose"])
def test_what_is_required_is_missed(name: str) -> None:
    text = yaml.safe_dump({key: value for key, value in document().items() if key != name})

    with pytest.raises(InvalidDockfile, match=f"Dockfile.yaml:1: {name}: expected .* it is required"):
        read_dockfile(text, {}, "Dockfile.yaml")


def test_all_problems_are_told_at_once_in_the_order_of_the_file_with_their_lines() -> None:
    text = "version: '1.0'\nagent:\n  name: A\n  handler: x\nio_schema: {}\nexpose:\n  port: x\n  porte: 1\n"

    with pytest.raises(InvalidDockfile) as refused:
        read_dockfile(text, {}, "Dockfile.yaml")

    found = [(item.line, item.path) for item in refused.value.problems]
    assert found == [(3, "agent.name"), (4, "agent.handler"), (7, "expose.port"), (8, "expose.porte")]
    assert refused.value.message.count("\n") == 3


def test_keys_that_begin_with_x_are_nobodys_business() -> None:
    assert plan_of({"x-team": {"a": 1}, "expose": {"x-note": "n", "port": 1}}).settings["port"] == 1


def test_settings_that_a_dockfile_sets_exist() -> None:
    names = {field.name for field in msgspec.structs.fields(Settings)}

    for path, (changes, _, _) in EFFECTS.items():
        assert set(plan_of(changes).settings) <= names, path


def test_algorithms_and_permissions_are_those_that_are_known() -> None:
    assert set(get_args(keys.Algorithm)) == set(ALGORITHMS)
    assert set(get_args(keys.Permission)) == set(PERMISSIONS)


# Variables


def expanded(text: str, environment: dict[str, str]) -> str | None:
    value = yaml.safe_dump(document(**agent(description=text)))
    return read_dockfile(value, environment, "Dockfile.yaml").agent.spec.description


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "a"),
        ("${A:-b}", "a"),
        ("${GONE:-b}", "b"),
        ("${GONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-b}", ""),
        ("x${A}y${A}z", "xayaz"),
        ("${NESTED}", "${A}"),
        ("${GONE:-a:-b}", "a:-b"),
        ("$A {A}", "$A {A}"),
    ],
)
def test_variables_are_expanded_once(text: str, value: str) -> None:
    assert expanded(text, {"A": "a", "EMPTY": "", "NESTED": "${A}"}) == value


@pytest.mark.parametrize("text", ["${GONE}", "${}", "${A", "${A-b}", "${1A}", "${ A }"])
def test_a_reference_that_gives_nothing_is_refused(text: str) -> None:
    problems = problems_of(agent(description=text), {"A": "a"})

    assert list(problems) == ["agent.description"]


def test_what_a_variable_gives_becomes_what_its_key_wants() -> None:
    changes = {"expose": {"port": "${PORT}", "rest": "${REST}"}, "holdfast": {"retention_days": "${DAYS}"}}
    text = yaml.safe_dump(document(**changes))

    plan = read_dockfile(text, {"PORT": "9", "REST": "false", "DAYS": "1.5"}, "Dockfile.yaml")

    assert (plan.settings["port"], plan.settings["expose_rest"], plan.settings["retention_days"]) == (9, False, 1.5)


def test_a_variable_that_does_not_fit_is_told_by_its_name_and_not_its_content() -> None:
    problems = problems_of({"expose": {"port": "${SECRET}"}}, {"SECRET": "hunter2"})

    assert "what ${SECRET} gives" in problems["expose.port"]
    assert "hunter2" not in problems["expose.port"]


def test_a_public_page_is_switched_off_by_the_word_off() -> None:
    text = yaml.safe_dump(document()) + "holdfast: {public_pages: off}\n"

    assert read_dockfile(text, {}, "Dockfile.yaml").settings["public_pages"] is False


# Who may call without a key


def test_without_auth_only_this_machine_may_call_and_that_is_told() -> None:
    plan = plan_of({})

    assert (plan.settings["host"], plan.settings["no_auth"]) == ("127.0.0.1", True)
    assert any("only this machine" in notice for notice in plan.notices)


def test_keys_beside_a_dockfile_without_auth_are_asked_for() -> None:
    text = yaml.safe_dump(document(expose={"host": "0.0.0.0"}))

    for environment, has_keys in (({"HOLDFAST_KEYS": "k"}, False), ({}, True)):
        plan = read_dockfile(text, environment, "Dockfile.yaml", has_keys=has_keys)
        assert "no_auth" not in plan.settings
        assert any("asked for" in notice for notice in plan.notices)


def test_one_key_in_two_variables_is_refused() -> None:
    environment = {"HOLDFAST_API_KEY": "same", "HOLDFAST_API_KEY_ONE": "same"}

    assert "each key in one variable" in problems_of({"auth": {"roles": ROLES}}, environment)["auth.api_keys.env_var"]


def test_a_variable_and_an_option_win_over_the_file() -> None:
    plan = plan_of({"expose": {"port": 1}})

    assert load_settings({}, file=plan.settings).port == 1
    assert load_settings({"HOLDFAST_PORT": "2"}, file=plan.settings).port == 2
    assert load_settings({"HOLDFAST_PORT": "2"}, file=plan.settings, port=3).port == 3


# YAML

BILLION = "".join(
    f"{name}: &{name} [{','.join([item] * 9)}]\n"
    for name, item in zip("abcde", ["x", "*a", "*b", "*c", "*d"], strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "expected YAML"),
        ("a: 1\na: 2\n", "it again in line 2"),
        ("a: !!python/object:os.system x\n", "the tag"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "merge key"),
        ("? [a]\n: 1\n", "keys that are text"),
        (BILLION, "at most 20000 values"),
        ("", "expected a mapping, found nothing"),
        ("- 1\n", "expected a mapping, found a list"),
        ("a: 1\n---\nb: 2\n", "expected YAML"),
        ("\x00", "expected YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidDockfile, match=r"Dockfile\.yaml") as refused:
        read_dockfile(text, {}, "Dockfile.yaml")

    assert says in refused.value.message


def test_nothing_becomes_a_date_or_another_number_behind_its_authors_back() -> None:
    text = yaml.safe_dump(document()) + "metadata: {version: 2026-01-01, tags: [010, 1:30, yes, 0x1f]}\n"
    plan = read_dockfile(text, {}, "Dockfile.yaml")

    assert plan.agent.spec.version == "2026-01-01"
    assert plan.agent.spec.metadata["tags"] == ["010", "1:30", "yes", "0x1f"]
