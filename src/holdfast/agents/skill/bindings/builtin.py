"""
A function of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.agents.skill.bindings.python import call_function, called, raised, target_of
from holdfast.agents.skill.calling import Call

if TYPE_CHECKING:
    from holdfast.agents.skill.model import Builtin

Builtins = Mapping[str, Callable[..., Any]]

# Below this much text a sync function of ours takes less time than a thread.
INLINE_CHARACTERS_MAX = 16 * 1024


class BuiltinBinding:
    """A function by its name."""

    def __init__(self, bind: Builtin, builtins: Builtins) -> None:
        self._target = target_of(builtins[bind.name])

    async def call(self, call: Call) -> Any:
        if self._target.is_async or self._target.takes_context or _size(call.inputs) > INLINE_CHARACTERS_MAX:
            return await call_function(call, self._target)
        try:
            return called(self._target, call.inputs)
        except Exception as exc:
            # What it makes of strange inputs is its failure, as it is for functions of authors.
            raise raised(call, exc) from exc


def _size(value: Any) -> int:
    """About how many characters of text are in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return len(value) + sum(map(_size, value))
    return 1
