"""
What the steps of one skill read and write.

Steps read `inputs`, `vars`, `outputs`, `working`, `output`, `extensions`, `frame` and `steps`, and write all but the
first, `frame` and `steps`. What is not there reads null. The graph of a skill makes sure that whoever reads something
comes after whoever writes it, so nothing here depends on time. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from holdfast.agents.skill.failures import InvalidConfigurationError
from holdfast.agents.skill.model import MergeStrategy
from holdfast.agents.skill.references import DEEP, FLAT, FRAME, INPUTS, ITEM, STEPS, Names, Reference, fill, walk
from holdfast.agents.skill.references import parse_target as _parse_target

Json = Any

_ABSENT: Any = object()

parse_target = lru_cache(4096)(_parse_target)


class Data:
    """All namespaces of one execution of a skill."""

    def __init__(self, names: Names, frame: Mapping[str, Json]) -> None:
        self.steps: dict[str, dict[str, Json]] = {}
        self.outputs: dict[str, Json] = {}
        self._names = names
        self._root: dict[str, Any] = {name: {} for name in (INPUTS, *FLAT, *DEEP)}
        self._root |= {"outputs": self.outputs, STEPS: self.steps, FRAME: dict(frame)}
        self._writers: dict[str, str] = {}
        self._before: dict[str, list[tuple[str, Json, str | None]]] = {}  # of steps under way, what they wrote over

    def take_inputs(self, inputs: dict[str, Json]) -> None:
        """The inputs, once they have their defaults."""
        self._root[INPUTS] = inputs

    def tell(self, step_id: str, status: str, attempt: int, output: Json) -> None:
        """What `steps.<id>` says from now on."""
        self.steps[step_id] = {"status": status, "attempt": attempt, "output": output}

    def read(self, reference: Reference) -> Json:
        """What stands at a place, or null."""
        key, rest = self._names.split(reference)
        return walk(self._root[reference.namespace].get(key), rest)

    def resolve(self, template: Json, items: Mapping[str, Json] | None = None) -> Json:
        """An `input` of a file with its references replaced; `items` are the names of a foreach step, or of a gate."""
        if items is None:
            return fill(template, self.read)
        return fill(template, self._reader(items), items)

    def _reader(self, items: Mapping[str, Json]) -> Callable[[Reference], Json]:
        def read(reference: Reference) -> Json:
            return walk(items, reference.path) if reference.namespace == ITEM else self.read(reference)

        return read

    def write(self, target: str, value: Json, strategy: MergeStrategy, step_id: str) -> None:
        """
        Write a value to a target, for a step.

        Raises:
            InvalidConfigurationError: another step wrote there and the strategy is `overwrite`, or the two values
                cannot be merged. Nothing was written.
        """
        writer = self._writers.get(target)
        if strategy == "overwrite" and writer not in (None, step_id):
            raise InvalidConfigurationError(f"'{target}' was written by step '{writer}' already")
        holder, key = self._place(target)
        if strategy == "append":
            value = _appended(target, holder.get(key), value)
        elif strategy == "deep_merge":
            value = _merged(target, holder.get(key), value)
        self._before.setdefault(step_id, []).append((target, holder.get(key, _ABSENT), writer))
        holder[key] = value
        self._writers[target] = step_id

    def keep(self, step_id: str) -> None:
        """What a step wrote stays: it is completed."""
        self._before.pop(step_id, None)

    def take_back(self, step_id: str) -> None:
        """What a step wrote is gone, as if it had never been: it is not completed."""
        for target, value, writer in reversed(self._before.pop(step_id, [])):
            holder, key = self._place(target)
            if value is _ABSENT:
                holder.pop(key, None)
            else:
                holder[key] = value
            if writer is None:
                self._writers.pop(target, None)
            else:
                self._writers[target] = writer

    def _place(self, target: str) -> tuple[dict[str, Json], str]:
        parsed = parse_target(target)
        holder = self._root[parsed.namespace]
        *path, key = parsed.path
        for part in path:
            inside = holder.get(part, {})
            if not isinstance(inside, dict):
                raise InvalidConfigurationError(f"'{target}' cannot be written: '{part}' in it is no mapping")
            # A copy: what is there may be the output of a step, which stays what it was.
            holder[part] = holder = dict(inside)
        return holder, key


def field_of(value: Json, path: str) -> Json:
    """
    What lies in what a call made at the end of a path, or null. At each mapping the longest key that is there is taken
    first, so that keys may have dots.
    """
    parts = path.split(".")
    place = 0
    while place < len(parts):
        if not isinstance(value, dict):
            return walk(value, parts[place:])
        for end in range(len(parts), place, -1):
            key = ".".join(parts[place:end])
            if key in value:
                value, place = value[key], end
                break
        else:
            return None
    return value


def _appended(target: str, before: Json, value: Json) -> list[Json]:
    if before is not None and not isinstance(before, list):
        raise InvalidConfigurationError(f"nothing can be appended to '{target}': it holds no list")
    return [*(before or ()), *(value if isinstance(value, list) else [value])]


def _merged(target: str, before: Json, value: Json) -> Json:
    if before is None or value is None:
        return before if value is None else value
    if not (isinstance(before, dict) and isinstance(value, dict)):
        raise InvalidConfigurationError(f"'{target}' cannot be merged: both values must be objects")
    return deep_merged(before, value)


def deep_merged(before: dict[str, Json], value: dict[str, Json]) -> dict[str, Json]:
    """Two mappings as one; where both have a key that is no mapping in both, the second's counts."""
    made = dict(before)
    for key, item in value.items():
        known = made.get(key)
        made[key] = deep_merged(known, item) if isinstance(known, dict) and isinstance(item, dict) else item
    return made
