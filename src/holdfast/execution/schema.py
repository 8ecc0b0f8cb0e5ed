"""
Declared shapes of inputs and outputs: JSON Schema 2020-12, with `$ref` inside the document only. No I/O.

A schema is checked as a whole when it is loaded, references and defaults included, so that a defect of it is its
author's at the start and never a caller's later. `format` is not asserted and no type is coerced.

Keys that a schema does not name are *undeclared*: in objects whose schema names properties (`properties` or
`patternProperties`) and says nothing of others (`additionalProperties`, `unevaluatedProperties` as a schema). Where
several schemas apply to an object (`allOf`, `anyOf`, `$ref` …), what one of them names is declared.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError
    from referencing import Resource

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# More than these help nobody to mend a call, and each may quote a part of it.
MISFITS_MAX: Final = 100
MESSAGE_CHARACTERS_MAX: Final = 500

_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_CONDITIONALS: Final = ("if", "then", "else")
_PROBES: Final[tuple[Any, ...]] = ({}, [], "", 0, True, None)


class InvalidSchema(HoldfastError):
    """A declared schema is none, or refers to what is not in it. `pointer` is the place in the schema."""

    code = "invalid_schema"

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message, pointer=pointer)
        self.pointer = pointer


class Misfit(msgspec.Struct, frozen=True):
    """One place where a value does not fit: a JSON pointer into it, and why."""

    pointer: str
    message: str

    @property
    def text(self) -> str:
        """For people: `query: 5 is not of type 'string'`."""
        path = self.pointer[1:].replace("/", ".").replace("~1", "/").replace("~0", "~")
        return f"{path}: {self.message}" if path else self.message


class Schema:
    """A loaded schema. Its methods only read, and may be called from any thread."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidSchema: it is no JSON Schema 2020-12, or a `$ref` or a `default` of it cannot hold.
        """
        self._document = dict(document)
        self._validator, self._resolver = _load(self._document)
        self._defaults = self._checked_defaults()

    def misfits(self, value: Any) -> list[Misfit]:
        """Where a value does not fit, in the order of the schema; empty if it fits. At most 100."""
        found = itertools.islice(self._validator.iter_errors(value), MISFITS_MAX)
        return [Misfit(pointer_of(error.absolute_path), _message(error)) for error in found]

    def with_defaults(self, value: Any) -> Any:
        """The value with the declared defaults of absent top-level properties; the value itself is not changed."""
        if not isinstance(value, dict) or not self._defaults:
            return value
        return value | {name: default for name, default in self._defaults.items() if name not in value}

    def undeclared(self, value: Any) -> list[tuple[str | int, ...]]:
        """The paths of the keys that the schema does not name, outermost first; nothing inside of these."""
        return list(_undeclared(value, [self._document], self._follow, ()))

    def _checked_defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {}
        for schema in _unfolded([self._document], self._follow):
            for name, declared in _mapping(schema.get("properties")).items():
                if not isinstance(declared, Mapping) or "default" not in declared:
                    continue
                for error in self._validator.evolve(schema=declared).iter_errors(declared["default"]):
                    pointer = f"{pointer_of(('properties', name))}/default"
                    raise InvalidSchema(f"the default of {name!r} does not fit: {_message(error)}", pointer)
                defaults[name] = declared["default"]
        return defaults

    def _follow(self, reference: str) -> Any:
        from referencing.exceptions import Unresolvable

        try:
            return self._resolver.lookup(reference).contents
        except Unresolvable:
            return None  # relative to a nested $id: it holds for the check, and names no keys


@functools.lru_cache(maxsize=256)
def _loaded(encoded: bytes) -> Schema:
    return Schema(msgspec.json.decode(encoded))


def schema_of(document: Mapping[str, Any]) -> Schema:
    """
    The loaded schema of a document; the same document is loaded once.

    Raises:
        InvalidSchema
    """
    return _loaded(msgspec.json.encode(document, order="sorted"))


def without(value: Any, paths: Iterable[Sequence[str | int]]) -> Any:
    """The value without the keys at these paths; what is not touched is shared with it."""
    for path in paths:
        value = _removed(value, path)
    return value


def shown_path(path: Sequence[str | int]) -> str:
    """A path for people: `items.0.price`."""
    return ".".join(str(part) for part in path)


# Loading


def _load(document: dict[str, Any]) -> tuple[Draft202012Validator, Any]:
    """A validator that fetches nothing, of a schema that is known to be one, and what finds its references."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    dialect = document.get("$schema", DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise InvalidSchema(f"$schema is {dialect!r}; this server reads {DIALECT}", "/$schema")
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        raise InvalidSchema(f"it is no JSON Schema: {_message(exc)}", pointer_of(exc.absolute_path)) from None
    resource = DRAFT202012.create_resource(document)
    registry: Registry[Any] = Registry().with_resource(resource.id() or "", resource)
    _check_references(resource, registry)
    validator = Draft202012Validator(document, registry=registry)
    try:
        for probe in _PROBES:
            validator.is_valid(probe)
    except RecursionError:
        raise InvalidSchema("a $ref leads back to itself without end") from None
    return validator, registry.resolver_with_root(resource)


