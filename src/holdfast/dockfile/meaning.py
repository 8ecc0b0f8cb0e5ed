"""
From the text of a Dockfile and an environment to what is to be served and how. No I/O.

    text ──► values ──► expanded ──► checked against keys.py ──► Plan
              yaml_text   expanding     checking                 here: what the keys mean, and what contradicts what

All problems of a file are told at once. Only where the text is no YAML at all nothing further is looked at.
"""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.access import Access
from holdfast.dockfile import keys
from holdfast.dockfile.callers import access_of
from holdfast.dockfile.checking import check, type_of
from holdfast.dockfile.expanding import expand
from holdfast.dockfile.problems import InvalidDockfile, Report, shown
from holdfast.dockfile.yaml_text import read_yaml
from holdfast.execution.admission import check_spec
from holdfast.execution.program import AgentSpec, SafetyPolicy, ToolPolicy
from holdfast.execution.redaction import InvalidPattern
from holdfast.execution.schema import InvalidSchema
from holdfast.settings import InvalidSetting, Settings

VERSION: Final = "1.0"
# Who sets one of these has keys, whatever a Dockfile leaves out.
KEY_VARIABLES: Final = ("HOLDFAST_KEYS", "HOLDFAST_KEY_HASHES", "ENGINE_API_KEY", "ENGINE_KEY_HASH")
# What several files must say alike.
SHARED: Final = ("auth", "expose", "streaming.connection", "holdfast")

