"""What the server answers, as read-only objects: fields by attribute or by key, those of newer servers included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias


class Record(Mapping[str, Any]):
    """A JSON object. `record.status` is `record["status"]`; objects inside are records too. `to_dict` copies it."""

    __slots__ = ("_fields",)
    _values: ClassVar[frozenset[str]] = frozenset()  # fields that hold somebody's JSON value: they are given as it is

    def __init__(self, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_fields", fields)

    def __getitem__(self, name: str) -> Any:
        value = self._fields[name]
        return value if name in self._values else _shown(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        # Private names never come from the wire; without this, copying a record would ask for its own fields for ever.
        if not name.startswith("_") and name in self._fields:
            return self[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(self._fields)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only: it is what the server answered")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.to_dict(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()!r})"

    def to_dict(self) -> dict[str, Any]:
        """The plain object, for `json.dumps`."""
        return {name: _plain(value) for name, value in self._fields.items()}


Records: TypeAlias = list[Record]


def _shown(value: Any) -> Any:
    if isinstance(value, Record):
        return value
    if isinstance(value, Mapping):
        return Record(value)
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
