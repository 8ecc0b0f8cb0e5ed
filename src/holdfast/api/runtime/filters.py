"""
What a reader asked to see of a run, and what the server lets it see. No I/O.

A filter hides events and changes none: what is left keeps its sequence and its bytes, so every cursor stays good.
Readers of the same filter share their frames, as those without one do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Final

from holdfast.api.http.errors import InvalidQuery
from holdfast.model.selection import PRESETS, Selection, UnknownType

PARAMETERS: Final = ("types", "preset")


class EventFilter:
    """
    The types that one reader gets.

    `key` is equal for filters that hide the same, None for the one that hides nothing. `admits` tells whether an event
    of this canonical type is shown.
    """

    __slots__ = ("admits", "key", "names")

    def __init__(self, selection: Selection | None) -> None:
        self.names: tuple[str, ...] | None = None if selection is None else selection.names
        self.key: Hashable = None if selection is None else selection.key
        self.admits: Callable[[str], bool] = _everything if selection is None else selection.admits()

    @classmethod
    def parse(cls, query: Mapping[str, str], allowed: tuple[str, ...] | None) -> EventFilter:
        """
        The filter of `types=` or `preset=`, narrowed to what the setting `events_allowed` names (None: all).

        Raises:
            InvalidQuery: both are given, or one names what there is not.
        """
        wanted = _wanted(query)
        limit = None if allowed is None else Selection.allowed(allowed)
        if wanted is None or limit is None:
            return cls(wanted if limit is None else limit)
        return cls(wanted.narrowed(limit))

    @property
    def comment(self) -> bytes:
        """The line of the opening block that names what is sent; empty where nothing is hidden by anybody."""
        if self.names is None:
            return b""
        return f": filter {','.join(self.names)}".rstrip().encode("ascii") + b"\n"


def _everything(_: str) -> bool:
    return True


EVERYTHING: Final = EventFilter(None)


def _wanted(query: Mapping[str, str]) -> Selection | None:
    types, preset = query.get("types"), query.get("preset")
    if types is not None and preset is not None:
        raise InvalidQuery("types and preset exclude each other", field="preset")
    if preset is not None:
        if preset not in PRESETS:
            raise InvalidQuery(f"preset is one of {', '.join(PRESETS)}, not {preset[:40]!r}", field="preset")
        return Selection(PRESETS[preset])
    if types is None:
        return None
    try:
        return Selection.of(types.split(","))
    except UnknownType as exc:
        raise InvalidQuery(str(exc), field="types") from None
