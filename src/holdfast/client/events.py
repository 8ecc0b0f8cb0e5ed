"""What the events of all APIs have in common. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

E = TypeVar("E")


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    An event of a stream, read-only. `event.text` is `event["text"]`, with the values as the wire has them. A field that
    the server left out is None, and not `in` the event.
    """

    def __getitem__(self, name: str) -> Any:
        fields = self.to_dict()
        return None if name not in fields and name in self.__struct_fields__ else fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self.to_dict()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def get(self, name: str, default: Any = None) -> Any:
        """A field by its name, or the default if the server left it out."""
        return self.to_dict().get(name, default)

    def to_dict(self) -> dict[str, Any]:
        """The event as a plain object, `type` included."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


class TypedEvent(Event, frozen=True, kw_only=True, tag_field="type"):
    """An event of a type that is known here."""

    @property
    def type(self) -> str:
        """Its name on the wire."""
        return str(self.__struct_config__.tag)


class EventDecoder(Generic[E]):
    """
    Data lines to events of a tagged union; what fits none of its members becomes `unknown(fields)`.

    A known type whose fields are not as expected is unknown too: nothing that the server sent is lost, or stops a stream.
    """

    def __init__(self, union: Any, unknown: Callable[[dict[str, Any]], E]) -> None:
        self._decode: Callable[[str], E] = msgspec.json.Decoder(union).decode
        self._fields = msgspec.json.Decoder(dict[str, Any]).decode
        self._unknown = unknown

    def decode(self, data: str) -> E:
        """
        The event of a frame's data.

        Raises:
            msgspec.DecodeError: it is no JSON object.
        """
        try:
            return self._decode(data)
        except msgspec.ValidationError:
            return self._unknown(self._fields(data))
