"""
What one step of a skill file says, and what is wrong with it as far as it can be seen from the step alone. No I/O.
"""

from __future__ import annotations

import re
from typing import Any, Final

from holdfast.agents.skill.expressions import BadExpression, UnknownNamespace, parse
from holdfast.agents.skill.model import Confirm, Foreach, Gate, Json, Retry, Router, Scatter, Step, While
from holdfast.agents.skill.reading import ID, Report, Table, named
from holdfast.agents.skill.references import NAMESPACES, BadReference, parse_field, parse_target
from holdfast.agents.skill.yaml_text import Path

STEP_ID: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_STEP_KEYS: Final = ("id", "uses", "input", "output", "depends_on", "config")
_CONFIG_KEYS: Final = (
    *("depends_on", "condition", "retry", "timeout_seconds", "foreach", "while", "router", "scatter"),
    *("merge_strategy", "confirm", "gates", "at_most_once", "stream"),
)
# What a step that is a skill cannot have: its own steps have it.
_NOT_OF_SKILLS: Final = ("foreach", "while", "router", "scatter", "timeout_seconds", "at_most_once", "stream")
_EXCLUSIVE: Final = (("foreach", "while"), ("foreach", "scatter"), ("while", "scatter"), ("router", "scatter"))
TIMEOUT_SECONDS: Final = 60.0
TIMEOUT_SECONDS_MAX: Final = 86_400.0
ON_FAIL: Final = ("block", "warn", "degrade", "require_human")


def read_step(report: Report, index: int, value: Json, known: dict[str, int], previous: str | None) -> Step | None:
    """
    The step at an index of `steps`; None if it cannot be named.

    Args:
        known: the ids of the steps before it; its own is added.
        previous: the step that it depends on if it does not say so.
    """
    path: Path = ("steps", index)
    table = Table(report, path, value, missing="field_missing")
    if not isinstance(value, dict):
        return None
    step_id = _step_id(table, index, known)
    report.step_id = step_id
    try:
        step = _read(table, step_id or "", () if previous is None else (previous,))
    finally:
        report.step_id = None
    return step if step_id else None


def _step_id(table: Table, index: int, known: dict[str, int]) -> str | None:
    found = table.text("id", is_required=True)
    if found is None:
        return None
    if not STEP_ID.match(found):
        table.wrong("id", "a letter or _, then at most 63 letters, digits, _ and -")
        return None
    if found in known:
        message = f"the id {found!r} is that of step {known[found] + 1} already"
        table.report.error("duplicate_step", (*table.path, "id"), message)
        return None
    known[found] = index
    return found


def _read(table: Table, step_id: str, previous: tuple[str, ...]) -> Step:
    table.check_keys(_STEP_KEYS)
    uses = table.text("uses", is_required=True) or ""
    if uses and not ID.match(uses.removeprefix("skill:")):
        table.wrong("uses", "the id of a capability, or skill: and the id of a skill")
        uses = ""
    config = Table(table.report, (*table.path, "config"), table.values.get("config", {}), code="bad_control")
    config.check_keys(_CONFIG_KEYS)
    _check_exclusive(config, is_skill=uses.startswith("skill:"))
    at_most_once = config.boolean("at_most_once", False) if config.has("at_most_once") else None
    retry = _retry(config)
    if at_most_once and retry is not None and retry.max_attempts > 1:
        config.report.error("bad_control", (*config.path, "at_most_once"), "at_most_once excludes max_attempts above 1")
    pre, post = _gates(config)
    stream = config.boolean("stream", False)
    if stream and post:
        config.report.error(
            "bad_control", (*config.path, "stream"), "stream excludes post gates: the text would be out"
        )
    return Step(
        id=step_id,
        uses=uses,
        input=table.mapping("input"),
        output=_output(table),
        depends_on=_depends_on(table, config, previous),
        condition=expression(config, "condition"),
        retry=retry,
        timeout_seconds=_timeout(config),
        foreach=_foreach(config),
        while_=_while(config),
        router=_router(config),
        scatter=_scatter(config),
        merge_strategy=_choice(config, "merge_strategy", ("overwrite", "replace", "append", "deep_merge"), "overwrite"),
        confirm=_confirm(config),
        pre_gates=pre,
        post_gates=post,
        at_most_once=at_most_once,
        stream=stream,
        config=config.values,
    )


