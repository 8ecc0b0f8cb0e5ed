"""
What the items of each store are made of: from checked fields to a row, and from a row to what readers see. No I/O.

    knowledge   subject, content, type (fact, rule, preference, correction, or one's own), valid_from, valid_until
    episodes    key, description, value, occurred_at, task_id
    social      kind node: name, type, attributes; kind edge: from, to, relation
    feedback    of a turn; it is no memory, but kept and carried over with it
    skills      custom prompt skills, likewise; their id is their name
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from holdfast.memory.words import folded
from holdfast.model.encoding import format_time
from holdfast.store.memory import MemoryItem

STORES: Final = ("episodes", "knowledge", "social")
EXPORTED: Final = (*STORES, "skills", "feedback")

HALF_LIFE_MICROSECONDS: Final = 180 * 24 * 3600 * 1_000_000

# What a search looks at; of anything that is not a text, the texts in it.
_SEARCHED: Final[Mapping[str, tuple[str, ...]]] = {
    "knowledge": ("subject", "content"),
    "episodes": ("key", "description", "value"),
    "social": ("name", "type", "attributes", "relation"),
}
_TIMES: Final[Mapping[str, tuple[str, ...]]] = {"episodes": ("occurred_at",)}
_VALIDITY: Final = ("valid_from", "valid_until")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be remembered, checked: `fields` are the store's own, times in microseconds."""

    store: str
    fields: Mapping[str, Any]
    item_id: str | None = None  # None: a new one
    source: str | None = None
    confidence: float = 1.0
    created_at: int | None = None  # None: now
    updated_at: int | None = None

    @property
    def searched(self) -> str:
        """The texts that it is found by, as one."""
        return "\n".join(text for name in _SEARCHED.get(self.store, ()) for text in _texts(self.fields.get(name)))


def item_of(draft: Draft, tenant: str, *, new_id: str, source: str, now: int) -> MemoryItem:
    """A draft as a row."""
    fields = dict(draft.fields)
    valid_from, valid_until = (fields.pop(name, None) for name in _VALIDITY)
    is_edge = draft.store == "social" and fields.get("kind") == "edge"
    return MemoryItem(
        tenant=tenant,
        store=draft.store,
        item_id=draft.item_id or new_id,
        fields=msgspec.json.encode(fields),
        words=folded(draft.searched),
        source=draft.source or source,
        confidence=draft.confidence,
        created_at=now if draft.created_at is None else draft.created_at,
        updated_at=now if draft.updated_at is None else draft.updated_at,
        valid_from=valid_from,
        valid_until=valid_until,
        from_id=fields["from"] if is_edge else None,
        to_id=fields["to"] if is_edge else None,
        task_id=fields.get("task_id"),
    )


def shown_item(item: MemoryItem, now: int | None, *, score: float | None = None) -> dict[str, Any]:
    """An item as readers see it; `now` None: as it is kept, its confidence not faded, as an export needs it."""
    fields: dict[str, Any] = msgspec.json.decode(item.fields)
    for name in _TIMES.get(item.store, ()):
        fields[name] = _time(fields.get(name))
    shown: dict[str, Any] = {"id": item.item_id}
    if score is not None:
        shown["score"] = score
    shown |= fields
    if item.store == "knowledge":
        shown |= {"valid_from": _time(item.valid_from), "valid_until": _time(item.valid_until)}
    return shown | {
        "confidence": item.confidence if now is None else faded(item.confidence, now - item.updated_at),
        "source": item.source,
        "created_at": format_time(item.created_at),
        "updated_at": format_time(item.updated_at),
    }


def faded(confidence: float, age: int) -> float:
    """What a confidence has become after so many microseconds: it halves in 180 days. To four decimals."""
    halvings: float = max(age, 0) / HALF_LIFE_MICROSECONDS
    return round(confidence / float(2**halvings), 4)


def _time(value: int | None) -> str | None:
    return None if value is None else format_time(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
