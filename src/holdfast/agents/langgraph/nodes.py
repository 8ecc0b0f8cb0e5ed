"""
A node as a step: run once, then found in the record.

A result that is JSON is recorded as it is; any other (messages, commands, objects) as LangGraph's own serializer writes
it. One that it cannot write is not recorded, and its node is run again when the graph is executed again. What a node
emits belongs to its step. A node that raises is not recorded, so that the graph's own retry policy holds; one that
asks (`interrupt`) is run again from its start when the answer is there, as everywhere in LangGraph.
"""

from __future__ import annotations

import asyncio
import base64
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from holdfast.agents.langgraph.voice import emit_written
from holdfast.errors import HoldfastError, InvalidOutput
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.context import Context, in_step
from holdfast.execution.exits import no_exit
from holdfast.execution.steps import OpenStep, raise_recorded
from holdfast.execution.threads import run_in_thread, to_its_end

_TYPED: Final = "__langgraph__"
_serializer: Final = JsonPlusSerializer()


class Occurrences:
    """Names each execution of a node for ever: `node`, in a loop `node#2`; of several at once, `node.0`, `node.1`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._seen: dict[tuple[str, Any], int] = {}
        self.opened: dict[str, OpenStep] = {}

    def key(self, name: str, metadata: Mapping[str, Any]) -> str:
        place = (name, metadata.get("langgraph_step"))
        if place not in self._seen:
            self._counts[name] += 1
            self._seen[place] = self._counts[name]
        count = self._seen[place]
        key = name if count == 1 else f"{name}#{count}"
        path: Sequence[Any] = metadata.get("langgraph_path") or ()
        # A task of a `Send` has its number in its path; there may be many of one node at once.
        return f"{key}.{path[1]}" if len(path) > 1 and isinstance(path[1], int) else key


class RecordedNode(Runnable[Any, Any]):
    """Stands for what a node runs."""

    def __init__(self, context: Context, name: str, bound: Runnable[Any, Any], occurrences: Occurrences) -> None:
        self.name = name
        self._context = context
        self._bound = bound
        self._occurrences = occurrences

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        raise NotImplementedError("a recorded node is run by the event loop")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """What the node returned, now or at an earlier execution."""
        context, config = self._context, config or {}
        key = self._occurrences.key(str(self.name), config.get("metadata") or {})
        recorded = context.recorded(key)
        if recorded is not None:
            return _loaded(raise_recorded(recorded))
        opened = self._occurrences.opened.get(key)
        if opened is None:
            opened = await context.open_step(key, str(self.name), False, True, True)
            self._occurrences.opened[key] = opened
        else:
            await context.try_again(opened)  # by its retry policy, or with the answer that it asked for
        try:
            with in_step(key):
                result = await self._run(input, _with_writer(config, context), kwargs)
            facts = {"input_keys": _keys(input)}
            record = _dumped(result)
            if record is None:
                await context.end_unrecorded(opened, _shown(result), facts)
            else:
                await context.complete_step(opened, record, True, shown=_shown(result), facts=facts)
            return result
        except GraphBubbleUp:
            raise  # it asks, or leaves by a command: that is no failure
        except Exception as exc:
            if not isinstance(exc, HoldfastError) or exc.code == InvalidOutput.code:
                context.tell_failed(opened, exc)
            raise
        finally:
            context.execution.step_ended(opened)

    async def _run(self, input: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
        with set_config_context(config) as variables:
            if not _is_sync(self._bound):
                return await asyncio.create_task(_invoked(self._bound, input, config, kwargs), context=variables)
            async with self._context.thread():
                call: Callable[[], Any] = functools.partial(self._bound.invoke, input, config, **kwargs)
                return await to_its_end(variables.run(run_in_thread, call))


async def _invoked(bound: Any, input: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
    with no_exit:
        return await bound.ainvoke(input, config, **kwargs)


def _is_sync(bound: Any) -> bool:
    """A plain function: it gets a thread of its own, not one of the few that all share."""
    run_async = getattr(bound, "afunc", None)
    in_executor = isinstance(run_async, functools.partial) and run_async.func.__name__ == "run_in_executor"
    return getattr(bound, "func", None) is not None and (run_async is None or in_executor)


def _with_writer(config: RunnableConfig, context: Context) -> RunnableConfig:
    """The node's configuration, with a stream writer that emits here and now."""
    values = dict(config.get("configurable") or {})
    for name, value in values.items():
        if isinstance(value, Runtime):
            values[name] = value.override(stream_writer=functools.partial(emit_written, context))
    return {**config, "configurable": values}


# Results


def _dumped(result: Any) -> Any:
    """What is recorded of a result; None: it cannot be."""
    try:
        data = encode_result(result, what="the node's result")
        if decode_result(data) == result and not (isinstance(result, dict) and _TYPED in result):
            return decode_result(data)
    except (InvalidOutput, RecursionError, ValueError):
        pass
    try:
        kind, data = _serializer.dumps_typed(result)
    except Exception:  # noqa: BLE001  whatever a state holds may refuse in its own way
        return None
    return {_TYPED: kind, "data": base64.b64encode(data).decode()}


def _loaded(record: Any) -> Any:
    if isinstance(record, dict) and _TYPED in record:
        return _serializer.loads_typed((record[_TYPED], base64.b64decode(record["data"])))
    return record


def _shown(result: Any) -> Any:
    """The result as its event shows it; what is no JSON is not shown."""
    try:
        return decode_result(encode_result(result, what="the node's result"))
    except InvalidOutput:
        return None


def _keys(input: Any) -> list[str]:
    if isinstance(input, Mapping):
        return [str(name) for name in input]
    return list(getattr(type(input), "model_fields", None) or getattr(type(input), "__dataclass_fields__", None) or ())
