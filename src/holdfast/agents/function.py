"""
Python functions as agents: async functions, async generators, and sync functions and generators in threads.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, overload

from holdfast.execution.context import Context
from holdfast.execution.program import EMPTY_SPEC, AgentSpec, Result
from holdfast.execution.sync import SyncContext
from holdfast.execution.threads import run_in_thread
from holdfast.model.lifecycle import Restart

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_CONTEXT_TYPES = ("Context", "SyncContext", "StreamContext")


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
        if not _NAME.match(name):
            raise ValueError(
                f"{name!r} is no agent name: a letter or digit, then at most 127 letters, digits or . _ : -"
            )
        self.function = function
        self.name = name
        self.id = id
        self.restart = restart
        self.description = description or inspect.getdoc(function)
        self.framework = "custom"
        self.spec = spec
        self.is_sync = not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function))
        self._context_name, self._input_name = _parameters(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    async def execute(self, context: Context, input: Any) -> Any:
        """Call the function; a generator's pieces are tokens, and its output is their joined text."""
        if inspect.iscoroutinefunction(self.function):
            return await self.function(**self._arguments(context, input))
        if inspect.isasyncgenfunction(self.function):
            return await _drain(context, self.function(**self._arguments(context, input)))
        return await self._execute_sync(context, input)

    async def _execute_sync(self, context: Context, input: Any) -> Any:
        sync = SyncContext(context, asyncio.get_running_loop())
        arguments = self._arguments(sync, input)
        async with context.thread():
            work = run_in_thread(_call_sync, self.function, sync, arguments)
            while not work.done():
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    # The thread is told by its next call of the context. If it never calls, the run ends without it.
                    if not work.done():
                        await asyncio.wait([work])
                    raise
            return work.result()

    def _arguments(self, context: Any, input: Any) -> dict[str, Any]:
        arguments = {self._context_name: context} if self._context_name else {}
        return {**arguments, self._input_name: input} if self._input_name else arguments


def _call_sync(function: Callable[..., Any], context: SyncContext, arguments: dict[str, Any]) -> Any:
    result = function(**arguments)
    if isinstance(result, Iterator):
        pieces: list[str] = []
        for piece in result:
            context.token(piece)
            pieces.append(piece)
        return "".join(pieces)
    return result


async def _drain(context: Context, pieces: AsyncIterator[Any]) -> Any:
    """Emit a generator's pieces; a last one that is no text is the output."""
    texts: list[str] = []
    async for piece in pieces:
        if isinstance(piece, Result):
            return piece
        await context.token(piece)
        texts.append(piece)
    return "".join(texts)


def _parameters(function: Callable[..., Any]) -> tuple[str | None, str | None]:
    """The names of the parameters that take the context and the input."""
    context_name, input_name = None, None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        if parameter.name == "context" or text.rpartition(".")[2] in _CONTEXT_TYPES:
            context_name = context_name or parameter.name
        elif input_name is None:
            input_name = parameter.name
        elif parameter.default is parameter.empty:
            raise TypeError(
                f"{getattr(function, '__name__', 'the agent')} takes too much: an agent gets a context and one input, "
                f"and {parameter.name!r} has no default"
            )
    return context_name, input_name


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
        ValueError: `runs_max` is below 1.
    """
    if runs_max is not None and runs_max < 1:
        raise ValueError(f"runs_max is {runs_max}: an agent of which nothing may execute can never answer")
    spec = AgentSpec(runs_max=runs_max, priority=priority)

    def decorate(function: Callable[..., Any]) -> FunctionAgent:
        given = name if isinstance(name, str) else function.__name__
        return FunctionAgent(function, given, restart=Restart(restart), id=id, description=description, spec=spec)

    return decorate(name) if callable(name) else decorate
