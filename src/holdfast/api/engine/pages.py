"""Lists in pages: `limit`, `cursor` and `next_cursor`. No I/O."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from holdfast.api.http.query import Query
from holdfast.errors import InvalidRequest

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100
_CURSOR_MAX: Final = 4096


def page_limit(query: Query) -> int:
    """How many items a page may have."""
    return query.integer("limit", LIMIT_DEFAULT, least=1, most=LIMIT_MAX)


def shown_cursor(*values: int | str) -> str:
    """A place in a list, as text that says nothing to anybody else."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def page_cursor(query: Query, *types: type[Any]) -> tuple[Any, ...] | None:
    """
    The place behind which the page begins: values of these types.

    Raises:
        InvalidRequest: it is no `next_cursor` of this list.
    """
    text = query.get("cursor")
    if text is None:
        return None
    try:
        if len(text) > _CURSOR_MAX or not text.isascii():
            raise ValueError
        values = msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        if not isinstance(values, list) or [type(value) for value in values] != list(types):
            raise ValueError
        if any(isinstance(value, int) and not 0 <= value < 2**63 for value in values):
            raise ValueError
    except (ValueError, msgspec.DecodeError):
        raise InvalidRequest("cursor: a next_cursor of this list", field="cursor") from None
    return tuple(values)
