"""
Handlers by name, the call that a handler is given, and the answer that its outcome becomes. No I/O.

What leaves this process about a fault is decided here: the name of the tool and the stage, never an exception's text,
unless the handler raised a `ToolError` to say something to the model.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

OUTPUT_BYTES_MAX: Final = 256 * 1024
ERROR_MESSAGE_BYTES_MAX: Final = 4 * 1024

Handler = Callable[..., Any]
Stage = Literal["arguments", "execution", "timeout", "output"]
OnToolError = Callable[[Stage, "Call", Exception], str | Awaitable[str | None] | None]

_NAME: Final = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_-]{0,63}\.)?[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MARK: Final = "_holdfast_at_most_once"
_Decorated = TypeVar("_Decorated", bound=Handler)


class Misfit(ValueError):
    """The arguments of a call are no JSON object, or break the tool's definition. The text may be told to the run."""


class Call:
    """
    One call that a run asks for, as its handler sees it.

    `expires_at` is when the server answers in our place, if it does. `cancelled` becomes true when the output is of no
    use any more: code in a thread, which nobody can stop, looks at it now and then.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.call_id: str = request.get("call_id") or request["id"]
        self.name: str = request["name"]
        self.namespace: str = request.get("namespace") or ""
        self.arguments: str = request.get("arguments") or "{}"
        expires_at = request.get("expires_at")
        self.expires_at = datetime.fromisoformat(expires_at) if expires_at else None
        self._cancelled = threading.Event()

    def __repr__(self) -> str:
        return f"<Call {self.full_name} {self.call_id}>"

    @property
    def full_name(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Say that nobody needs the output. Called by the client."""
        self._cancelled.set()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is posted for a call; `output` of a fault is what the run is told about it."""

    call_id: str
    output: str
    errored: bool = False

    def result(self, claim: int | None = None) -> dict[str, Any]:
        """The entry of a post's `results`."""
        shown = {
            "call_id": self.call_id,
            "type": "function_call_output",
            "output": self.output,
            "errored": self.errored or None,
            "error_message": self.output if self.errored else None,
        }
        return shown if claim is None else {**shown, "claim": claim}


@dataclass(frozen=True, slots=True)
class Tool:
    """A handler with what is known about it."""

    name: str
    handler: Handler
    definition: Any = None
    is_async: bool = False
    takes_call: bool = False
    is_at_most_once: bool = False
    validator: Validator | None = field(default=None, compare=False)

    def arguments(self, call: Call) -> dict[str, Any]:
        """
        The arguments that the handler is called with.

        Raises:
            Misfit
        """
        try:
            arguments = json.loads(call.arguments)
        except (ValueError, RecursionError):
            raise Misfit("they are no JSON") from None
        if not isinstance(arguments, dict):
            raise Misfit("they are no JSON object")
        if self.validator is not None:
            _check(self.validator, arguments)
        return arguments


class ToolMap(Mapping[str, Tool]):
    """Tools by name, `tool` or `namespace.tool`. It never changes."""

    def __init__(self, tools: Mapping[str, Any] | None = None) -> None:
        """
        Raises:
            ValueError: a name is none, or a definition's schema is none.
            TypeError: something is no handler.
        """
        self._tools = {
            name: item if isinstance(item, Tool) else _tool(name, item) for name, item in (tools or {}).items()
        }

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Any:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def find(self, namespace: str, name: str) -> Tool | None:
        """The tool for a call: `namespace.name` comes before `name`."""
        return self._tools.get(f"{namespace}.{name}" if namespace else name) or self._tools.get(name)

    def find_named(self, full_name: str) -> Tool | None:
        """The same for one text, as in a start's `client_tools`."""
        namespace, _, name = full_name.rpartition(".")
        return self.find(namespace, name)


def at_most_once(handler: _Decorated) -> _Decorated:
    """
    Mark a handler whose effect must not happen twice.

    Every handler runs once for a call, as long as its process lives. If the process dies in it, nobody knows whether it
    had its effect: it runs again, or, with this mark, the call is answered with the error `outcome_unknown`.
    """
    setattr(handler, _MARK, True)
    return handler


def output_text(value: Any) -> str:
    """
    A handler's return value as the output of its call: text as it is, None as "", anything else as compact JSON.

    Raises:
        ValueError: it is no JSON, is not encodable as UTF-8, or has more than 256 KiB.
    """
    try:
        if value is None:
            text = ""
        elif isinstance(value, str):
            text = value
        else:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"a {type(value).__name__} that is no JSON: {exc}") from exc
    if size > OUTPUT_BYTES_MAX:
        raise ValueError(f"{size} bytes; at most {OUTPUT_BYTES_MAX} are taken")
    return text


def fault_text(call: Call, stage: Stage, error: Exception | None = None) -> str:
    """What the run is told about a fault."""
    text = f"tool {call.full_name} failed ({stage})"
    return f"{text}: {error}" if isinstance(error, Misfit) else text


def errored(call: Call, text: str) -> Answer:
    """The answer that tells of a fault. What is no Unicode, or over 4 KiB, is left out."""
    encoded = text.encode(errors="ignore")[:ERROR_MESSAGE_BYTES_MAX]
    return Answer(call.call_id, encoded.decode(errors="ignore"), errored=True)


def _tool(name: str, item: Any) -> Tool:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} names no tool: expected tool or namespace.tool, of letters, digits, _ and -")
    definition, handler = item if isinstance(item, tuple) else (None, item)
    if not callable(handler):
        raise TypeError(f"the tool {name!r}: expected a handler, or (definition or None, handler), found {item!r}")
    return Tool(
        name,
        handler,
        definition,
        is_async=inspect.iscoroutinefunction(handler)
        or inspect.iscoroutinefunction(getattr(handler, "__call__", None)),  # noqa: B004 — not whether it is callable, but how
        takes_call=_takes_call(handler),
        is_at_most_once=getattr(handler, _MARK, False),
        validator=_validator(name, definition),
    )


def _takes_call(handler: Handler) -> bool:
    try:
        return "call" in inspect.signature(handler).parameters
    except ValueError:  # a builtin without a signature
        return False


def _validator(name: str, definition: Any) -> Validator | None:
    schema = _schema(definition)
    if schema is None:
        return None
    # Only who brings definitions pays for loading it.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        raise ValueError(f"the definition of the tool {name!r} holds no JSON Schema: {exc.message}") from None
    registry: Registry[Any] = Registry()  # it fetches nothing
    return Draft202012Validator(schema, registry=registry)


def _schema(definition: Any) -> Any:
    """The schema in a definition of ours, in what the registry shows, or in a model provider's function tool."""
    if definition is not None and not isinstance(definition, Mapping):
        definition = definition.model_dump() if hasattr(definition, "model_dump") else vars(definition)
    if not definition:
        return None
    for name in ("schema_data", "function"):
        if isinstance(inner := definition.get(name), Mapping):
            return _schema(inner) if inner.get("type") == "function" or name == "function" else inner
    return definition.get("parameters")


def _check(validator: Validator, arguments: dict[str, Any]) -> None:
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        misfit = best_match(validator.iter_errors(arguments))
    except Unresolvable as exc:
        raise Misfit(f"the tool's definition refers to what is not in it: {exc}") from None
    if misfit is not None:
        where = ".".join(str(part) for part in misfit.absolute_path)
        raise Misfit(f"{where}: {misfit.message}" if where else misfit.message)
