"""
A value against the type of its key, with all problems at once. No I/O.

The types are those of keys.py, as msgspec describes them. msgspec itself stops at the first misfit, and knows neither
lines nor what to do about it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from holdfast.dockfile.problems import Report, shown
from holdfast.dockfile.yaml_text import Loose

_TRUE: Final = frozenset({"true", "yes", "on"})
_FALSE: Final = frozenset({"false", "no", "off"})
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}\Z")
_NUMBER: Final = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?\Z")


class Notes(msgspec.Struct, frozen=True):
    """What the table of keys says beside its types: paths that are refused, and why; values likewise."""

    refused: Mapping[str, str]
    refused_values: Mapping[tuple[str, str], str]


@cache
def type_of(kind: type) -> inspect.Type:
    """A type as msgspec describes it."""
    return inspect.type_info(kind)


def check(value: Any, kind: inspect.Type, path: str, report: Report, notes: Notes) -> Any:
    """The value with its texts made what the type wants; a misfit is a problem, and then None stands in its place."""
    expected = ""
    if isinstance(kind, inspect.Metadata):
        expected = (kind.extra or {}).get("expected", "")
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        options = [item for item in kind.types if not isinstance(item, inspect.NoneType)]
        # A section without value is not one that was left out: `auth:` over nothing must not open a server.
        if value is None and kind.includes_none and not isinstance(options[0], inspect.StructType):
            return None
        kind = next((item for item in options if _is_of(value, item)), options[0])
        if isinstance(kind, inspect.Metadata):
            expected = (kind.extra or {}).get("expected", expected)
            kind = kind.type
    if hint := _refused_value(value, path, notes):
        report.add(path, expected or expected_of(kind), shown(value), hint)
        return None
    if isinstance(kind, inspect.StructType):
        return _check_section(value, kind, path, report, notes)
    if isinstance(kind, inspect.VarTupleType):
        return _check_list(value, kind, path, report, notes)
    if isinstance(kind, inspect.DictType):
        return _check_mapping(value, kind, path, report, notes)
    if isinstance(kind, inspect.AnyType):
        return plain(value)
    return _check_scalar(value, kind, path, report, expected)


def expected_of(kind: inspect.Type) -> str:
    """What a type takes, in words."""
    if isinstance(kind, inspect.Metadata):
        given: str | None = (kind.extra or {}).get("expected")
        return given or expected_of(kind.type)
    if isinstance(kind, inspect.UnionType):
        options = [expected_of(item) for item in kind.types if not isinstance(item, inspect.NoneType)]
        return " or ".join(options)
    if isinstance(kind, inspect.LiteralType):
        values = [str(item) for item in kind.values]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _bounds(kind)
    if isinstance(kind, inspect.VarTupleType):
        return f"a list, each item {expected_of(kind.item_type)}"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.StrType):
        return "a text that is not empty" if kind.min_length else "a text"
    return "a mapping" if isinstance(kind, inspect.StructType | inspect.DictType) else "any value"


def plain(value: Any) -> Any:
    """A value without our marks on its texts."""
    if isinstance(value, Loose):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def closest(name: str, names: Sequence[str]) -> str:
    """A hint at what may have been meant."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"


def _check_section(value: Any, kind: inspect.StructType, path: str, report: Report, notes: Notes) -> Any:
    if not isinstance(value, dict):
        todo = "write {} for all defaults, or leave the key out" if value is None else ""
        report.add(path, "a mapping", shown(value), todo)
        return None
    fields = {field.encode_name: field for field in kind.fields}
    found: dict[str, Any] = {}
    for name, item in value.items():
        below = f"{path}.{name}" if path else name
        if name.startswith("x-"):
            continue
        if name not in fields:
            hint = notes.refused.get(below)
            report.add(below, "a key that is known here", "an unknown key", hint or closest(name, list(fields)))
            continue
        found[name] = check(item, fields[name].type, below, report, notes)
    for name, field in fields.items():
        if field.required and name not in value:
            below = f"{path}.{name}" if path else name
            report.add(below, expected_of(field.type), "nothing", "it is required")
    return found


