"""The graph that the benchmarks run: one node that says as many tokens as it is asked for."""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What is asked for."""

    tokens: int


def say(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    for _ in range(state["tokens"]):
        write("token ")
    return {"tokens": state["tokens"]}


_builder = StateGraph(State)
_builder.add_node("say", say)
_builder.add_edge(START, "say")
_builder.add_edge("say", END)
graph = _builder.compile()
