"""
Canonical events as bytes: made once, read by everybody.

A line is compact JSON without a line end. Fixed fields come first, so that readers of lines can find the type, the
sequence and the time by position without parsing the whole. Control characters, U+0085, U+2028 and U+2029 are
`\\u` escapes, because the line readers of many clients cut there. Text is repaired, never refused: a lone surrogate
becomes U+FFFD.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from json.encoder import encode_basestring
from pathlib import PurePath
from typing import Any, Final

import msgspec

from holdfast.errors import InvalidRequest

# DEL and the C1 controls (U+0085 among them), the two Unicode line ends, and halves of surrogate pairs.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TYPE_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}\Z")


def encode_other(value: Any) -> Any:
    """What msgspec cannot write by itself: models of pydantic, paths, exceptions, kinds of text."""
    if isinstance(value, str):
        return str.__str__(value)  # a subclass, such as some libraries give for text
    dump = getattr(value, "model_dump", None)  # pydantic models, without importing pydantic
    if callable(dump):
        return dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_json: Final = msgspec.json.Encoder(enc_hook=encode_other)
_Line = msgspec.json.Decoder(dict[str, Any])

CANONICAL_TYPES: Final = frozenset(
    {
        "started",
        "token",
        "thinking",
        "block_started",
        "block_stopped",
        "tool_call",
        "tool_result",
        "step_started",
        "step_completed",
        "step_skipped",
        "step_degraded",
        "step_failed",
        "progress",
        "checkpoint",
        "usage",
        "interrupt",
        "interrupt_resolved",
        "memory",
        "compaction",
        "restarted",
        "complete",
        "error",
        "cancelled",
    }
)
"""The names that `emit` refuses: each has its own method, or is written by the server alone."""

FIXED_FIELDS: Final = ("id", "type", "run_id", "sequence", "timestamp")


def repair(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD; all else as it is."""
    if text.isascii():
        return text
    return _SURROGATE.sub("\ufffd", text)


def repair_value(value: Any) -> Any:
    """A JSON value with `repair` applied to every text in it, keys included."""
    if isinstance(value, str):
        return repair(value)
    if isinstance(value, dict):
        return {repair_value(key): repair_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [repair_value(item) for item in value]
    return value


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\ufffd" if "\ud800" <= character <= "\udfff" else f"\\u{ord(character):04x}"


def encode_text(text: str) -> str:
    """A text as a JSON string, quotes included, safe for every line reader."""
    encoded = encode_basestring(text)
    if encoded.isascii() and "\x7f" not in encoded:
        return encoded
    return _UNSAFE.sub(_escape, encoded)


def encode_value(value: Any) -> str:
    """
    Any JSON-like value as compact JSON text, safe for every line reader.

    Datetimes, UUIDs, Decimals, enums, dataclasses, sets and bytes become JSON as msgspec writes them; models of pydantic
    and paths too.

    Raises:
        TypeError: the value cannot be written as JSON.
    """
    if type(value) is str:
        return encode_text(value)
    try:
        text = _json.encode(value).decode()
    except UnicodeEncodeError:
        text = _json.encode(repair_value(value)).decode()
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSAFE.sub(_escape, text)


def encode_fields(fields: dict[str, Any]) -> str:
    """An event's own fields as the inside of a JSON object, without braces, each with a comma before it."""
    return "".join(f",{encode_text(name)}:{encode_value(value)}" for name, value in fields.items())


def encode_event(run_id: str, sequence: int, type: str, timestamp: int, own: str) -> str:
    """The canonical line of one event; `own` is what `encode_fields` made."""
    return (
        f'{{"id":"evt_{sequence}","type":"{type}","run_id":"{run_id}","sequence":{sequence},'
        f'"timestamp":"{format_time(timestamp)}"{own}}}'
    )


def decode_event(line: str | bytes) -> dict[str, Any]:
    """A canonical line as a dict, in the order of its fields."""
    return _Line.decode(line)


def event_type(line: str) -> str:
    """The type of a canonical line, found by position: `{"id":"evt_1","type":"token",…`."""
    return line.split('"', 8)[7]


def event_time(line: str) -> int:
    """The timestamp of a canonical line in microseconds, found without parsing the whole."""
    at = line.index('"timestamp":"') + 13
    return parse_canonical_time(line[at : at + 27])


def is_type_name(name: str) -> bool:
    """Whether a custom event may have this name."""
    return _TYPE_NAME.match(name) is not None


# The last second and its text, in one object: threads may format at the same time.
_last_second: tuple[int, str] = (-1, "")


def format_time(microseconds: int) -> str:
    """RFC 3339 in UTC with six decimals: `2026-11-20T23:59:19.987298Z`."""
    global _last_second
    second, fraction = divmod(microseconds, 1_000_000)
    known, text = _last_second
    if second != known:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _last_second = (second, text)
    return f"{text}{fraction:06d}Z"


def parse_canonical_time(text: str) -> int:
    """The microseconds of a time that `format_time` wrote."""
    whole = datetime.fromisoformat(text[:19] + "+00:00")
    return int(whole.timestamp()) * 1_000_000 + int(text[20:26])


def parse_time(text: str, *, field: str) -> int:
    """
    Microseconds of an ISO 8601 time with an offset.

    Raises:
        InvalidRequest: it is none, or has no offset.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{field}: {text!r} is no ISO 8601 time", field=field) from None
    if value.tzinfo is None:
        raise InvalidRequest(f"{field}: {text!r} has no offset; add Z for UTC", field=field)
    return (int(value.replace(microsecond=0).timestamp()) * 1_000_000) + value.microsecond
