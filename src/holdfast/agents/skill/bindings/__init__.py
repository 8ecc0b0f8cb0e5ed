"""
What fulfils a capability: one module for each kind of `bind`.

A binding makes one call within its time, and gives what came of it unchecked. It raises the errors of `failures`, and
knows nothing of records, attempts or gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from holdfast.agents.skill.bindings.builtin import BuiltinBinding, Builtins
from holdfast.agents.skill.bindings.python import PythonBinding
from holdfast.agents.skill.model import Binding, Builtin, Python

if TYPE_CHECKING:
    from holdfast.agents.skill.calling import Call


class Bound(Protocol):
    """One binding."""

    async def call(self, call: Call) -> Any:
        """Make the call; see the module."""
        ...


class Bindings:
    """The bindings of a process."""

    def __init__(self, *, builtins: Builtins) -> None:
        self._builtins = builtins
        self._known: dict[Binding, Bound] = {}

    def of(self, bind: Binding) -> Bound:
        """The binding that this part of a contract stands for."""
        if isinstance(bind, Python):
            return PythonBinding(bind)
        if isinstance(bind, Builtin):
            return BuiltinBinding(bind, self._builtins)
        raise NotImplementedError(type(bind).__name__)
