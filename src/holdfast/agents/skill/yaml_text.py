"""
YAML 1.2 (core schema) as plain JSON values, and where in the text each of them stands. No I/O.

The parser of libyaml is asked for its events alone: what becomes of plain text is decided here, for libyaml's own rules are
those of YAML 1.1, in which `on` and `yes` are booleans and dates are dates. Events come one at a time, so that a text that is
nested without end is refused before it costs anything. Positions are looked for only when something has to be told about
one: then the text is read once more.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, TypeVar

import yaml

from holdfast.agents.skill.model import Json

BYTES_MAX: Final = 256 * 1024
# Aliases can make a small file a huge value.
NODES_MAX: Final = 50_000
DEPTH_MAX: Final = 64

T = TypeVar("T")

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER: Final = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NO_NUMBER: Final = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_BASED: Final = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_NUMERIC: Final = frozenset("+-.0123456789")
_WORDS: Final[dict[str, Json]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG: Final = "tag:yaml.org,2002:"
# What JSON readers everywhere take.
_INTEGER_LIMIT: Final = 1 << 63


class BadYaml(ValueError):
    """A text that is no YAML, or has what JSON has not."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message, self.place = message, place


class Document:
    """One document: its value, and the places of what is in it."""

    def __init__(self, text: str) -> None:
        """
        Raises:
            BadYaml
        """
        self._text = text
        self._places: tuple[dict[Path, Place], dict[Path, Place]] | None = None
        self.value: Json = _Reader(text, None).document()

    def at(self, path: Path) -> Place:
        """Where a value begins; of one that is not there, where the mapping or list begins that would hold it."""
        places = self._found()[0]
        while path not in places and path:
            path = path[:-1]
        return places.get(path, (1, 1))

    def key(self, path: Path) -> Place:
        """Where the key of a value stands; of an item of a list, where the item begins."""
        return self._found()[1].get(path) or self.at(path)

    def inside(self, path: Path, column: int) -> Place:
        """Where a character of a text stands, if the text stands in one line without escapes; else where it begins."""
        line, start = self.at(path)
        row = self._text.split("\n")[line - 1][start - 1 :]
        value = self.value
        for part in path:
            value = value[part]
        if row[:1] in ("'", '"'):
            row, start = row[1:], start + 1
        return (line, start + column - 1) if isinstance(value, str) and row.startswith(value) else (line, start)

    def forget(self) -> None:
        """Keep no places any more; they are looked for again when they are asked for."""
        self._places = None

    def _found(self) -> tuple[dict[Path, Place], dict[Path, Place]]:
        if self._places is None:
            self._places = {}, {}
            _Reader(self._text, self._places).document()
        return self._places


