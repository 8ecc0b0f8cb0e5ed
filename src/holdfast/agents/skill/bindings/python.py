"""
A Python function, sync or async, called with the inputs by name. What it raises is upstream_failure with its text.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.agents.skill.calling import Call, in_thread, within
from holdfast.agents.skill.failures import InvalidConfigurationError, SkillError
from holdfast.execution.context import in_step
from holdfast.execution.exits import no_exit
from holdfast.execution.steps import NotRetryable

if TYPE_CHECKING:
    from holdfast.agents.skill.model import Python


class PythonBinding:
    """`module:function`."""

    def __init__(self, bind: Python) -> None:
        self._bind = bind

    async def call(self, call: Call) -> Any:
        target = _known.get(self._bind.function)
        if target is None:
            target = await asyncio.to_thread(_load, call, self._bind.function)
        return await call_function(call, target)


class Target(msgspec.Struct, frozen=True):
    """A function, and how it is called."""

    function: Callable[..., Any]
    is_async: bool
    takes_context: bool


@lru_cache(4096)
def target_of(function: Callable[..., Any]) -> Target:
    """How a function is called."""
    parameters = inspect.signature(function).parameters
    call = getattr(type(function), "__call__", None)  # noqa: B004  an object with an async __call__
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    return Target(function, is_async, "context" in parameters)


_known: dict[str, Target] = {}


def _load(call: Call, name: str) -> Target:
    module, _, attribute = name.partition(":")
    try:
        importlib.invalidate_caches()  # the file may be newer than what the import system has seen
        function = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
        target = target_of(function)
    except Exception as exc:
        # Whatever the module raises while it is loaded: the contract names something that is not there.
        raise InvalidConfigurationError(
            f"Step '{call.step.shown}': {name} cannot be loaded: {type(exc).__name__}: {exc}"
        ) from exc
    _known[name] = target
    return target


async def call_function(call: Call, target: Target) -> Any:
    """
    Call a function with the inputs of a call.

    Raises:
        UpstreamFailureError: it raised.
        StepTimeoutError
    """
    arguments = dict(call.inputs)
    if target.takes_context:
        arguments["context"] = AsyncCallContext(call) if target.is_async else CallContext(call)
    try:
        with in_step(call.step.key):
            if target.is_async:
                return await within(call, _awaited(target.function(**arguments)))
            result = await in_thread(call, lambda: called(target, arguments))
            return await within(call, _awaited(result)) if inspect.iscoroutine(result) else result
    except SkillError:
        raise
    except Exception as exc:
        # Whatever the author's code raises is its failure.
        raise raised(call, exc) from exc


def raised(call: Call, exc: Exception) -> SkillError:
    """What it means for a call that its function raised this."""
    return call.failed(text_of(exc), is_final=isinstance(exc, NotRetryable))


def called(target: Target, arguments: dict[str, Any]) -> Any:
    """Call a plain function, right here; that it wants to end the process is its failure."""
    with no_exit:
        return target.function(**arguments)


async def _awaited(work: Awaitable[Any]) -> Any:
    with no_exit:
        return await work


def text_of(exc: BaseException) -> str:
    """The text of an exception; of one without text, its type."""
    return str(exc) or type(exc).__name__


class CallContext:
    """What a sync function finds in its parameter `context`. When its call is over, its methods raise."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this call, and for no other."""
        return self._call.idempotency_key

    @property
    def cancelled(self) -> bool:
        """The call is over for whoever made it: it was too slow, or its run ends."""
        return self._call.is_over or self._call.step.work.execution.is_ending

    def progress(self, progress: float, message: str = "") -> None:
        """Tell how far it is: 0 to 1."""
        self._call.progress(progress, message)
        self._call.step.work.room_in_thread()

    def token(self, content: str) -> None:
        """Tell a piece of text; readers see it where the step has `stream: true`."""
        self._call.token(content)
        self._call.step.work.room_in_thread()


class AsyncCallContext(CallContext):
    """The same for an async function."""

    async def progress(self, progress: float, message: str = "") -> None:  # type: ignore[override]
        """Tell how far it is: 0 to 1."""
        self._call.progress(progress, message)
        await self._call.step.work.breathe()

    async def token(self, content: str) -> None:  # type: ignore[override]
        """Tell a piece of text; readers see it where the step has `stream: true`."""
        self._call.token(content)
        await self._call.step.work.breathe()
