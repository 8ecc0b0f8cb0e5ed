"""
Which types of events somebody wants, or may see: lists like `token,step,custom:score`, and presets. No I/O.

A list is written with the types as readers see them, so a completed step is `step`. What a run's course hangs on is
always selected: a reader must see how a run began, what it waits for, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from holdfast.model.encoding import CANONICAL_TYPES, is_type_name

ALWAYS: Final = frozenset({"started", "complete", "error", "cancelled", "restarted", "interrupt", "interrupt_resolved"})
"""Selected by every list."""

# In the order of the documentation; `heartbeat` is written by agents, and is none of their own events.
_SHOWN: Final = (
    "token",
    "thinking",
    "block_started",
    "block_stopped",
    "tool_call",
    "tool_result",
    "step_started",
    "step",
    "step_skipped",
    "step_degraded",
    "step_failed",
    "progress",
    "checkpoint",
    "usage",
    "memory",
    "compaction",
    "heartbeat",
)
PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    "minimal": (),
    "chat": ("token",),
    "debug": _SHOWN,
    "all": (*_SHOWN, "custom"),
}
_CANONICAL: Final = {"step": "step_completed"}
_LISTABLE: Final = frozenset({*_SHOWN, *ALWAYS})
_CUSTOM: Final = "custom:"


class UnknownType(ValueError):
    """A list names a type that there is not. The text says which are."""


class Selection(msgspec.Struct, frozen=True):
    """`names` is the list as it was written; equal selections have equal `key`s, however they were written."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Selection:
        """
        The selection that a list makes; a name that stands twice counts once.

        Raises:
            UnknownType
        """
        kept = tuple(dict.fromkeys(names))
        for name in kept:
            if name not in _LISTABLE and name != "custom" and not _is_custom(name):
                raise UnknownType(
                    f"there is no type {name[:80]!r}; a list has {', '.join(_SHOWN)}, custom, custom:<name>, "
                    f"and {', '.join(sorted(ALWAYS))}, which are always sent"
                )
        return cls(kept)

    @classmethod
    def allowed(cls, names: tuple[str, ...]) -> Selection:
        """
        The same of a setting, where one preset may stand for its list.

        Raises:
            UnknownType
        """
        if len(names) == 1 and names[0] in PRESETS:
            return cls(PRESETS[names[0]])
        return cls.of(names)

    def narrowed(self, allowed: Selection) -> Selection:
        """What of this selection another one allows."""
        kept = []
        for name in self.names:
            if name in ALWAYS or name in allowed.names or (_is_custom(name) and "custom" in allowed.names):
                kept.append(name)
            elif name == "custom":
                kept += [other for other in allowed.names if _is_custom(other)]
        return Selection(tuple(dict.fromkeys(kept)))

    @property
    def key(self) -> frozenset[str]:
        """What tells this selection from another one."""
        names = frozenset(self.names) - ALWAYS
        return frozenset(name for name in names if not _is_custom(name)) if "custom" in names else names

    def admits(self) -> Callable[[str], bool]:
        """Whether an event of this (canonical) type is selected."""
        types = ALWAYS | {_CANONICAL.get(name, name.removeprefix(_CUSTOM)) for name in self.names if name != "custom"}
        if "custom" not in self.names:
            return types.__contains__
        known = CANONICAL_TYPES | {"heartbeat"}
        return lambda name: name in types or name not in known


def _is_custom(name: str) -> bool:
    own = name.removeprefix(_CUSTOM)
    return own != name and is_type_name(own) and own not in CANONICAL_TYPES and own != "heartbeat"
