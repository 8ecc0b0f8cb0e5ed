"""
Times as the Engine API shows and takes them: Unix milliseconds with at most three decimals. No I/O.

A time is a reader's cursor here, so it must come back as it went out, whatever client printed it: 13 digits before
the point and three behind it are well within the 15 to 17 digits that a double keeps.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from holdfast.errors import InvalidRequest

# As far as a canonical time can be written: the year 9999.
MICROSECONDS_MAX: Final = 253_402_300_799_999_999

_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?\Z")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")


def milliseconds(microseconds: int) -> str:
    """A time as a JSON number: `1795219159987.298`, `1795219160977.05`, `1795219160000`."""
    whole, rest = divmod(microseconds, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def parse_after(text: str, *, field: str) -> int:
    """
    The microseconds of a cursor: Unix milliseconds (also with an exponent) or ISO 8601 with an offset.

    Whatever is finer than a microsecond is cut off, so that exactly the greater timestamps are behind the cursor. A
    space counts as `+`, because many clients forget to encode it.

    Raises:
        InvalidRequest
    """
    text = text.replace(" ", "+")
    value = _of_time(text) if _TIME.match(text) else _of_number(text)
    if value is None:
        raise InvalidRequest(
            f"{field}: Unix milliseconds or an ISO 8601 time with an offset, not {text[:60]!r}", field=field
        )
    return min(max(value, 0), MICROSECONDS_MAX)


def parse_time(text: str) -> int | None:
    """The microseconds of an ISO 8601 time with an offset; None if it is none, or before 1970."""
    value = _of_time(text) if _TIME.match(text) else None
    return value if value is not None and 0 <= value <= MICROSECONDS_MAX else None


def _of_number(text: str) -> int | None:
    if not _NUMBER.match(text):
        return None
    number = Decimal(text)
    # A huge exponent would become a huge integer; anything beyond the year 9999 is the same cursor.
    if number.adjusted() > 20:
        return MICROSECONDS_MAX if number > 0 else 0
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    return int(Decimal((sign, digits, exponent + 3)))


def _of_time(text: str) -> int | None:
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is None:
            return None
        value = value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    whole = int(value.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + value.microsecond