def _check_exclusive(config: Table, *, is_skill: bool) -> None:
    for one, other in _EXCLUSIVE:
        if config.has(one) and config.has(other):
            message = f"{one} and {other} exclude each other"
            config.report.error("bad_control", (*config.path, other), message, on_key=True)
    for key in _NOT_OF_SKILLS if is_skill else ():
        if config.has(key):
            message = f"a step that uses a skill has no {key}; the steps of that skill may have it"
            config.report.error("bad_control", (*config.path, key), message, on_key=True)


def _output(table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, target in table.mapping("output").items():
        path = (*table.path, "output", field)
        try:
            parse_field(field)
        except BadReference as exc:
            table.report.error("bad_reference", path, str(exc), on_key=True)
            continue
        if not isinstance(target, str):
            table.report.error("bad_target", path, f"{field}: expected a target such as vars.x, found {named(target)}")
            continue
        try:
            parse_target(target)
        except BadReference as exc:
            table.report.error("bad_target", path, str(exc))
            continue
        found[field] = target
    return found


def _depends_on(table: Table, config: Table, previous: tuple[str, ...]) -> tuple[str, ...]:
    holder = table if table.has("depends_on") else config
    if not holder.has("depends_on"):
        return previous
    if table.has("depends_on") and config.has("depends_on"):
        message = "depends_on stands in the step and in its config; keep one of them"
        table.report.error("bad_control", (*config.path, "depends_on"), message, on_key=True)
    value = holder.values["depends_on"]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(dict.fromkeys(value))
    holder.wrong("depends_on", "a list of step ids", code="field_invalid")
    return ()


def expression(table: Table, key: str, *, is_required: bool = False) -> str | None:
    """The text of an expression that can be parsed."""
    if not table.has(key) and not is_required:
        return None
    value = table.values.get(key)
    path = (*table.path, key)
    if isinstance(value, (bool, int, float)):  # `condition: true` is the expression `true`
        value = str(value).lower() if isinstance(value, bool) else repr(value)
    if not isinstance(value, str):
        table.report.error(table.code, path, f"{key}: expected an expression, found {named(value)}")
        return None
    try:
        parse(value)
    except BadExpression as exc:
        code = "bad_reference" if isinstance(exc, UnknownNamespace) else "bad_expression"
        assert table.report.document is not None
        place = table.report.document.inside(path, exc.column)
        table.report.at(place, code, f"{key}: column {exc.column}: {exc.message}")
        return None
    return value


def _choice(table: Table, key: str, choices: tuple[str, ...], default: str) -> Any:
    return table.text(key, choices=choices) or default


def _retry(config: Table) -> Retry | None:
    if not config.has("retry"):
        return None
    table = config.inside("retry")
    table.check_keys(("max_attempts", "backoff_seconds", "backoff_multiplier"))
    return Retry(
        max_attempts=table.integer("max_attempts", 3, 1, 1000),
        backoff_seconds=table.number("backoff_seconds", 1.0, lambda n: n >= 0, "a number of seconds from 0 on"),
        backoff_multiplier=table.number("backoff_multiplier", 2.0, lambda n: n > 0, "a number above 0"),
    )


def _timeout(config: Table) -> float:
    expected = f"a number of seconds above 0, at most {TIMEOUT_SECONDS_MAX:.0f}"
    return config.number("timeout_seconds", TIMEOUT_SECONDS, lambda n: 0 < n <= TIMEOUT_SECONDS_MAX, expected)


def _foreach(config: Table) -> Foreach | None:
    if not config.has("foreach"):
        return None
    table = config.inside("foreach")
    table.check_keys(("items", "as", "index_as", "parallel"))
    names = {key: table.text(key) for key in ("as", "index_as")}
    for key, name in names.items():
        if name is not None and (not _NAME.match(name) or name in NAMESPACES):
            table.wrong(key, f"a name, which is none of {', '.join(NAMESPACES)}")
    if (names["as"] or "item") == names["index_as"]:
        table.wrong("index_as", "another name than that of the item")
    return Foreach(
        items=expression(table, "items", is_required=True) or "[]",
        name=names["as"] or "item",
        index_as=names["index_as"],
        parallel=table.integer("parallel", 1, 1, 10_000),
    )


def _while(config: Table) -> While | None:
    if not config.has("while"):
        return None
    table = config.inside("while")
    table.check_keys(("condition", "max_iterations"))
    return While(
        condition=expression(table, "condition", is_required=True) or "false",
        max_iterations=table.integer("max_iterations", 10, 1, 1000),
    )


def _capability(table: Table, key: str, value: Json) -> bool:
    if isinstance(value, str) and ID.match(value):
        return True
    path = (*table.path, key)
    table.report.error("bad_control", path, f"{key}: expected the id of a capability, found {named(value)}")
    return False


def _router(config: Table) -> Router | None:
    if not config.has("router"):
        return None
    table = config.inside("router")
    table.check_keys(("on", "cases", "default"))
    cases = Table(table.report, (*table.path, "cases"), table.values.get("cases", {}), code="bad_control")
    if not cases.values and not table.has("default"):
        table.lacks("cases", "a mapping from values to capabilities")
    default = table.values.get("default")
    if table.has("default") and not _capability(table, "default", default):
        default = None
    return Router(
        on=expression(table, "on", is_required=True) or "null",
        cases={key: value for key, value in cases.values.items() if _capability(cases, key, value)},
        default=default,
    )


def _scatter(config: Table) -> Scatter | None:
    if not config.has("scatter"):
        return None
    table = config.inside("scatter")
    table.check_keys(("capabilities", "merge"))
    names = table.values.get("capabilities")
    if not isinstance(names, list) or not _are_different_ids(names):
        table.wrong("capabilities", "a list of 2 to 16 different ids of capabilities")
        names = []
    merge = _choice(table, "merge", ("collect", "concat_lists", "first_success"), "collect")
    return Scatter(capabilities=tuple(names), merge=merge)


def _are_different_ids(names: list[Json]) -> bool:
    are_ids = all(isinstance(name, str) and ID.match(name) for name in names)
    return are_ids and 2 <= len(set(names)) == len(names) <= 16


def _confirm(config: Table) -> Confirm | None:
    value = config.values.get("confirm", False)
    if isinstance(value, bool):
        return Confirm() if value else None
    if not isinstance(value, dict):
        config.wrong("confirm", "true, or a mapping with question, expires_in, default")
        return None
    table = config.inside("confirm")
    table.check_keys(("question", "expires_in", "default"))
    default: Any = table.text("default", choices=("approve", "deny"))
    expires_in = table.number("expires_in", None, lambda n: n > 0, "a number of seconds above 0")
    return Confirm(question=table.text("question"), expires_in=expires_in, default=default)


def _gates(config: Table) -> tuple[tuple[Gate, ...], tuple[Gate, ...]]:
    if not config.has("gates"):
        return (), ()
    table = config.inside("gates")
    table.check_keys(("pre", "post"))
    return read_gates(table, "pre"), read_gates(table, "post")


def read_gates(table: Table, key: str) -> tuple[Gate, ...]:
    """A list of gates: the id of a capability, or {capability, input, on_fail}."""
    value = table.values.get(key, [])
    if not isinstance(value, list):
        table.wrong(key, "a list of gates")
        return ()
    found = (_gate(table, (*table.path, key, index), item) for index, item in enumerate(value))
    return tuple(gate for gate in found if gate is not None)


def _gate(table: Table, path: Path, value: Json) -> Gate | None:
    if isinstance(value, str) and ID.match(value):
        return Gate(capability=value)
    if not isinstance(value, dict):
        message = f"expected the id of a capability or {{capability, input, on_fail}}, found {named(value)}"
        table.report.error(table.code, path, message)
        return None
    gate = Table(table.report, path, value, code=table.code)
    gate.check_keys(("capability", "input", "on_fail"))
    capability = gate.text("capability", is_required=True)
    if capability is not None and not ID.match(capability):
        gate.wrong("capability", "the id of a capability")
        return None
    on_fail: Any = gate.text("on_fail", choices=ON_FAIL) or "block"
    given = gate.mapping("input") if gate.has("input") else None
    return Gate(capability=capability or "", input=given, on_fail=on_fail)
