"""
What the steps of one skill read and write.

Steps read `inputs`, `vars`, `outputs`, `working`, `output`, `extensions`, `frame` and `steps`, and write all but the
first, `frame` and `steps`. What is not there reads null. The graph of a skill makes sure that whoever reads something
comes after whoever writes it, so nothing here depends on time. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.agents.skill.failures import InvalidConfigurationError
from holdfast.agents.skill.model import MergeStrategy

Json = Any

# Of these a target names one key, dots and all; of the others a path, whose mappings are made.
_FLAT: Final = ("vars", "outputs")
_DEEP: Final = ("working", "output", "extensions")
NAMESPACES: Final = ("inputs", *_FLAT, *_DEEP, "frame", "steps")


class Data:
    """All namespaces of one execution of a skill."""

    def __init__(self, inputs: Mapping[str, Json], frame: Mapping[str, Json]) -> None:
        self.steps: dict[str, dict[str, Json]] = {}
        self.outputs: dict[str, Json] = {}
        self._root: dict[str, Any] = {
            "inputs": dict(inputs),
            "vars": {},
            "outputs": self.outputs,
            "working": {},
            "output": {},
            "extensions": {},
            "frame": dict(frame),
            "steps": self.steps,
        }
        self._writers: dict[str, str] = {}

    def take_inputs(self, inputs: dict[str, Json]) -> None:
        """The inputs, once they have their defaults."""
        self._root["inputs"] = inputs

    def tell(self, step_id: str, status: str, attempt: int, output: Json) -> None:
        """What `steps.<id>` says from now on."""
        self.steps[step_id] = {"status": status, "attempt": attempt, "output": output}

    def read(self, path: str, names: Mapping[str, Json] | None = None) -> Json:
        """
        What stands at a path such as `vars.a.0.b`, or null. `names` are further first parts: those of a foreach step.
        """
        parts = path.split(".")
        if names is not None and parts[0] in names:
            return walk(names[parts[0]], parts[1:])
        return walk(self._root.get(parts[0]), parts[1:])

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
        holder[key] = value
        self._writers[target] = step_id

    def _place(self, target: str) -> tuple[dict[str, Json], str]:
        namespace, _, rest = target.partition(".")
        holder = self._root[namespace]
        if namespace in _FLAT:
            return holder, rest
        *path, key = rest.split(".")
        for part in path:
            holder = holder.setdefault(part, {})
            if not isinstance(holder, dict):
                raise InvalidConfigurationError(f"'{target}' cannot be written: '{part}' in it is no mapping")
        return holder, key


def walk(value: Json, parts: Sequence[str]) -> Json:
    """
    What lies in a value at the end of a path, or null. At each mapping the longest key that is there is taken first, so
    that keys may have dots.
    """
    place = 0
    while place < len(parts):
        if isinstance(value, dict):
            for end in range(len(parts), place, -1):
                key = ".".join(parts[place:end]) if end - place > 1 else parts[place]
                if key in value:
                    value, place = value[key], end
                    break
            else:
                return None
        elif isinstance(value, list) and parts[place].isdecimal() and int(parts[place]) < len(value):
            value, place = value[int(parts[place])], place + 1
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


def resolve(template: Json, data: Data, names: Mapping[str, Json] | None = None) -> Json:
    """
    An `input` of a file with its references replaced. A string is one if it begins with a namespace and a dot, or with a
    name of a foreach step, alone or before a dot. `{$literal: …}` stands for what is in it.
    """
    if isinstance(template, str):
        return data.read(template, names) if is_reference(template, names) else template
    if isinstance(template, list):
        return [resolve(item, data, names) for item in template]
    if isinstance(template, dict):
        if len(template) == 1 and "$literal" in template:
            return template["$literal"]
        return {key: resolve(item, data, names) for key, item in template.items()}
    return template


def is_reference(text: str, names: Mapping[str, Json] | None = None) -> bool:
    """Whether a string of an `input` is a reference."""
    first, dot, rest = text.partition(".")
    if names is not None and first in names:
        return not dot or bool(rest)
    return bool(dot and rest) and first in NAMESPACES
