"""
References, targets and paths: how the steps of a skill name data. No I/O.

A reference is a namespace and a path. The first key of a path may hold dots itself: of the keys that are declared (inputs)
or written (targets) the longest one that fits is taken, and only then are keys and list indices walked. Which keys there are
is known from the file alone (`Names`), so that what a path means never depends on what has happened so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from holdfast.agents.skill.model import Json, Skill

INPUTS: Final = "inputs"
FRAME: Final = "frame"
STEPS: Final = "steps"
ITEM: Final = "item"  # of a foreach: its first path segment is the name after `as` or `index_as`
PRODUCED: Final = "produced"  # what the call of this step gave, in the keys of `output`

FLAT: Final = ("vars", "outputs")  # the rest of a target is one key
DEEP: Final = ("working", "output", "extensions")  # a target is a path, mappings are made
WRITTEN: Final = (*FLAT, *DEEP)
NAMESPACES: Final = (INPUTS, *WRITTEN, FRAME, STEPS)
_COPIED: Final = (INPUTS, *FLAT)
_OF_STEPS: Final = ("status", "attempt", "output")


class BadReference(ValueError):
    """A text that begins like a reference and is none, or a target that cannot be written."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    A place that can be read.

    `namespace` is one of NAMESPACES, ITEM or PRODUCED; `path` is never empty, and each of its segments is a text without dots.
    """

    namespace: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        rest = ".".join(self.path)
        return rest if self.namespace in (ITEM, PRODUCED) else f"{self.namespace}.{rest}"


@dataclass(frozen=True, slots=True)
class Target:
    """A place that a step writes: one key of `vars` and `outputs` (dots belong to it), a path elsewhere."""

    namespace: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.namespace}.{'.'.join(self.path)}"


class Names:
    """The keys that a skill declares and writes, without which a path cannot be split."""

    __slots__ = ("_keys", "inputs", "targets")

    def __init__(self, inputs: Iterable[str] = (), targets: Iterable[Target] = ()) -> None:
        self.inputs = frozenset(inputs)
        self.targets = frozenset(targets)
        self._keys = {name: frozenset(t.path[0] for t in self.targets if t.namespace == name) for name in FLAT}
        self._keys[INPUTS] = self.inputs

    def split(self, reference: Reference) -> tuple[str, tuple[str, ...]]:
        """The key and what is walked inside its value; without such a key the first segment is the key."""
        return split(reference.path, self._keys.get(reference.namespace, frozenset()))


def names_of(skill: Skill) -> Names:
    """The names of a skill that was checked."""
    return Names(
        skill.inputs,
        (parse_target(target) for step in skill.steps for target in step.output.values()),
    )


def split(path: tuple[str, ...], keys: AbstractSet[str]) -> tuple[str, tuple[str, ...]]:
    """The longest of `keys` with which the path begins, and the rest of the path; else its first segment."""
    for length in range(len(path), 1, -1):
        key = ".".join(path[:length])
        if key in keys:
            return key, path[length:]
    return path[0], path[1:]


def parse_reference(text: str, items: Iterable[str] = ()) -> Reference | None:
    """
    What a text in a step's `input` refers to; None if it is a literal.

    Args:
        items: in a foreach step the names after `as` and `index_as`.

    Raises:
        BadReference: it begins like a reference and its path cannot be read.
    """
    head, dot, rest = text.partition(".")
    if head in items:
        return Reference(ITEM, (head, *_segments(text, rest))) if dot else Reference(ITEM, (head,))
    if not dot or head not in NAMESPACES:
        return None
    return reference_of(head, _segments(text, rest))


def reference_of(namespace: str, path: tuple[str, ...]) -> Reference:
    """
    A reference of its parts.

    Raises:
        BadReference: there is no such namespace, or a path into `steps` names nothing that a step has.
    """
    found = Reference(namespace, path)
    if namespace not in NAMESPACES:
        raise BadReference(
            f"{str(found)!r}: expected one of {', '.join(NAMESPACES)} before the first dot, found {namespace!r}"
        )
    if namespace != STEPS:
        return found
    if len(path) < 2 or path[1] not in _OF_STEPS or (len(path) > 2 and path[1] != "output"):
        raise BadReference(
            f"{str(found)!r}: expected steps.<id>.status, steps.<id>.attempt or steps.<id>.output.<path>"
        )
    return found


def parse_target(text: str) -> Target:
    """
    Where a step writes.

    Raises:
        BadReference: it is no target.
    """
    head, dot, rest = text.partition(".")
    if not dot or head not in WRITTEN:
        expected = ", ".join(f"{name}.x" for name in WRITTEN)
        raise BadReference(f"{text!r}: expected a target, which is one of {expected}")
    path = _segments(text, rest)
    return Target(head, (rest,)) if head in FLAT else Target(head, path)


def parse_field(text: str) -> Reference:
    """
    What a key of a step's `output` takes: a field of what was produced, or a copy of `vars.x`, `inputs.x`, `outputs.x`.

    Raises:
        BadReference: its path cannot be read.
    """
    head, dot, rest = text.partition(".")
    if dot and head in _COPIED:
        return Reference(head, _segments(text, rest))
    return Reference(PRODUCED, _segments(text, text))


def walk(value: Json, path: Iterable[str]) -> Json:
    """What lies at a path inside a value: keys of mappings, indices of lists; None for what is missing."""
    for segment in path:
        if isinstance(value, dict):
            value = value.get(segment)
        elif isinstance(value, list) and segment.isascii() and segment.isdigit():
            # Longer than any list: no index, and not a number that takes long to read.
            value = value[int(segment)] if len(segment) < 10 and int(segment) < len(value) else None
        else:
            return None
    return value


def literal_of(value: Json) -> tuple[Json] | None:
    """The value inside `{$literal: …}`, as a tuple of one, or None if it is no such mapping."""
    return (value["$literal"],) if isinstance(value, dict) and value.keys() == {"$literal"} else None


def fill(value: Json, read: Callable[[Reference], Json], items: Iterable[str] = ()) -> Json:
    """
    A step's input with its references replaced by what they read, also inside lists and mappings.

    Raises:
        BadReference: in a value that was not checked.
    """
    if isinstance(value, str):
        found = parse_reference(value, items)
        return value if found is None else read(found)
    if isinstance(value, list):
        return [fill(item, read, items) for item in value]
    if isinstance(value, dict):
        literal = literal_of(value)
        return literal[0] if literal else {key: fill(item, read, items) for key, item in value.items()}
    return value


def texts_in(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """All texts of an input that may be references, each with its place; what `$literal` holds is left out."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts_in(item, (*path, index))
    elif isinstance(value, dict) and literal_of(value) is None:
        for key, item in value.items():
            yield from texts_in(item, (*path, key))


def _segments(text: str, rest: str) -> tuple[str, ...]:
    segments = tuple(rest.split("."))
    if not all(segments):
        raise BadReference(f"{text!r}: expected a name or an index after each dot")
    return segments
