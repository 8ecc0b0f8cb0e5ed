"""
What a capability file says, and what is wrong with it as far as the file alone tells. No I/O.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from holdfast.agents.skill.flow import check_gate_input
from holdfast.agents.skill.model import (
    Binding,
    Builtin,
    Capability,
    Client,
    Field,
    Gate,
    Http,
    Json,
    Mcp,
    Prompt,
    Python,
    Safety,
)
from holdfast.agents.skill.reading import Report, Table, nearest, read_fields
from holdfast.agents.skill.references import texts_in
from holdfast.agents.skill.skill_reading import read_id
from holdfast.agents.skill.step_reading import read_gates
from holdfast.agents.skill.yaml_text import Path

KINDS: Final = ("python", "http", "mcp", "prompt", "client")
TRUST_LEVELS: Final = ("sandbox", "standard", "elevated", "privileged")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_SAFETY_KEYS: Final = ("trust_level", "requires_confirmation", "mandatory_pre_gates", "mandatory_post_gates")
FILLED: Final = re.compile(r"\$\{([^}]*)\}")  # in the texts of `http`
SLOT: Final = re.compile(r"\{\{([^{}]*)\}\}")  # in the texts of `prompt`
_VARIABLE: Final = re.compile(r"env\.[A-Za-z_][A-Za-z0-9_]*\Z")


def read_capability(report: Report, value: Json, *, is_packaged: bool = False) -> tuple[str | None, Capability | None]:
    """
    The id of a file and its capability; None where there is an error, which the report has.

    Args:
        is_packaged: `bind` may name what the package itself carries out.
    """
    table = Table(report, (), value, missing="field_missing")
    if not isinstance(value, dict):
        return None, None
    found = read_id(table)
    inputs = read_fields(report, ("inputs",), table.mapping("inputs", is_required=True), is_strict=False)
    outputs = read_fields(report, ("outputs",), table.mapping("outputs", is_required=True), is_strict=False)
    version = table.text("version") or ""
    description = table.text("description") or ""
    properties = table.inside("properties") if table.has("properties") else Table(report, ("properties",), {})
    side_effects = properties.boolean("side_effects", True)
    at_most_once = properties.boolean("at_most_once", False)
    safety = _safety(table)
    bind = _bind(table, inputs, outputs, is_packaged=is_packaged)
    if report.has_errors or found is None or bind is None:
        return found, None
    return found, Capability(
        id=found,
        version=version,
        description=description,
        inputs=inputs,
        outputs=outputs,
        bind=bind,
        side_effects=side_effects,
        at_most_once=at_most_once,
        safety=safety,
    )


def _safety(table: Table) -> Safety:
    if not table.has("safety"):
        return Safety()
    safety = table.inside("safety")
    _check_misspelt(safety)
    trust: Any = safety.text("trust_level", choices=TRUST_LEVELS) or "standard"
    return Safety(
        trust_level=trust,
        requires_confirmation=safety.boolean("requires_confirmation", False),
        mandatory_pre_gates=_gates(safety, "mandatory_pre_gates", "pre"),
        mandatory_post_gates=_gates(safety, "mandatory_post_gates", "post"),
    )


def _check_misspelt(safety: Table) -> None:
    """Further keys of a contract are ignored; one that is nearly one of ours must not be, for it would protect nothing."""
    for key in safety.values:
        if key not in _SAFETY_KEYS and (near := difflib.get_close_matches(key, _SAFETY_KEYS, n=1, cutoff=0.8)):
            message = f"there is no key {key!r} here; the nearest known key is {near[0]!r}"
            safety.report.error("unknown_key", (*safety.path, key), message, on_key=True)


def _gates(safety: Table, key: str, phase: str) -> tuple[Gate, ...]:
    gates = read_gates(safety, key)
    for index, gate in enumerate(gates):
        check_gate_input(safety.report, (*safety.path, key, index, "input"), gate, phase)
    return gates


# ------------------------------------------------------------------------------------------------------------ bindings


def _bind(table: Table, inputs: dict[str, Field], outputs: dict[str, Field], *, is_packaged: bool) -> Binding | None:
    value = table.values.get("bind")
    if value is None or value == {}:
        message = f"nothing fulfils the contract: bind has one of {', '.join(KINDS)}"
        table.report.error("unbound_capability", ("bind",) if table.has("bind") else (), message)
        return None
    bind = Table(table.report, ("bind",), value, code="bad_binding")
    if not isinstance(value, dict):
        return None
    kinds = (*KINDS, "builtin") if is_packaged else KINDS
    for key in bind.values:
        if key not in kinds:
            message = f"there is no kind of binding {key!r}; the nearest is {nearest(key, KINDS)!r}"
            table.report.error("bad_binding", ("bind", key), message, on_key=True)
            return None
    if len(bind.values) != 1:
        table.report.error("bad_binding", ("bind",), f"expected one kind of binding, found {', '.join(bind.values)}")
        return None
    kind = next(iter(bind.values))
    if kind == "python":
        return _python(bind)
    if kind == "builtin":
        return Builtin(name=bind.text("builtin", is_required=True) or "")
    inside = bind.inside(kind)
    if not isinstance(bind.values[kind], dict):
        return None
    if kind == "http":
        return _http(inside, inputs, outputs)
    if kind == "prompt":
        return _prompt(inside, inputs, outputs)
    return _mcp(inside) if kind == "mcp" else _client(inside)


def _python(bind: Table) -> Binding:
    value = bind.values["python"]
    if isinstance(value, str) and _FUNCTION.match(value):
        return Python(value)
    bind.wrong("python", "module:function")
    return Python("")


def _http(table: Table, inputs: dict[str, Field], outputs: dict[str, Field]) -> Binding:
    table.check_keys(("url", "method", "headers", "body", "response"))
    url = table.text("url", is_required=True) or ""
    if url and not re.match(r"https?://|\$\{", url):
        table.wrong("url", "a URL that begins with http:// or https://")
    response = table.texts("response") if table.has("response") else None
    for name in response or ():
        _check_declared(table, ("response", name), name, outputs, "output", on_key=True)
    for path, text in texts_in({key: table.values.get(key) for key in ("url", "headers", "body")}):
        _check_filled(table, path, text, inputs)
    method = (table.text("method") or "POST").upper()
    if method not in METHODS:
        table.wrong("method", f"one of {', '.join(METHODS)}")
    return Http(
        url=url,
        method=method,
        headers=table.texts("headers"),
        body=table.values.get("body"),
        response=response,
    )


def _check_filled(table: Table, path: Path, text: str, inputs: dict[str, Field]) -> None:
    for found in FILLED.findall(text):
        head, _, name = found.partition(".")
        if head == "input" and name:
            _check_declared(table, path, name, inputs, "input")
        elif not _VARIABLE.match(found):
            message = f"${{{found}}}: expected ${{input.x}} or ${{env.NAME}}"
            table.report.error("bad_binding", (*table.path, *path), message)


def _check_declared(
    table: Table, path: Path, name: str, fields: dict[str, Field], what: str, *, on_key: bool = False
) -> None:
    if name in fields or name.partition(".")[0] in fields:
        return
    near = nearest(name, fields)
    hint = f"; the nearest is {near!r}" if near else ""
    table.report.error("bad_binding", (*table.path, *path), f"the contract has no {what} {name!r}{hint}", on_key=on_key)


def _mcp(table: Table) -> Binding:
    table.check_keys(("server", "tool"))
    return Mcp(server=table.text("server", is_required=True) or "", tool=table.text("tool", is_required=True) or "")


def _client(table: Table) -> Binding:
    table.check_keys(("tool",))
    return Client(tool=table.text("tool", is_required=True) or "")


def _prompt(table: Table, inputs: dict[str, Field], outputs: dict[str, Field]) -> Binding:
    table.check_keys(("template", "system", "json"))
    template = table.text("template", is_required=True) or ""
    system = table.text("system")
    is_json = table.boolean("json", False)
    for key, text in (("template", template), ("system", system or "")):
        for name in SLOT.findall(text):
            _check_declared(table, (key,), name.strip(), inputs, "input")
    if not is_json and len(outputs) != 1:
        message = f"a prompt gives one text: expected one output, or json: true, found {len(outputs)} outputs"
        table.report.error("bad_binding", table.path, message)
    return Prompt(template=template, system=system, json=is_json)
