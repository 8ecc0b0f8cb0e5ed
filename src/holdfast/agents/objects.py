"""
Any object with `invoke`, and maybe `stream`, as an agent: runnables of LangChain, graphs of other libraries.

An object that can stream is streamed, since its pieces are what readers see; then it is not invoked as well. Async
methods (`astream`, `ainvoke`) come before sync ones, which run in a thread. What its pieces mean is read from them:

    text, or a message with text      a token
    {node: update}                    a node is over: one `step`; the update is merged into the state
    (mode, piece)                     the piece of a stream mode of LangGraph: messages, updates, values, custom
    anything else                     the state as it is then

The output is the final state, else the joined text. Pieces that can be added to each other (as LangChain's are) are.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from holdfast.agents.function import FunctionAgent
from holdfast.execution.context import Context
from holdfast.execution.program import EMPTY_SPEC, AgentSpec
from holdfast.execution.sync import SyncContext
from holdfast.model.lifecycle import Restart

_MODES: Final = ("updates", "values", "messages", "custom")
_MISSING: Any = object()

# A canonical or custom event: its type and its fields.
Emitted = tuple[str, dict[str, Any]]


def is_invocable(value: Any) -> bool:
    """Whether it is such an object. Looked up on the class: modules hold proxies that invent every attribute."""
    return not isinstance(value, type) and any(
        callable(getattr(type(value), name, None)) for name in ("invoke", "ainvoke")
    )


def object_agent(
    value: Any,
    name: str,
    *,
    spec: AgentSpec = EMPTY_SPEC,
    restart: Restart = Restart.WAITING,
    framework: str = "custom",
) -> FunctionAgent:
    """
    The object as an agent.

    Raises:
        ValueError: the name is none.
    """
    run = _run_async if _method(value, "astream") or not _has_sync(value) else _run_sync
    made = FunctionAgent(
        _bound(run, value),
        name,
        restart=restart,
        id=None,
        description=spec.description or _own_text(value),
        spec=spec,
    )
    made.framework = framework
    return made


def _has_sync(value: Any) -> bool:
    return _method(value, "stream") is not None or (
        _method(value, "invoke") is not None and not inspect.iscoroutinefunction(_method(value, "invoke"))
    )


def _bound(run: Callable[..., Any], value: Any) -> Callable[..., Any]:
    if run is _run_async:

        async def invoke(context: Context, input: Any) -> Any:
            return await _run_async(value, context, input)

        return invoke

    def invoke_in_thread(context: SyncContext, input: Any) -> Any:
        return _run_sync(value, context, input)

    return invoke_in_thread


async def _run_async(value: Any, context: Context, input: Any) -> Any:
    stream = _method(value, "astream")
    if stream is None:
        invoke = _method(value, "ainvoke") or _method(value, "invoke")
        return await _called(invoke, context, input)
    pieces = _called(stream, context, input)
    if inspect.isawaitable(pieces):
        pieces = await pieces
    taken = Pieces(input)
    async for piece in _items(pieces):
        for name, fields in taken.take(piece):
            context.put_any(name, fields)
        await asyncio.sleep(0)
    return taken.output


def _run_sync(value: Any, context: SyncContext, input: Any) -> Any:
    stream = _method(value, "stream")
    if stream is None:
        return _called(_method(value, "invoke"), context, input)
    pieces, taken = _called(stream, context, input), Pieces(input)
    for piece in pieces:
        for name, fields in taken.take(piece):
            context.put_any(name, fields)
    return taken.output


async def _items(pieces: Any) -> AsyncIterator[Any]:
    if isinstance(pieces, Iterator):
        for piece in pieces:
            yield piece
    else:
        async for piece in pieces:
            yield piece


class Pieces:
    """What an object's stream came to so far."""

    def __init__(self, input: Any) -> None:
        self._texts: list[str] = []
        self._state: Any = _MISSING
        self._merged: dict[str, Any] = dict(input) if isinstance(input, Mapping) else {}

    def take(self, piece: Any) -> list[Emitted]:
        """Take note of a piece, and say what it emits."""
        if isinstance(piece, tuple) and len(piece) == 2 and piece[0] in _MODES:
            return self._take_mode(*piece)
        text = text_of_piece(piece)
        if text is not None:
            self._texts.append(text)
            return [("token", {"content": text})] if text else []
        if _is_update(piece):
            return self._take_update(piece)
        self._state = piece if self._state is _MISSING else _added(self._state, piece)
        return []

    @property
    def output(self) -> Any:
        return "".join(self._texts) if self._state is _MISSING else self._state

    def _take_mode(self, mode: str, piece: Any) -> list[Emitted]:
        if mode == "values":
            self._state = piece
            return []
        if mode == "updates":
            state = self._state
            emitted = self._take_update(piece) if isinstance(piece, Mapping) else []
            self._state = state  # `values` tells it
            return emitted
        if mode == "messages":
            text = text_of_piece(piece[0] if isinstance(piece, tuple) and piece else piece)
            return [("token", {"content": text})] if text else []
        return [written(piece)]

    def _take_update(self, piece: Mapping[str, Any]) -> list[Emitted]:
        emitted: list[Emitted] = []
        for node, update in piece.items():
            if isinstance(update, Mapping):
                self._merged |= update
            keys = list(update) if isinstance(update, Mapping) else []
            emitted.append(("step_completed", {"step": str(node), "output": update, "output_keys": keys}))
        self._state = self._merged
        return emitted


def text_of_piece(piece: Any) -> str | None:
    """The text of a text, or of a message in pieces or whole; None: it is neither."""
    if isinstance(piece, str):
        return piece
    content = getattr(piece, "content", None)
    if isinstance(piece, Mapping) or content is None:
        return None
    if isinstance(content, list):
        return "".join(str(block.get("text") or "") for block in content if isinstance(block, Mapping))
    return content if isinstance(content, str) else None


def written(value: Any) -> Emitted:
    """The event of what a node writes: text is a token, an object with a `type` the event of that name."""
    if isinstance(value, str):
        return "token", {"content": value}
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        fields = dict(value)
        return fields.pop("type"), fields
    return "custom", {"data": value}


def _is_update(piece: Any) -> bool:
    return isinstance(piece, Mapping) and bool(piece) and all(isinstance(item, Mapping) for item in piece.values())


def _added(first: Any, second: Any) -> Any:
    if type(first) in (dict, list, tuple, int, float, bool):
        return second  # a state replaces the one before; only a library's own pieces are made to be added
    try:
        return first + second
    except TypeError:
        return second


def _method(value: Any, name: str) -> Callable[..., Any] | None:
    return getattr(value, name) if callable(getattr(type(value), name, None)) else None


def _called(method: Any, context: Any, input: Any) -> Any:
    """Call it with the input; with the context and the stream modes too, if it names such parameters."""
    try:
        parameters: Any = inspect.signature(method).parameters
    except (TypeError, ValueError):
        parameters = {}
    options: dict[str, Any] = {"context": context} if "context" in parameters else {}
    if "stream_mode" in parameters:
        options["stream_mode"] = list(_MODES)
    return functools.partial(method, input, **options)()


def _own_text(value: Any) -> str | None:
    """A description that the object has for itself; that of its class says nothing about it."""
    text = value.__dict__.get("description") if hasattr(value, "__dict__") else None
    return text if isinstance(text, str) else None
