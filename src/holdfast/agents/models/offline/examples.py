"""
A plain value that fits a JSON Schema, so that answers in a shape can be tried without a real model. No I/O.

Of choices the first is taken, of numbers the least, and texts are the answer's own. What a schema asks for beyond that
(patterns, formats, conditions) is not looked at, so the value may not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# A schema may lead back to itself, in many places at once, and may ask for a million of something.
DEPTH_MAX: Final = 12
VALUES_MAX: Final = 1_000
ITEMS_MAX: Final = 10
CHARACTERS_MAX: Final = 10_000

_CHOICES: Final = ("anyOf", "oneOf", "allOf")


def example_of(schema: Any, text: str) -> Any:
    """The value; `text` stands where the schema asks for one."""
    return _Example(schema, text).value(schema, 0)


class _Example:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text
        self._left = VALUES_MAX

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > DEPTH_MAX or self._left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for name in _CHOICES:
            if schema.get(name):
                first = schema[name][0]
                rest = {key: part for key, part in schema.items() if key != name}
                return self.value({**rest, **first} if isinstance(first, Mapping) else rest, depth + 1)
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]), depth + 1)
        return self._of_kind(schema, depth)

    def _of_kind(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "object":
            return {name: self.value(part, depth + 1) for name, part in schema.get("properties", {}).items()}
        if kind == "array":
            count = min(int(schema.get("minItems", 1)), ITEMS_MAX)
            return [self.value(schema.get("items"), depth + 1) for _ in range(count)]
        if kind in ("integer", "number"):
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        if kind == "string":
            least = min(int(schema.get("minLength", 0)), CHARACTERS_MAX)
            return self._text.ljust(least, ".")[: schema.get("maxLength")]
        return True if kind == "boolean" else None

    def _referred(self, reference: str) -> Any:
        """What a reference inside the schema leads to; None where it leads nowhere."""
        found = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        return found
