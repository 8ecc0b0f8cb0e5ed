"""
The one JSON reader of all APIs: bytes to a value, or a precise refusal. No I/O.

RFC 8259 without its latitudes: UTF-8 without a byte order mark, every key once, no NaN and no Infinity, a bounded
depth, integers of 64 bits. A lone surrogate is refused, or becomes U+FFFD where an API repairs text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from holdfast.api.http.errors import MalformedBody
from holdfast.model.encoding import repair_value

DEPTH_MAX = 64
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE: Final = re.compile("[\ud800-\udfff]")
# A whole string, or a bracket. An unfinished string goes to the end, so that no byte is looked at twice.
_NESTING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_INT_DIGITS_MAX = 20


def read_json(data: bytes, *, repair: bool = False) -> Any:
    """
    The value of a JSON text.

    Raises:
        MalformedBody: it is none; the message says what and where.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"the body is not UTF-8 at byte {exc.start}") from None
    if text.startswith("\ufeff"):
        raise MalformedBody("the body begins with a byte order mark; send JSON without it")
    # Brackets inside of strings count here too, so this only tells which texts need the closer look.
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX:
        _check_depth(data)
    value = _decode(text)
    # Only an escape can bring half a surrogate pair into text that was valid UTF-8.
    if _SURROGATE_ESCAPE.search(data):
        if repair:
            return repair_value(value)
        _refuse_surrogates(value)
    return value


def _decode(text: str) -> Any:
    try:
        return json.JSONDecoder(
            object_pairs_hook=_read_object,
            parse_int=_read_int,
            parse_float=_read_float,
            parse_constant=_refuse_constant,
        ).decode(text)
    except json.JSONDecodeError as exc:
        raise MalformedBody(f"the body is no JSON: {exc.msg} at character {exc.pos}") from None


def _read_int(digits: str) -> int:
    if len(digits) > _INT_DIGITS_MAX or not INT64_MIN <= (number := int(digits)) <= INT64_MAX:
        raise MalformedBody(f"the integer {digits[:40]} is out of range: {INT64_MIN} to {INT64_MAX}")
    return number


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedBody(f"the key {_shown(key)} stands twice in one object")
            seen.add(key)
    return value


def _read_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise MalformedBody(f"the number {digits[:40]} is out of range")
    return number


def _refuse_constant(name: str) -> Any:
    raise MalformedBody(f"{name} is no JSON value")


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _NESTING.finditer(data):
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise MalformedBody(f"the body is nested deeper than {DEPTH_MAX} levels")
        elif first in b"]}":
            depth -= 1


def _refuse_surrogates(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if _LONE.search(item):
                raise MalformedBody("a text has half a surrogate pair, which is no character")
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 64 else text[:64] + "…")
