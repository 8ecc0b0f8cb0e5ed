"""
A tool: something that a model may ask for by name, with an input that is checked before anything happens.

A tool declares what may go wrong around it: that a person has to permit it, that it must not run twice. Whoever
carries calls out (`agents/assistant/calls.py`) keeps to that; a tool's own function only does the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from holdfast.execution.context import Context

Input = TypeVar("Input")

# A tool that says nothing is given up after two minutes.
TIMEOUT_SECONDS = 120.0


class ToolError(Exception):
    """What went wrong with a call, for the model: the turn goes on. `code` is lower_snake and goes over the wire."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Ground(msgspec.Struct, frozen=True):
    """
    Where a call may read and write files, as absolute paths without links. The first root is the workspace of its task,
    where relative paths begin; there is none where no server keeps workspaces.
    """

    roots: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()  # of the server: neither read nor written, whoever is asked, but for the workspace
    kept: tuple[Path, ...] = ()  # of the server: not written, whoever is asked


NOWHERE: Final = Ground()


class Reason(msgspec.Struct, frozen=True):
    """Why a person is asked about an input: the rule, and what it comes down to where the input does not say so."""

    rule: str
    host: str | None = None  # for `egress`: an `always` is good for it alone
    target: str | None = None  # is shown with the question, and has to be the same when the tool runs


class Cut(msgspec.Struct, frozen=True):
    """A result that keeps to limits of its tool's own, so that nothing more is cut off."""

    value: Any
    truncated: bool = False  # something was left out


class Call(msgspec.Struct, frozen=True):
    """One call of a tool, as the tool's function sees it."""

    context: Context
    tool_call_id: str
    key: str  # names the call in its run for ever, also where a provider uses an id twice
    attached: list[dict[str, Any]] = []  # media blocks that the model gets beside the result of a tool that asks
    ground: Ground = NOWHERE
    passed: Reason | None = None  # what its guard finds in the input, and what was let through


class Tool(msgspec.Struct, Generic[Input], frozen=True, kw_only=True):
    """
    What a model may call.

    `input` is a struct; its fields and their `Meta` descriptions are the schema that the model sees. The function
    returns any JSON-like value, or raises ToolError.
    """

    name: str
    description: str
    input: type[Input]
    function: Callable[[Call, Input], Awaitable[Any]]
    requires_permission: bool = False  # a person is asked before every call
    rule: str = "requires_permission"  # why they are asked
    high_cost: bool = False  # a person is asked, too
    uses_files: bool = False  # its calls have a ground: the workspace of the task, and the roots
    says: Callable[[Input], str] | None = None  # an input in the question to a person; else it is shown as JSON
    guard: Callable[[Input, Ground], Reason | None] | None = None  # finds in an input why a person is to be asked
    at_most_once: bool = False  # after a crash in the middle a person is asked whether to run it again
    asks: bool = False  # it asks a person through the context, and so runs outside of a step
    timeout_seconds: float = TIMEOUT_SECONDS
    uses_model: bool = False  # its result is `{"output": …, "usage": …}`, and what it used counts for the turn

    @property
    def names(self) -> tuple[str, ...]:
        """Its own, and that of what it does under another name."""
        return (self.name,)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the input: an object, with nested types under `$defs`."""
        _, components = msgspec.json.schema_components([self.input], ref_template="#/$defs/{name}")
        schema = dict(components.pop(self.input.__name__))
        return {**schema, "$defs": components} if components else schema

    def read(self, arguments: dict[str, Any]) -> Input:
        """
        The arguments of a call as the tool's input.

        Raises:
            ToolError: they do not fit (`invalid_input`).
        """
        try:
            return msgspec.convert(arguments, self.input)
        except msgspec.ValidationError as exc:
            raise ToolError("invalid_input", str(exc)) from None


class Tools:
    """The tools that an assistant may use, by name."""

    def __init__(self, *tools: Tool[Any]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool[Any]) -> None:
        """
        Offer one more tool.

        Raises:
            ValueError: the name is taken.
        """
        if tool.name in self._tools:
            raise ValueError(f"there is a tool {tool.name!r} already")
        self._tools[tool.name] = tool

    def put(self, tool: Tool[Any]) -> None:
        """Offer this one, in place of the one that has its name."""
        self._tools[tool.name] = tool

    def get(self, name: str) -> Tool[Any] | None:
        return self._tools.get(name)

    def names(self) -> list[str]:
        return list(self._tools)

    def all(self) -> list[Tool[Any]]:
        return list(self._tools.values())