def _check_list(value: Any, kind: inspect.VarTupleType, path: str, report: Report, notes: Notes) -> Any:
    if not isinstance(value, list):
        report.add(path, expected_of(kind), shown(value))
        return None
    if kind.min_length and len(value) < kind.min_length:
        report.add(path, f"a list of at least {kind.min_length}", f"{len(value)} items")
    return [check(item, kind.item_type, f"{path}[{index}]", report, notes) for index, item in enumerate(value)]


def _check_mapping(value: Any, kind: inspect.DictType, path: str, report: Report, notes: Notes) -> Any:
    if not isinstance(value, dict):
        report.add(path, expected_of(kind), shown(value))
        return None
    return {key: check(item, kind.value_type, f"{path}.{key}", report, notes) for key, item in value.items()}


def _check_scalar(value: Any, kind: inspect.Type, path: str, report: Report, expected: str) -> Any:
    made = _made(value, kind)
    if made is None or not _fits(made, kind):
        report.add(path, expected or expected_of(kind), shown(value), _todo(value, kind))
        return None
    return made


def _made(value: Any, kind: inspect.Type) -> Any:
    """The value as the type wants it; None if it is of another type."""
    if isinstance(kind, inspect.BoolType):
        return _boolean(value)
    if isinstance(kind, inspect.IntType):
        return int(value) if _is_loose(value, _INTEGER) else value if type(value) is int else None
    if isinstance(kind, inspect.FloatType):
        return float(value) if _is_loose(value, _NUMBER) or type(value) in (int, float) else None
    return str(value) if isinstance(value, str) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, Loose) else None
    return True if word in _TRUE else False if word in _FALSE else None


def _is_loose(value: Any, shape: re.Pattern[str]) -> bool:
    return isinstance(value, Loose) and shape.match(value) is not None


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    try:
        msgspec.convert(value, _python_type(kind))
    except msgspec.ValidationError:
        return False
    return True


@cache
def _annotated(kind: type, limits: tuple[tuple[str, Any], ...]) -> Any:
    from typing import Annotated

    return Annotated[kind, msgspec.Meta(**dict(limits))]


def _python_type(kind: inspect.Type) -> Any:
    base = {inspect.IntType: int, inspect.FloatType: float, inspect.BoolType: bool, inspect.StrType: str}[type(kind)]
    names = ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length")
    limits = tuple((name, getattr(kind, name)) for name in names if getattr(kind, name, None) is not None)
    return _annotated(base, limits) if limits else base


def _is_of(value: Any, kind: inspect.Type) -> bool:
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(kind, inspect.VarTupleType):
        return isinstance(value, list)
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return isinstance(value, dict)
    return not isinstance(value, list | dict)


def _refused_value(value: Any, path: str, notes: Notes) -> str | None:
    return notes.refused_values.get((path, str(value))) if isinstance(value, str) else None


def _todo(value: Any, kind: inspect.Type) -> str:
    if isinstance(kind, inspect.StrType) and isinstance(value, int | float):
        return "put it into quotes"
    is_text = isinstance(value, str) and not isinstance(value, Loose)
    if is_text and isinstance(kind, inspect.IntType | inspect.FloatType | inspect.BoolType):
        return "write it without quotes"
    if is_text and isinstance(kind, inspect.LiteralType):
        close = difflib.get_close_matches(value, [str(item) for item in kind.values], n=1)
        return f"did you mean {close[0]}?" if close else ""
    return ""


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:g}" if kind.le < 1e6 else f" of at least {kind.ge:g}"
    if kind.ge is not None:
        return f" of at least {kind.ge:g}"
    return " above 0" if kind.gt is not None else ""