_LANGFUSE_PATH: Final = "/api/public/otel/v1/traces"


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One agent that a Dockfile declares."""

    name: str
    reference: str  # module.path:callable
    framework: str
    spec: AgentSpec

    @property
    def path(self) -> str:
        """The key that names the code."""
        return f"agent.{self.spec.mode}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one Dockfile asks for."""

    file: str
    agent: AgentPlan
    access: Access
    settings: dict[str, Any]  # fields of `Settings`
    paths: dict[str, str]  # of each of them, the key it comes from
    environment: dict[str, str]  # variables that it sets where they are unset
    notices: tuple[str, ...]
    shared: dict[str, Any]  # of SHARED, what it says

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a key."""
        return self.access.mode == "none"


def read_dockfile(text: str, environment: Mapping[str, str], file: str, *, has_keys: bool = False) -> Plan:
    """
    What a Dockfile asks for.

    Args:
        environment: all layers in one.
        file: its name, for what is told.
        has_keys: keys are set beside it, so that leaving `auth` out does not open the server.

    Raises:
        InvalidDockfile: with every problem.
    """
    value, lines = read_yaml(text, file)
    report = Report(file, lines)
    defaults = _secret_defaults(value, environment)
    full = {**defaults, **environment}
    value = expand(value, full, "", report)
    if isinstance(value, dict) and type(value.get("version")) is float:
        value["version"] = str(value["version"])  # 1.0 without quotes
    checked = check(value, type_of(keys.Dockfile), "", report, keys.NOTES)
    report.raise_if_any()
    dockfile = msgspec.convert(checked, keys.Dockfile)
    has_keys = has_keys or any(full.get(name) for name in KEY_VARIABLES)
    plan = _Meaning(dockfile, checked, full, report, has_keys=has_keys).plan(defaults)
    report.raise_if_any()
    return plan


def _secret_defaults(value: Any, environment: Mapping[str, str]) -> dict[str, str]:
    """Defaults of optional secrets that are unset; other keys may refer to them. Misfits are told by the check."""
    secrets = value.get("secrets") if isinstance(value, dict) else None
    optional = secrets.get("optional") if isinstance(secrets, dict) else None
    found: dict[str, str] = {}
    for item in optional if isinstance(optional, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("default"), str):
            found.setdefault(item["name"], str(expand(item["default"], environment, "", Report("", {}))))
    return {name: text for name, text in found.items() if name not in environment}


class _Meaning:
    """Goes through the sections of one checked file."""

    def __init__(
        self,
        dockfile: keys.Dockfile,
        checked: dict[str, Any],
        environment: Mapping[str, str],
        report: Report,
        *,
        has_keys: bool,
    ) -> None:
        self._dockfile = dockfile
        self._checked = checked
        self._environment = environment
        self._report = report
        self._has_keys = has_keys
        self._settings: dict[str, Any] = {}
        self._paths: dict[str, str] = {}
        self._notices: list[str] = []

    def plan(self, defaults: dict[str, str]) -> Plan:
        agent = self._agent()
        access = access_of(self._dockfile.auth, self._environment, self._report)
        self._auth(access)
        self._expose(access)
        self._streaming()
        self._secrets()
        self._observability()
        self._holdfast()
        if self._dockfile.build is not None:
            self._notices.append("build concerns images alone; it has no effect here")
        self._check_settings()
        return Plan(
            file=self._report.file,
            agent=agent,
            access=access,
            settings=self._settings,
            paths=self._paths,
            environment=defaults,
            notices=tuple(self._notices),
            shared={path: _at(self._checked, path) for path in SHARED},
        )

    def _set(self, name: str, value: Any, path: str) -> None:
        self._settings[name] = value
        self._paths[name] = path

    # What is served

    def _agent(self) -> AgentPlan:
        agent, report = self._dockfile.agent, self._report
        reference = agent.handler or agent.entrypoint
        if reference is None:
            report.add("agent", "handler or entrypoint", "neither", "name the code: module.path:callable")
        elif agent.handler is None and agent.framework is None:
            report.add("agent.framework", "one of custom, langgraph, langchain", "nothing", "entrypoint needs it")
        return AgentPlan(
            name=agent.name,
            reference=reference or "",
            framework=agent.framework or "custom",
            spec=self._spec(agent),
        )

    def _spec(self, agent: keys.Agent) -> AgentSpec:
        schema, metadata = self._dockfile.io_schema, self._dockfile.metadata or keys.Metadata()
        shown_metadata = {"maintainer": metadata.maintainer, "version": metadata.version, "tags": list(metadata.tags)}
        spec = AgentSpec(
            description=agent.description,
            version=metadata.version or "1.0.0",
            metadata={name: value for name, value in shown_metadata.items() if value is not None},
            mode="handler" if agent.handler is not None else "entrypoint",
            handler=agent.handler or agent.entrypoint,
            input_schema=schema.input,
            output_schema=schema.output,
            output_strict=schema.strict,
            input_strict=schema.strict is True,
            timeout_seconds=self._timeout(),
            tools=self._tools(),
            safety=self._safety(),
        )
        for name, document in (("input", spec.input_schema), ("output", spec.output_schema)):
            try:
                check_spec(AgentSpec(input_schema=document))
            except InvalidSchema as exc:
                place = f" at {exc.pointer}" if exc.pointer else ""
                self._report.add(f"io_schema.{name}", "a JSON Schema 2020-12", f"{exc.message}{place}")
        return spec

    def _timeout(self) -> float | None:
        arguments, streaming = self._dockfile.arguments, self._dockfile.streaming
        limits = [arguments.timeout_sec] if arguments is not None and arguments.timeout_sec else []
        if streaming is not None and streaming.events is not None:
            limits.append(streaming.events.max_run_duration)
        return min(limits, default=None)

    def _tools(self) -> ToolPolicy:
        policies = self._dockfile.policies
        if policies is None or policies.tools is None or not policies.tools.deny_by_default:
            return ToolPolicy()
        return ToolPolicy(allowed=policies.tools.allowed)

    def _safety(self) -> SafetyPolicy:
        policies = self._dockfile.policies
        if policies is None or policies.safety is None:
            return SafetyPolicy()
        safety = policies.safety
        for index, pattern in enumerate(safety.redact_patterns):
            try:
                check_spec(AgentSpec(safety=SafetyPolicy(redact_patterns=(pattern,))))
            except InvalidPattern as exc:
                path = f"policies.safety.redact_patterns[{index}]"
                self._report.add(path, "a regular expression", f"{shown(pattern)}: {exc.message}")
        return SafetyPolicy(
            block_prompt_injection=safety.block_prompt_injection,
            redact_patterns=safety.redact_patterns,
            halt_on_violation=safety.halt_on_violation,
            max_output_chars=safety.max_output_chars,
        )

    # Where it is reached, and by whom

    def _auth(self, access: Access) -> None:
        auth = self._dockfile.auth
        if access.mode == "none" and self._has_keys:
            self._notices.append("keys are set beside the Dockfile, so they are asked for")
        elif access.mode == "none":
            self._set("no_auth", True, "auth.mode" if auth is not None else "auth")
        if auth is not None and auth.api_keys is not None and auth.api_keys.header.lower() != "x-api-key":
            self._set("key_header", auth.api_keys.header, "auth.api_keys.header")

    def _expose(self, access: Access) -> None:
        expose = self._dockfile.expose
        if not expose.rest and expose.streaming == "none":
            self._report.add(
                "expose.streaming", "sse or websocket where rest is false", "none", "nothing could be called"
            )
        self._set("expose_rest", expose.rest, "expose.rest")
        self._set("expose_streams", expose.streaming, "expose.streaming")
        self._set("port", expose.port, "expose.port")
        is_open = "no_auth" in self._settings
        self._set("host", expose.host or ("127.0.0.1" if is_open else "0.0.0.0"), "expose.host")  # noqa: S104
        if is_open and expose.host is None:
            self._notices.append(
                "no key is asked for, so only this machine can call (127.0.0.1); with `auth` it listens on 0.0.0.0"
            )
        elif is_open and not Settings(host=expose.host or "").is_loopback:
            todo = "write auth, or 127.0.0.1: a server that asks for no key is open to this machine alone"
            self._report.add("expose.host", "a loopback address without auth", shown(expose.host), todo)
        if expose.cors is not None:
            self._set("cors_origins", expose.cors.origins, "expose.cors.origins")
            self._set("cors_methods", expose.cors.methods or (), "expose.cors.methods")

    def _streaming(self) -> None:
        streaming = self._dockfile.streaming
        if streaming is None:
            return
        if "backend" in (self._checked.get("streaming") or {}):
            self._notices.append(
                "streaming.backend memory is the embedded store: runs are on disk and outlive the process"
            )
        self._set("async_runs", streaming.async_runs, "streaming.async_runs")
        self._set("allow_client_ids", streaming.allow_client_ids, "streaming.allow_client_ids")
        self._id_generator(streaming.id_generator)
        if streaming.events is not None:
            self._set("heartbeat_seconds", streaming.events.heartbeat_interval, "streaming.events.heartbeat_interval")
            if (allowed := streaming.events.allowed) is not None:
                items = (allowed,) if isinstance(allowed, str) else allowed
                self._set("events_allowed", items, "streaming.events.allowed")
        if streaming.connection is not None:
            connection, path = streaming.connection, "streaming.connection"
            self._set("stream_idle_seconds", connection.default_timeout, f"{path}.default_timeout")
            self._set("subscribers_max", connection.max_subscribers_per_run, f"{path}.max_subscribers_per_run")

    def _id_generator(self, generator: keys.IdGenerator | None) -> None:
        if generator is None:
            return
        path = "streaming.id_generator.handler"
        if generator.type == "custom" and generator.handler is None:
            self._report.add(path, "module.path:callable", "nothing", "type custom needs it")
        elif generator.type == "uuid" and generator.handler is not None:
            self._report.add(path, "type: custom", "type: uuid", "remove it, or change the type")
        elif generator.handler is not None:
            self._set("id_generator", generator.handler, path)

    # The rest

    def _secrets(self) -> None:
        secrets = self._dockfile.secrets
        for index, secret in enumerate(secrets.required if secrets is not None else ()):
            if secret.name not in self._environment:
                todo = f"set it: {secret.description}" if secret.description else "set it"
                self._report.add(
                    f"secrets.required[{index}]", f"the variable {secret.name} to be set", "it unset", todo
                )

    def _observability(self) -> None:
        told = self._dockfile.observability
        if told is None:
            return
        level = "warning" if told.log_level == "warn" else told.log_level
        self._set("log_level", level, "observability.log_level")
        self._set("tracing", told.tracing, "observability.tracing")
        if (metrics := told.metrics) is not None:
            groups = tuple(name for name in ("latency", "tokens", "cost") if getattr(metrics, name))
            self._set("metrics", groups, "observability.metrics")
        if told.langfuse is None:
            return
        if not told.tracing:
            self._report.add("observability.langfuse", "tracing: true", "tracing: false", "there are no spans to send")
        if not has_exporter():
            todo = "pip install 'holdfast[otlp]'"
            self._report.add("observability.langfuse", "the extra otlp to be installed", "it missing", todo)
        pair = f"{told.langfuse.public_key}:{told.langfuse.secret_key}"
        header = f"Authorization=Basic {base64.b64encode(pair.encode()).decode()}"
        self._set("otlp_endpoint", told.langfuse.host.rstrip("/") + _LANGFUSE_PATH, "observability.langfuse.host")
        self._set("otlp_headers", (header,), "observability.langfuse")

    def _holdfast(self) -> None:
        ours = self._dockfile.holdfast
        if ours is None:
            return
        for name in (
            "store",
            "restart",
            "allow_query_key",
            "public_pages",
            "allowed_hosts",
            "retention_days",
            "webhook_secret",
        ):
            if (value := getattr(ours, name)) is not None:
                self._set(name, value, f"holdfast.{name}")

    def _check_settings(self) -> None:
        """What fits its own key may not fit the others: settings say so, and the key they come from is told."""
        if self._report.problems:
            return
        try:
            msgspec.convert(dict(self._settings), Settings, strict=True)
        except InvalidSetting as exc:
            self._report.add(self._paths.get(exc.setting, ""), "a value that fits", exc.message)
        except msgspec.ValidationError as exc:
            name = str(exc).rpartition("$.")[2].rstrip("`").split("[")[0]
            self._report.add(self._paths.get(name, ""), "a value that fits", str(exc))


def has_exporter() -> bool:
    """Whether spans can be sent by this process itself."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


__all__ = ["AgentPlan", "InvalidDockfile", "Plan", "read_dockfile"]
