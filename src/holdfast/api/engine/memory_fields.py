"""
Items of the memory as callers send them: bodies and lines of an import become drafts. No I/O.

What does not fit is refused with the path of the first field that does not, before anything has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require
from holdfast.api.engine.skill_fields import scripts, skill_name
from holdfast.api.engine.timestamps import parse_time
from holdfast.memory import Draft

TEXT_MAX: Final = 100_000
NAME_MAX: Final = 1_000
VALUE_BYTES_MAX: Final = 256 * 1024

FEEDBACK_TYPES: Final = ("positive", "negative", "correction", "preference", "rating")


def time(value: Any, path: str) -> int:
    """An ISO 8601 time with an offset, as microseconds."""
    found = parse_time(value) if isinstance(value, str) else None
    if found is None:
        refuse(path, "must be an ISO 8601 time with an offset, such as 2026-11-20T23:59:19Z")
    return found


def number(least: float, most: float) -> Check:
    """A number within bounds."""

    def check(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            refuse(path, f"must be a number from {least:g} to {most:g}")
        return value

    return check


def rating(value: Any, path: str) -> int:
    """A whole number from 1 to 5."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 5:
        refuse(path, "must be a whole number from 1 to 5")
    return value


def json_value(value: Any, path: str) -> Any:
    """Any JSON value that is not too long; U+0000 is removed from its texts."""
    kept = _without_nul(value)
    size = len(msgspec.json.encode(kept))
    if size > VALUE_BYTES_MAX:
        refuse(path, f"may have {VALUE_BYTES_MAX:,} bytes as JSON; it has {size:,}")
    return kept


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _json_object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(path, "must be an object")
    kept: dict[str, Any] = json_value(value, path)
    return kept


_NAME: Final = fields.text(1, NAME_MAX)
_LABEL: Final = fields.text(0, NAME_MAX)

_COMMON: Final[Mapping[str, Check]] = {
    "id": fields.task_id,
    "source": fields.text(1, NAME_MAX),
    "confidence": number(0, 1),
}
_IMPORTED: Final[Mapping[str, Check]] = {"created_at": time, "updated_at": time}

# Own fields of each store, with what stands for one that is left out; the others are required.
_KNOWLEDGE: Final[Mapping[str, Check]] = {
    "subject": _LABEL,
    "content": fields.text(1, TEXT_MAX),
    "type": fields.text(1, 64),
    "valid_from": time,
    "valid_until": time,
}
_EPISODE: Final[Mapping[str, Check]] = {
    "key": _LABEL,
    "description": fields.text(1, TEXT_MAX),
    "value": json_value,
    "occurred_at": time,
    "task_id": fields.task_id,
}
_NODE: Final[Mapping[str, Check]] = {
    "kind": fields.one_of(("node", "edge")),
    "name": _NAME,
    "type": _LABEL,
    "attributes": _json_object,
}
_EDGE: Final[Mapping[str, Check]] = {
    "kind": fields.one_of(("node", "edge")),
    "from": fields.task_id,
    "to": fields.task_id,
    "relation": _NAME,
}
_FEEDBACK: Final[Mapping[str, Check]] = {
    "task_id": fields.task_id,
    "turn_id": fields.identifier,
    "message_id": fields.identifier,
    "feedback_type": fields.one_of(FEEDBACK_TYPES),
    "comment": fields.text(1, TEXT_MAX),
    "correction": fields.text(1, TEXT_MAX),
    "score": rating,
    "metadata": fields.json_object(16 * 1024),
}
_SKILL: Final[Mapping[str, Check]] = {
    "name": skill_name,
    "description": fields.text(0, TEXT_MAX),
    "category": _LABEL,
    "prompt_template": fields.text(0, TEXT_MAX),
    "scripts": scripts,
    "capabilities": fields.array(_NAME, 100),
}

_SOUL: Final[Mapping[str, Check]] = {
    "identity": fields.text(0, TEXT_MAX),
    "values": fields.array(fields.text(0, 10_000), 100),
    "patterns": fields.array(fields.text(0, 10_000), 100),
}


def written_item(store: str, body: Any, now: int, path: str = "") -> Draft:
    """The item in the body of a write; `path` is where it stands, if that is not the whole body."""
    return _draft(store, body, now, path, {})


def imported_item(store: str, value: Any, now: int, path: str) -> Draft:
    """An item of an export; its times come with it."""
    return _draft(store, value, now, path, _IMPORTED)


def soul_fields(body: Any, path: str = "", *, extra: Mapping[str, Check] | None = None) -> dict[str, Any]:
    """Fields of a soul that are sent."""
    return read_object(body, {**_SOUL, **(extra or {})}, path)


def _draft(store: str, value: Any, now: int, path: str, more: Mapping[str, Check]) -> Draft:
    own, needed = _fields_of(store, value, path)
    common = _COMMON if store in ("knowledge", "episodes", "social") or more else {}
    found = read_object(value, {**own, **common, **more}, path)
    require(found, *needed, path=path)
    item_id = found.pop("id", None)
    if store == "skills":
        item_id = found["name"]
    draft = Draft(
        store=store,
        item_id=item_id,
        source=found.pop("source", None),
        confidence=float(found.pop("confidence", 1.0)),
        created_at=found.pop("created_at", None),
        updated_at=found.pop("updated_at", None),
        fields={},
    )
    return msgspec.structs.replace(draft, fields=_completed(store, found, now, path))


def _fields_of(store: str, value: Any, path: str) -> tuple[Mapping[str, Check], tuple[str, ...]]:
    if store == "knowledge":
        return _KNOWLEDGE, ("content",)
    if store == "episodes":
        return _EPISODE, ("description",)
    if store == "feedback":
        return _FEEDBACK, ("task_id", "feedback_type")
    if store == "skills":
        return _SKILL, ("name",)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "edge":
        return _EDGE, ("from", "to", "relation")
    if kind == "node":
        return _NODE, ("name",)
    if isinstance(value, dict):
        at = f"{path}.kind" if path else "kind"
        if kind is None:
            fields.refuse(at, "is required: node or edge")
        fields.one_of(("node", "edge"))(kind, at)
    return _NODE, ("kind", "name")


def _completed(store: str, found: dict[str, Any], now: int, path: str) -> dict[str, Any]:
    """The fields with defaults in the place of what was left out, in their order."""
    if store == "knowledge":
        kept = {"subject": "", "type": "fact", "valid_from": None, "valid_until": None, **found}
        if None not in (kept["valid_from"], kept["valid_until"]) and kept["valid_until"] <= kept["valid_from"]:
            refuse(f"{path}.valid_until" if path else "valid_until", "must be later than valid_from")
        order = tuple(_KNOWLEDGE)
    elif store == "episodes":
        kept = {"key": "", "value": None, "occurred_at": now, "task_id": None, **found}
        order = tuple(_EPISODE)
    elif store == "feedback":
        kept, order = dict.fromkeys(_FEEDBACK) | found, tuple(_FEEDBACK)
    elif store == "skills":
        empty = {"description": "", "category": "", "prompt_template": "", "scripts": {}, "capabilities": []}
        kept, order = {**empty, **found}, tuple(_SKILL)
    elif found["kind"] == "node":
        kept, order = {"type": "", "attributes": {}, **found}, tuple(_NODE)
    else:
        kept, order = found, tuple(_EDGE)
    return {name: kept[name] for name in order}
