"""
One run of a graph: its nodes wrapped, its model's text and its writers' events emitted where they arise.

The graph itself is not changed: a copy of it runs, whose nodes are `RecordedNode`s. LangGraph decides which node is next
from what the nodes return, so the same recorded results lead it the same way. Nothing is kept by LangGraph across
executions, unless the author compiled the graph with a checkpointer: then the run begins where the thread stood when it
began for the first time, whatever a crashed execution left behind there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import START
from langgraph.pregel import Pregel
from langgraph.types import Command

from holdfast.agents.langgraph.nodes import Occurrences, RecordedNode
from holdfast.agents.langgraph.voice import Voice
from holdfast.execution.codec import encode_result
from holdfast.execution.context import Context

_MESSAGES: Final = "messages"
# Where a person's words may stand in an input, in this order.
_MESSAGE_FIELDS: Final = ("message", "query", "input", "prompt")
_INTERRUPT: Final = "__interrupt__"


async def run_graph(graph: Pregel[Any, Any, Any, Any], context: Context, input: Any) -> Any:
    """The final state of the graph. A node's `interrupt(…)` is a question to a person, as `context.ask` is."""
    saver = graph.checkpointer if isinstance(graph.checkpointer, BaseCheckpointSaver) else None
    copy = _recording(graph, context, saver or InMemorySaver())
    config: RunnableConfig = {
        "callbacks": [Voice(context)],
        "configurable": {"thread_id": context.thread_id or context.run_id},
    }
    begin = config if saver is None else await _from_its_beginning(saver, context, config)
    state = await copy.ainvoke(_state_of(graph, input), begin)
    while isinstance(state, Mapping) and state.get(_INTERRUPT):
        answers = {item.id: await _ask(context, item.value) for item in state[_INTERRUPT]}
        state = await copy.ainvoke(Command(resume=answers), config)
    return state


def _recording(
    graph: Pregel[Any, Any, Any, Any], context: Context, saver: BaseCheckpointSaver[Any]
) -> Pregel[Any, Any, Any, Any]:
    occurrences = Occurrences()
    nodes = {
        name: node if name == START else node.copy({"bound": RecordedNode(context, name, node.bound, occurrences)})
        for name, node in graph.nodes.items()
    }
    return graph.copy({"nodes": nodes, "checkpointer": saver})


async def _from_its_beginning(
    saver: BaseCheckpointSaver[Any], context: Context, config: RunnableConfig
) -> RunnableConfig:
    """Where the author's checkpointer stood when the run began for the first time."""
    is_again = bool(context.execution.record.steps)

    async def newest() -> str | None:
        found = await saver.aget_tuple(config)
        return None if found is None else found.config["configurable"]["checkpoint_id"]

    checkpoint_id = await context.step("thread_state", newest, side_effects=False, visible=False)
    if checkpoint_id is not None:
        return {**config, "configurable": {**config["configurable"], "checkpoint_id": checkpoint_id}}
    if is_again:
        # The thread was empty: what is there was left by an execution of this run that is done again.
        await saver.adelete_thread(config["configurable"]["thread_id"])
    return config


def _state_of(graph: Pregel[Any, Any, Any, Any], input: Any) -> Any:
    """The input as the graph takes it: a message, where the graph has messages and the input none of its keys."""
    channels = graph.input_channels
    if _MESSAGES not in graph.channels:
        return input
    if isinstance(input, dict) and any(name in graph.channels or name in channels for name in input):
        return input
    return {_MESSAGES: [{"role": "user", "content": _words_of(input)}]}


def _words_of(input: Any) -> str:
    if isinstance(input, dict):
        for name in _MESSAGE_FIELDS:
            if isinstance(input.get(name), str):
                words: str = input[name]
                return words
    return input if isinstance(input, str) else encode_result(input, what="the input").decode()


async def _ask(context: Context, value: Any) -> Any:
    """Ask what a node's `interrupt` asks: a text, or an object with `question` and maybe `choices`."""
    if isinstance(value, Mapping) and isinstance(value.get("question"), str):
        choices = value.get("choices")
        return await context.ask(value["question"], choices=choices if isinstance(choices, list) else None)
    question = value if isinstance(value, str) else encode_result(value, what="the interrupt's value").decode()
    return await context.ask(question)