def _check_references(root: Resource[Any], registry: Any) -> None:
    from referencing.exceptions import Unresolvable

    waiting = [(root, registry.resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        if isinstance(contents, Mapping):
            for keyword in ("$ref", "$dynamicRef"):
                if isinstance(contents.get(keyword), str):
                    try:
                        resolver.lookup(contents[keyword])
                    except Unresolvable:
                        raise InvalidSchema(
                            f"{keyword} {contents[keyword]!r} is not in the document; refer to a part of it, as #/$defs/…"
                        ) from None
            if isinstance(contents.get("pattern"), str):
                _check_pattern(contents["pattern"])
            for pattern in _mapping(contents.get("patternProperties")):
                _check_pattern(pattern)
        waiting += [(item, resolver.in_subresource(item)) for item in resource.subresources()]


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as exc:
        raise InvalidSchema(f"{pattern!r} is no regular expression: {exc}") from None


# Places


def pointer_of(path: Iterable[str | int]) -> str:
    """A path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _message(error: ValidationError | Any) -> str:
    text: str = error.message
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


# Undeclared keys


def _undeclared(value: Any, schemas: Sequence[Any], follow: Any, path: tuple[str | int, ...]) -> Iterator[Any]:
    """`schemas` all apply to the value, or may."""
    applied = list(_unfolded(schemas, follow))
    if isinstance(value, dict):
        for name, item in value.items():
            inside = [schema for one in applied for schema in _of_property(one, name)]
            if not inside and _names_properties(applied):
                yield (*path, name)
            elif inside:
                yield from _undeclared(item, inside, follow, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            inside = [schema for one in applied for schema in _of_item(one, index)]
            if inside:
                yield from _undeclared(item, inside, follow, (*path, index))


def _unfolded(schemas: Iterable[Any], follow: Any) -> Iterator[Mapping[str, Any]]:
    """These schemas, and all that they apply to the same value, each once."""
    seen: list[Any] = []
    waiting = list(schemas)
    while waiting:
        schema = waiting.pop(0)
        if not isinstance(schema, Mapping) or any(schema is other for other in seen):
            continue
        seen.append(schema)
        yield schema
        references = (schema.get(keyword) for keyword in ("$ref", "$dynamicRef"))
        waiting += [follow(reference) for reference in references if isinstance(reference, str)]
        for keyword in _BRANCHES:
            waiting += schema.get(keyword) or []
        waiting += [schema[keyword] for keyword in _CONDITIONALS if keyword in schema]
        waiting += _mapping(schema.get("dependentSchemas")).values()


def _of_property(schema: Mapping[str, Any], name: str) -> Iterator[Any]:
    properties = _mapping(schema.get("properties"))
    is_named = name in properties
    if is_named:
        yield properties[name]
    for pattern, item in _mapping(schema.get("patternProperties")).items():
        if re.search(pattern, name):
            is_named = True
            yield item
    if not is_named:
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if isinstance(schema.get(keyword), Mapping):
                yield schema[keyword]


def _names_properties(schemas: Iterable[Mapping[str, Any]]) -> bool:
    return any("properties" in schema or "patternProperties" in schema for schema in schemas)


def _of_item(schema: Mapping[str, Any], index: int) -> Iterator[Any]:
    prefix = schema.get("prefixItems") or []
    if index < len(prefix):
        yield prefix[index]
    elif "items" in schema:
        yield schema["items"]


def _removed(value: Any, path: Sequence[str | int]) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        assert isinstance(head, int)
        return [_removed(item, rest) if index == head else item for index, item in enumerate(value)]
    if rest:
        return {name: _removed(item, rest) if name == head else item for name, item in value.items()}
    return {name: item for name, item in value.items() if name != head}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


__all__ = ["InvalidSchema", "Misfit", "Schema", "pointer_of", "schema_of", "shown_path", "without"]