class _Reader:
    """Reads the events of one document."""

    def __init__(self, text: str, places: tuple[dict[Path, Place], dict[Path, Place]] | None) -> None:
        self._places = places
        self._anchors: dict[str, tuple[Json, int]] = {}
        self._count = 0
        if found := _UNPRINTABLE.search(text):
            before = text[: found.start()]
            place = before.count("\n") + 1, len(before) - before.rfind("\n")
            raise BadYaml(f"expected printable characters, found U+{ord(found.group()):04X}", place)
        self._hidden = _hidden(text)
        try:
            self._loader = _Loader(text.translate(self._hidden) if self._hidden else text)
        except yaml.YAMLError as exc:
            raise _bad(exc) from exc

    def document(self) -> Json:
        try:
            self._loader.get_event()  # the stream begins
            if isinstance(self._loader.get_event(), yaml.StreamEndEvent):
                return None
            value = self._value(self._loader.get_event(), (), 0)
            self._loader.get_event()  # the document ends
            after = self._loader.get_event()
        except yaml.YAMLError as exc:
            raise _bad(exc) from exc
        if not isinstance(after, yaml.StreamEndEvent):
            raise BadYaml("expected one document, found a second one", _place(after))
        return value

    def _value(self, event: Any, path: Path, depth: int) -> Json:
        self._count += 1
        if self._places is not None:
            self._places[0][path] = _place(event)
        if self._count > NODES_MAX or depth > DEPTH_MAX:
            raise BadYaml(f"expected at most {NODES_MAX} values, {DEPTH_MAX} deep, found more", _place(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        if isinstance(event, yaml.ScalarEvent):
            value = self._shown(_scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(event, path, depth)
        else:
            value = self._mapping(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _shown(self, value: T) -> T:
        if not self._hidden or not isinstance(value, str):
            return value
        return value.translate({hidden: character for character, hidden in self._hidden.items()})  # type: ignore[return-value]

    def _alias(self, event: Any) -> Json:
        if event.anchor not in self._anchors:  # also one that stands inside of what it names
            raise BadYaml(f"there is no &{event.anchor} before *{event.anchor}", _place(event))
        value, size = self._anchors[event.anchor]
        self._count += size
        if self._count > NODES_MAX:
            raise BadYaml(f"expected at most {NODES_MAX} values with all aliases, found more", _place(event))
        return value

    def _list(self, start: Any, path: Path, depth: int) -> list[Json]:
        _check_tag(start, "seq")
        items: list[Json] = []
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)) if self._places is not None else path, depth + 1))
        return items

    def _mapping(self, start: Any, path: Path, depth: int) -> dict[str, Json]:
        _check_tag(start, "map")
        found: dict[str, Json] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._shown(_key(event))
            if key in found:
                raise BadYaml(f"the key {key!r} stands twice in one mapping", _place(event))
            below = path
            if self._places is not None:
                below = (*path, key)
                self._places[1][below] = _place(event)
            found[key] = None
            found[key] = self._value(self._loader.get_event(), below, depth + 1)
        return found


def _hidden(text: str) -> dict[int, int]:
    """
    For the characters that end lines in YAML 1.1 and not in 1.2 others that the text does not have, if it has one of those.

    libyaml still ends lines there: quoted text would lose them, and places would be wrong.
    """
    found = [character for character in "\x85\u2028\u2029" if character in text]
    if not found:
        return {}
    unused = (code for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    return dict(zip(map(ord, found), unused, strict=False))


def _key(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise BadYaml("expected a text as key, found another value", _place(event))
    value = _scalar(event)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(event.value)


def _scalar(event: Any) -> Json:
    text = str(event.value)
    if event.tag is not None:
        return _tagged(event, text)
    if not event.implicit[0]:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    return _number(event, text) if text[0] in _NUMERIC else text


def _number(event: Any, text: str) -> Json:
    if _INTEGER.match(text):
        value: Json = int(text) if len(text) < 25 else _INTEGER_LIMIT
    elif _BASED.match(text):
        value = int(text[2:], 8 if text[1] == "o" else 16)
    elif _FLOAT.match(text):
        value = float(text)
    elif _NO_NUMBER.match(text):
        value = math.nan
    else:
        return text
    is_fine = math.isfinite(value) if isinstance(value, float) else abs(value) < _INTEGER_LIMIT
    if not is_fine:
        raise BadYaml(f"expected a number that JSON has, found {text[:40]}; quote it if it is a text", _place(event))
    return value


def _tagged(event: Any, text: str) -> Json:
    kind = str(event.tag)
    if kind in ("!", f"{_TAG}str"):
        return text
    value = _WORDS[text] if text in _WORDS else (_number(event, text) if text[0] in _NUMERIC else text)
    fits = {"null": value is None, "bool": isinstance(value, bool), "int": type(value) is int}
    if fits.get(kind.removeprefix(_TAG), False):
        return value
    if kind == f"{_TAG}float" and type(value) in (int, float):
        return float(value)
    raise BadYaml(f"expected a value without tag, found the tag {kind} on {text[:40]!r}", _place(event))


def _check_tag(event: Any, kind: str) -> None:
    if event.tag not in (None, "!", f"{_TAG}{kind}"):
        raise BadYaml(f"expected a value without tag, found the tag {event.tag}", _place(event))


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _bad(exc: Exception) -> BadYaml:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "this is no YAML"
    return BadYaml(str(what), (1, 1) if mark is None else (mark.line + 1, mark.column + 1))
