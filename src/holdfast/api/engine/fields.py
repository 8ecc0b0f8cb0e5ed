"""
Reading the fields of a JSON body: each by its own check, in the order in which they were sent. No I/O.

A check takes a value and the path at which it stands (`media[0].source.url`), and returns what is to be kept of it.
Whatever does not fit is refused with that path, before anything has changed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from holdfast.errors import InvalidRequest

Check: TypeAlias = Callable[[Any, str], Any]

TASK_ID_MAX: Final = 255
# Controls (U+0085 among them), halves of surrogate pairs, and the two Unicode line ends: they would not survive a
# header, a log line or a line reader.
_NOT_IN_IDS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
# What the server makes itself is shorter than this.
_ID_MAX: Final = 255


def refuse(field: str, message: str) -> NoReturn:
    """
    Refuse a field.

    Raises:
        InvalidRequest: always.
    """
    raise InvalidRequest(f"{field}: {message}", field=field)


def read_object(value: Any, fields: Mapping[str, Check], path: str = "") -> dict[str, Any]:
    """
    The fields of an object that are there; `null` counts as left out.

    Raises:
        InvalidRequest: it is no object, a field is unknown, or the first one whose value does not fit.
    """
    if not isinstance(value, dict):
        refuse(path or "body", f"must be an object, not {_kind(value)}")
    found: dict[str, Any] = {}
    for name, item in value.items():
        at = f"{path}.{name}" if path else name
        check = fields.get(name)
        if check is None:
            refuse(at[:200], f"unknown field; known: {', '.join(fields) or 'none'}")
        if item is not None:
            found[name] = check(item, at)
    return found


def require(found: Mapping[str, Any], *names: str, path: str = "") -> None:
    """
    Let an object pass that has all of these fields.

    Raises:
        InvalidRequest: the first one that is missing.
    """
    for name in names:
        if name not in found:
            refuse(f"{path}.{name}" if path else name, "is required")


def text(least: int, most: int) -> Check:
    """Free text of so many code points. U+0000 is removed: databases and tools stumble over it."""

    def check(value: Any, path: str) -> str:
        if not isinstance(value, str):
            refuse(path, f"must be a text, not {_kind(value)}")
        kept = value.replace("\0", "")
        if not least <= len(kept) <= most:
            refuse(path, f"must have {least:,} to {most:,} characters, not {len(kept):,}")
        return kept

    return check


def one_of(words: Collection[str]) -> Check:
    """One of these words."""

    def check(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in words:
            refuse(path, f"must be one of {', '.join(words)}, not {_shown(value)}")
        return value

    return check


def flag(value: Any, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        refuse(path, f"must be true or false, not {_kind(value)}")
    return value


def task_id(value: Any, path: str) -> str:
    """The name of a task: any characters that survive a log line, compared code point by code point."""
    if not isinstance(value, str):
        refuse(path, f"must be a text, not {_kind(value)}")
    if not 1 <= len(value) <= TASK_ID_MAX:
        refuse(path, f"must have 1 to {TASK_ID_MAX} characters, not {len(value):,}")
    for character in value:
        if unicodedata.category(character) in _NOT_IN_IDS:
            refuse(path, f"has the character U+{ord(character):04X}, which no task id may have")
    return value


def identifier(value: Any, path: str) -> str:
    """An id that the server gave out once; one that it never gave is for the caller to find out, not a wrong body."""
    if not isinstance(value, str):
        refuse(path, f"must be a text, not {_kind(value)}")
    if not 1 <= len(value) <= _ID_MAX:
        refuse(path, f"must have 1 to {_ID_MAX} characters, not {len(value):,}")
    return value


def json_object(bytes_max: int) -> Check:
    """Any object that is not too long as JSON."""

    def check(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(path, f"must be an object, not {_kind(value)}")
        size = len(msgspec.json.encode(value))
        if size > bytes_max:
            refuse(path, f"may have {bytes_max:,} bytes as JSON; it has {size:,}")
        return value

    return check


def array(item: Check, most: int) -> Check:
    """A list of at most so many items."""

    def check(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            refuse(path, f"must be a list, not {_kind(value)}")
        if len(value) > most:
            refuse(path, f"may have {most} items; it has {len(value):,}")
        return [item(each, f"{path}[{index}]") for index, each in enumerate(value)]

    return check


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def _shown(value: Any) -> str:
    return ascii(value[:60]) if isinstance(value, str) else _kind(value)
