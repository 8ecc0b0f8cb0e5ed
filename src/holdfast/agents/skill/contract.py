"""
Whether values are what a contract says. Nothing is coerced: 2.0 passes as an integer, true never as a number. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.agents.skill.model import Field
from holdfast.execution.withheld import Withheld
from holdfast.model.encoding import encode_value

# Of what one step makes, as JSON.
OUTPUT_BYTES_MAX: Final = 1024 * 1024

Json = Any


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TESTS: Final[Mapping[str, Callable[[Json], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


def is_of(type: str, value: Json) -> bool:
    """Whether a value that is not null is of a declared type; an unknown type takes anything."""
    test = _TESTS.get(type)
    return test is None or test(value)


def input_problems(fields: Mapping[str, Field], given: Mapping[str, Json]) -> list[tuple[str, str]]:
    """
    What keeps a request from being executed, as (name, message): inputs that are undeclared, missing or of another type.
    """
    problems = [(name, "undeclared") for name in given if name not in fields]
    for name, field in fields.items():
        value = given.get(name, field.default)
        if value is None:
            if field.required:
                problems.append((name, "required"))
        elif not is_of(field.type, value):
            problems.append((name, f"must be {_article(field.type)}"))
    return problems


def with_defaults(fields: Mapping[str, Field], given: Mapping[str, Json]) -> dict[str, Json]:
    """All declared inputs: as given, else their default, else null. What is undeclared is dropped."""
    return {name: given.get(name, field.default) for name, field in fields.items()}


def misfit(fields: Mapping[str, Field], values: Mapping[str, Json], *, what: str) -> str | None:
    """Why values break a contract of a capability, in which null passes; None: they do not."""
    for name, field in fields.items():
        if name not in values:
            if field.required:
                return f"{what} '{name}' is required and missing"
            continue
        value = values[name]
        if value is not None and not is_of(field.type, value):
            return f"{what} '{name}' must be {_article(field.type)}, not {_shown(value)}"
    return None


def produced(fields: Mapping[str, Field], result: Json) -> dict[str, Json] | str:
    """
    The outputs that a call's result stands for, or why it is none: a result that is no mapping is the one output.
    """
    if not isinstance(result, dict):
        if len(fields) != 1:
            return f"the result is {_shown(result)}; it must be an object of {', '.join(fields) or 'nothing'}"
        result = {next(iter(fields)): result}
    if any(not isinstance(name, str) for name in result):
        return "the names of outputs must be text"
    if not is_finite(result):
        return "an output is not a finite number"
    found = misfit(fields, result, what="output")
    return found or {**dict.fromkeys(fields), **result}


def is_finite(value: Json) -> bool:
    """Whether no number in it is NaN or infinite, which JSON does not have."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return True


def masked(fields: Mapping[str, Field], values: Mapping[str, Json]) -> Mapping[str, Json]:
    """The values as people are shown them."""
    return Withheld(hidden=_sensitive(fields)).of(dict(values))


def withheld(fields: Mapping[str, Field], values: Mapping[str, Json]) -> Withheld:
    """What people are not shown of that which a call made: what is sensitive, and what no contract declares."""
    hidden = tuple(name for name in _sensitive(fields) if name in values)
    return Withheld(hidden=hidden, left_out=tuple(name for name in values if name not in fields))


def _sensitive(fields: Mapping[str, Field]) -> tuple[str, ...]:
    return tuple(name for name, field in fields.items() if field.sensitive)


def _article(type: str) -> str:
    return f"an {type}" if type[:1] in "aeiou" else f"a {type}"


def _shown(value: Json) -> str:
    text = encode_value(value) if isinstance(value, str | int | float | bool | list | dict) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
