"""Agents of every kind of code, for tests that talk to a server process. Gates are files that the test makes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from holdfast import Context, agent
from holdfast.execution.program import AgentSpec, SafetyPolicy


def wait_for(gate: str) -> None:
    """Block the calling thread until the file exists."""
    while not Path(gate).exists():
        time.sleep(0.005)


@agent("blocking")
def blocking(payload: dict[str, Any], context: Any = None) -> dict[str, Any]:
    """Says something, then blocks."""
    context.sync_emit_token("before")
    wait_for(payload["gate"])
    context.sync_emit_token("after")
    return {"done": True}


class State(TypedDict, total=False):
    gates: list[str]
    text: str


_model = FakeListChatModel(responses=["model text"])


def _draft(state: State) -> State:
    write = get_stream_writer()
    for gate in state["gates"]:
        write({"type": "token", "content": "custom "})
        wait_for(gate)
    write({"type": "progress", "step": "draft", "progress": 0.5, "message": "half"})
    write({"type": "note", "a": 1})
    return {"text": str(_model.invoke("x").content)}


async def _polish(state: State) -> State:
    return {"text": state["text"] + "."}


_builder = StateGraph(State)
_builder.add_node("draft", _draft)
_builder.add_node("polish", _polish)
_builder.add_edge(START, "draft")
_builder.add_edge("draft", "polish")
graph = _builder.compile()


@agent("secretive", restart="always")
async def secretive(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Says what the input's `pieces` say, and gives it all in every other way too."""
    whole = "".join(input["pieces"])
    for piece in input["pieces"]:
        await context.token(piece)
    await context.emit("own", text=whole)
    await context.step("fetch", lambda: {"text": whole})
    if input.get("fails"):
        raise ValueError(whole)
    return {"text": whole}


secretive.spec = AgentSpec(safety=SafetyPolicy(redact_patterns=(r"sk-[a-z]{8}",)))


@agent
async def pieces(input: dict[str, Any]) -> AsyncIterator[str]:
    """A plain async generator."""
    for word in ("one ", "two"):
        yield word
