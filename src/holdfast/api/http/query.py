"""Query strings: strict, each parameter once, unknown ones refused. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote_to_bytes

from holdfast.api.http.errors import InvalidQuery, UnknownParameter

_DIGITS: Final = re.compile(r"[0-9]{1,16}\Z")


class Query(dict[str, str]):
    """The parameters of a call; an empty one counts as absent."""

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """
        A whole number in ASCII digits, within bounds.

        Raises:
            InvalidQuery
        """
        text = self.get(name)
        if text is None:
            return default
        if not _DIGITS.match(text) or not least <= int(text) <= most:
            raise InvalidQuery(f"{name} is a whole number from {least} to {most}, not {text[:40]!r}", field=name)
        return int(text)

    def number(self, name: str, *, least: float, most: float) -> float | None:
        """
        A decimal number within bounds; None if it is absent.

        Raises:
            InvalidQuery
        """
        text = self.get(name)
        if text is None:
            return None
        if not re.match(r"[0-9]{1,9}(\.[0-9]{1,6})?\Z", text) or not least <= float(text) <= most:
            raise InvalidQuery(f"{name} is a number from {least:g} to {most:g}, not {text[:40]!r}", field=name)
        return float(text)


def read_query(raw: bytes, known: Collection[str] | None) -> Query:
    """
    The parameters of a query string; `known` None takes any, and the first of those that stand twice.

    Raises:
        UnknownParameter
        InvalidQuery: a parameter stands twice, or is no UTF-8.
    """
    query = Query()
    if not raw:
        return query
    for pair in raw.split(b"&"):
        if not pair:
            continue
        name_bytes, _, value_bytes = pair.partition(b"=")
        try:
            name = unquote_to_bytes(name_bytes.replace(b"+", b" ")).decode()
            value = unquote_to_bytes(value_bytes.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            if known is None:
                continue
            raise InvalidQuery("the query string is not UTF-8") from None
        if known is not None and name not in known:
            raise UnknownParameter(name, tuple(known))
        if name in query and known is None:
            continue
        if name in query:
            raise InvalidQuery(f"the query parameter {name!r} stands twice", field=name)
        if value:
            query[name] = value
    return query


def without_parameter(raw: bytes, name: str) -> bytes:
    """A query string without the parameters of this name; what is left is as it was."""
    kept = []
    for pair in raw.split(b"&"):
        found = unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" "))
        if found != name.encode():
            kept.append(pair)
    return b"&".join(kept)
