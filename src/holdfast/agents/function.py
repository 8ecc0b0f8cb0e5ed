"""
Python functions as agents: async functions, async generators, and sync functions and generators in threads.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum, auto
from typing import Any, TypeVar, overload

from holdfast.execution.context import Context
from holdfast.execution.program import EMPTY_SPEC, AgentSpec, Result
from holdfast.execution.sync import SyncContext
from holdfast.execution.threads import run_in_thread, to_its_end
from holdfast.model.lifecycle import Restart

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_CONTEXT_TYPES = ("Context", "SyncContext", "StreamContext")


def check_name(name: str) -> str:
    """
    The name of an agent.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is no agent name: a letter or digit, then at most 127 letters, digits or . _ : -")
    return name


def check_id(id: str) -> str:
    """
    The declared id of an agent, in the one form in which ids are compared.

    Raises:
        ValueError: it is no UUID.
    """
    try:
        return str(uuid.UUID(id))
    except ValueError:
        raise ValueError(f"{id!r} is no agent id: a UUID such as {uuid.uuid4()}") from None


class FunctionAgent:
    """
    A Python function that can be run. Calling it calls the function, so that it stays testable by itself.

    The context goes to a parameter named `context` or annotated with a context class; the input to the first
    other parameter, if there is one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        restart: Restart,
        id: str | None,
        description: str | None,
        spec: AgentSpec = EMPTY_SPEC,
    ) -> None:
        self.function = function
        self.name = check_name(name)
        self.id = None if id is None else check_id(id)
        self.restart = restart
        self.description = description or inspect.getdoc(function)
        self.framework = "custom"
        self.spec = spec
        self._form = _form_of(function)
        self.is_sync = self._form is _Form.SYNC
        self._context_name, self._input_name = _parameters(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    async def execute(self, context: Context, input: Any) -> Any:
        """Call the function; a generator's pieces are tokens, and its output is their joined text."""
        if self._form is _Form.SYNC:
            return await self._execute_sync(context, input)
        made = self.function(**self._arguments(context, input))
        return await _drain(context, made) if self._form is _Form.PIECES else await made

    async def _execute_sync(self, context: Context, input: Any) -> Any:
        sync = SyncContext(context, asyncio.get_running_loop())
        arguments = self._arguments(sync, input)
        async with context.thread():
            work = run_in_thread(_call_sync, self.function, sync, arguments)
            return await _awaited(context, await to_its_end(work))

    def _arguments(self, context: Any, input: Any) -> dict[str, Any]:
        arguments = {self._context_name: context} if self._context_name else {}
        return {**arguments, self._input_name: input} if self._input_name else arguments


async def _awaited(context: Context, result: Any) -> Any:
    """What a plain function returned; where that is a coroutine or an async generator, what comes of it."""
    if inspect.isawaitable(result):
        return await result
    return await _drain(context, result) if isinstance(result, AsyncIterator) else result


def _call_sync(function: Callable[..., Any], context: SyncContext, arguments: dict[str, Any]) -> Any:
    result = function(**arguments)
    if not isinstance(result, Iterator):
        return result
    pieces = _Pieces()
    for piece in result:
        if pieces.is_text(piece):
            context.token(piece)
        if isinstance(piece, Result):
            break
    return pieces.output


async def _drain(context: Context, pieces: AsyncIterator[Any]) -> Any:
    """Emit a generator's pieces of text, as they come, and return its output."""
    taken = _Pieces()
    async for piece in pieces:
        if taken.is_text(piece):
            await context.token(piece)
        if isinstance(piece, Result):
            break
    return taken.output


class _Pieces:
    """What a generator yielded: texts are joined, unless it yields something else: the last of that is the output."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._other: list[Any] = []

    def is_text(self, piece: Any) -> bool:
        """Keep a piece, and tell whether it is a token."""
        if isinstance(piece, str):
            self._texts.append(piece)
            return True
        self._other = [piece]
        return False

    @property
    def output(self) -> Any:
        return self._other[0] if self._other else "".join(self._texts)


class _Form(Enum):
    """How a function gives its result."""

    SYNC = auto()
    COROUTINE = auto()
    PIECES = auto()


def _form_of(function: Callable[..., Any]) -> _Form:
    # Of a partial, the function in it; of an object that can be called, its method.
    while isinstance(function, functools.partial):
        function = function.func
    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004
        if inspect.iscoroutinefunction(candidate):
            return _Form.COROUTINE
        if inspect.isasyncgenfunction(candidate):
            return _Form.PIECES
    return _Form.SYNC


def _parameters(function: Callable[..., Any]) -> tuple[str | None, str | None]:
    """The names of the parameters that take the context and the input."""
    context_name, input_name = None, None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name == "context" or _is_context(parameter.annotation):
            context_name = context_name or parameter.name
        elif input_name is None:
            input_name = parameter.name
        elif parameter.default is parameter.empty:
            raise TypeError(
                f"{getattr(function, '__name__', 'the agent')} takes too much: an agent gets a context and one input, "
                f"and {parameter.name!r} has no default"
            )
    return context_name, input_name


def _is_context(annotation: Any) -> bool:
    """Whether an annotation names a context class, perhaps as optional, perhaps as text."""
    if isinstance(annotation, type):
        return annotation.__name__ in _CONTEXT_TYPES
    text = annotation if isinstance(annotation, str) else str(annotation)
    names = re.sub(r"\bOptional\[(.*)\]", r"\1", text.replace("typing.", "")).split("|")
    return any(name.strip(" '\"").rpartition(".")[2] in _CONTEXT_TYPES for name in names)


@overload
def agent(function: Callable[..., Any], /) -> FunctionAgent: ...


@overload
def agent(
    name: str | None = None,
    /,
    *,
    restart: Restart | str = Restart.WAITING,
    id: str | None = None,
    description: str | None = None,
    runs_max: int | None = None,
    priority: int = 0,
) -> Callable[[Callable[..., Any]], FunctionAgent]: ...


def agent(
    name: Callable[..., Any] | str | None = None,
    /,
    *,
    restart: Restart | str = Restart.WAITING,
    id: str | None = None,
    description: str | None = None,
    runs_max: int | None = None,
    priority: int = 0,
) -> FunctionAgent | Callable[[Callable[..., Any]], FunctionAgent]:
    """
    Make a function an agent: `@agent` or `@agent("invoice", restart="always")`.

    Args:
        name: default is the function's name.
        restart: waiting (default), always or never: what may happen when the process dies; see `Restart`.
        id: a UUID that stays when the name changes.
        description: default is the docstring.
        runs_max: how many of its runs execute at once, over all processes of the store; further ones are queued.
            Default is HOLDFAST_AGENT_RUNS_MAX.
        priority: of its runs in the queue, among those of their tenant. Higher goes first.

    Raises:
        ValueError: `runs_max` is below 1, or `id` is no UUID.
    """
    if runs_max is not None and runs_max < 1:
        raise ValueError(f"runs_max is {runs_max}: an agent of which nothing may execute can never answer")
    spec = AgentSpec(runs_max=runs_max, priority=priority)

    def decorate(function: Callable[..., Any]) -> FunctionAgent:
        given = name if isinstance(name, str) else function.__name__
        return FunctionAgent(function, given, restart=Restart(restart), id=id, description=description, spec=spec)

    return decorate(name) if callable(name) else decorate
