"""
Reading the mappings of a file, and telling what is wrong with them. No I/O.

Whoever reads takes what he can and goes on, so that one look at a file finds all its errors. What was wrong reads as if it
had not been there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar

from holdfast.agents.skill.model import Field, Json, Problem
from holdfast.agents.skill.yaml_text import Document, Path, Place

T = TypeVar("T")

TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "any")
ID: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
_NAMES: Final[dict[type, str]] = {
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
    type(None): "nothing",
}


def named(value: Json) -> str:
    """A value for a message: its kind, and the value itself if it is short."""
    kind = _NAMES[type(value)]
    if isinstance(value, (str, int, float)):
        text = repr(value) if isinstance(value, str) else str(value).lower()
        return f"{kind}, {text if len(text) <= 60 else text[:60] + '…'}"
    return kind


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like this one."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)
    return found[0] if found else None


class Report:
    """What was found in one file."""

    def __init__(self, file: str, document: Document | None = None) -> None:
        self.file = file
        self.document = document
        self.skill_id: str | None = None
        self.step_id: str | None = None
        self.problems: list[Problem] = []

    @property
    def has_errors(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def error(self, code: str, path: Path, message: str, *, on_key: bool = False) -> None:
        """Something at a path keeps the file from being used."""
        self.at(self._place(path, on_key), code, message)

    def warn(self, code: str, path: Path, message: str, *, on_key: bool = False) -> None:
        """Something at a path is not what its author may think."""
        self.at(self._place(path, on_key), code, message, severity="warning")

    def at(self, place: Place, code: str, message: str, *, severity: Literal["error", "warning"] = "error") -> None:
        """The same, with the place itself."""
        self.problems.append(
            Problem(
                file=self.file,
                line=place[0],
                column=place[1],
                skill_id=self.skill_id,
                step_id=self.step_id,
                severity=severity,
                code=code,
                message=message,
            )
        )

    def _place(self, path: Path, on_key: bool) -> Place:
        if self.document is None:
            return 1, 1
        return self.document.key(path) if on_key else self.document.at(path)


class Table:
    """One mapping of a file. `code` is that of its wrong values, `missing` that of what is not there."""

    def __init__(
        self, report: Report, path: Path, value: Json, *, code: str = "field_invalid", missing: str | None = None
    ) -> None:
        self.report = report
        self.path = path
        self.code = code
        self.missing = missing or code
        self.values: dict[str, Json] = {}
        if isinstance(value, dict):
            self.values = value
        else:
            report.error(code, path, f"{self._name()}: expected a mapping, found {named(value)}")

    def _name(self, key: str | None = None) -> str:
        path = self.path if key is None else (*self.path, key)
        return str(path[-1]) if path and isinstance(path[-1], str) else "this"

    def has(self, key: str) -> bool:
        return key in self.values

    def wrong(self, key: str, expected: str, *, code: str | None = None) -> None:
        """A value is not what was expected."""
        found = named(self.values.get(key))
        self.report.error(code or self.code, (*self.path, key), f"{key}: expected {expected}, found {found}")

    def lacks(self, key: str, what: str) -> None:
        """A key must be there and is not."""
        self.report.error(self.missing, self.path, f"{key} is missing: expected {what}")

    def check_keys(self, known: Iterable[str], *, code: str = "unknown_key") -> None:
        """Refuse keys that have no meaning."""
        for key in self.values:
            if key not in known:
                near = nearest(key, known)
                hint = f"; the nearest known key is {near!r}" if near else ""
                self.report.error(code, (*self.path, key), f"there is no key {key!r} here{hint}", on_key=True)

    def text(self, key: str, *, is_required: bool = False, choices: Iterable[str] | None = None) -> str | None:
        """A text that is not empty; None where there is none."""
        value = self.values.get(key)
        what = "a text that is not empty" if choices is None else f"one of {', '.join(choices)}"
        if isinstance(value, str) and value.strip() and (choices is None or value in choices):
            return value
        if value is None and is_required:
            self.lacks(key, what)
        elif key in self.values:
            is_number = type(value) in (int, float) and choices is None
            self.wrong(key, what + (", in quotes" if is_number else ""))
        return None

    def boolean(self, key: str, default: bool) -> bool:
        if key not in self.values:
            return default
        value = self.values[key]
        if isinstance(value, bool):
            return value
        self.wrong(key, "true or false")
        return default

    def integer(self, key: str, default: int, least: int, most: int | None = None) -> int:
        value = self.values.get(key, default)
        limits = f"from {least} to {most}" if most is not None else f"from {least} on"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and least <= value and (most is None or value <= most):
            return value
        self.wrong(key, f"a whole number {limits}")
        return default

    def number(self, key: str, default: T, is_fine: Callable[[float], bool], expected: str) -> float | T:
        if key not in self.values:
            return default
        value = self.values[key]
        if type(value) in (int, float) and is_fine(value):
            return float(value)
        self.wrong(key, expected)
        return default

    def mapping(self, key: str, *, is_required: bool = False) -> dict[str, Json]:
        """A mapping; an empty one where it is absent."""
        if key not in self.values:
            if is_required:
                self.lacks(key, "a mapping, which may be {}")
            return {}
        value = self.values[key]
        if isinstance(value, dict):
            return value
        self.wrong(key, "a mapping")
        return {}

    def texts(self, key: str) -> dict[str, str]:
        """A mapping of texts."""
        found = {}
        for name, value in self.mapping(key).items():
            if isinstance(value, str):
                found[name] = value
            else:
                self.report.error(self.code, (*self.path, key, name), f"{name}: expected a text, found {named(value)}")
        return found

    def inside(self, key: str) -> Table:
        """The mapping at a key, to be read in the same way."""
        return Table(self.report, (*self.path, key), self.values.get(key), code=self.code, missing=self.missing)


_FIELD_KEYS: Final = ("type", "required", "default", "description", "sensitive")


def read_fields(report: Report, path: Path, fields: dict[str, Json], *, is_strict: bool) -> dict[str, Field]:
    """Declared inputs or outputs. `is_strict`: keys without meaning are errors (contracts may have others)."""
    found: dict[str, Field] = {}
    for name, value in fields.items():
        table = Table(report, (*path, name), value, missing="field_missing")
        if not isinstance(value, dict):
            continue
        if is_strict:
            table.check_keys(_FIELD_KEYS)
        if not name or not all(name.split(".")):
            report.error("field_invalid", table.path, f"{name!r}: expected a name without empty parts", on_key=True)
        kind = table.text("type", is_required=True) or "any"
        if kind not in TYPES:
            report.warn(
                "unknown_type", (*table.path, "type"), f"{kind!r} is none of {', '.join(TYPES)}: any value passes"
            )
        default = table.values.get("default")
        if default is not None and not is_of_type(default, kind):
            table.wrong("default", f"a value of type {kind}")
        found[name] = Field(
            type=kind,
            required=table.boolean("required", False),
            default=default,
            description=_description(table),
            sensitive=table.boolean("sensitive", False),
        )
    return found


def _description(table: Table) -> str:
    value = table.values.get("description")
    if value is None or isinstance(value, str):
        return value or ""
    table.wrong("description", "a text")
    return ""


def is_of_type(value: Json, kind: str) -> bool:
    """Whether a value that is not null passes as a declared type; nothing is coerced."""
    if kind == "integer":
        return type(value) is int or (type(value) is float and value.is_integer())
    types: dict[str, Any] = {
        "string": (str,),
        "number": (int, float),
        "boolean": (bool,),
        "object": (dict,),
        "array": (list,),
    }
    return kind not in types or type(value) in types[kind]
