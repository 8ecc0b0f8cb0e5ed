"""
Agents of other libraries, recognised by the class of an object, and made ours. Nothing is imported for looking: an
object of a library is only there if that library is loaded.
"""

from __future__ import annotations

from typing import Any

from holdfast.agents.function import check_name
from holdfast.agents.objects import is_invocable, object_agent
from holdfast.execution.program import EMPTY_SPEC, AgentSpec, Program
from holdfast.model.lifecycle import Restart


def is_adaptable(value: Any) -> bool:
    """Whether an object is by itself meant to be run: a compiled graph of LangGraph, an agent of pydantic-ai."""
    return _is_graph(value) or _is_pydantic_agent(value)


def is_runnable(value: Any) -> bool:
    """Whether an object can be served where it is named: the above, and any object with `invoke`."""
    return is_adaptable(value) or is_invocable(value)


def adapted(
    value: Any, name: str, *, spec: AgentSpec = EMPTY_SPEC, restart: str | None = None, framework: str | None = None
) -> Program:
    """
    An object for which `is_runnable` holds, as an agent of this name.

    Args:
        restart: what may happen after a death; default is what the kind of object allows.
        framework: how it is shown; default is its kind.

    Raises:
        ValueError: the name is none.
    """
    program: Any
    if _is_graph(value):
        from holdfast.agents.langgraph import GraphProgram

        program = GraphProgram(value, check_name(name), spec=spec, restart=restart)
    elif _is_pydantic_agent(value):
        from holdfast.agents.pydantic_agent import PydanticAgentProgram

        program = PydanticAgentProgram(value, check_name(name), spec=spec, restart=restart)
    else:
        library = "langchain" if _is_of(value, "langchain_core", "Runnable") else "custom"
        program = object_agent(value, name, spec=spec, restart=Restart(restart or "waiting"), framework=library)
    if framework is not None:
        program.framework = framework
    made: Program = program
    return made


def _is_graph(value: Any) -> bool:
    return _is_of(value, "langgraph", "Pregel")


def _is_pydantic_agent(value: Any) -> bool:
    return _is_of(value, "pydantic_ai", "AbstractAgent")


def _is_of(value: Any, package: str, name: str) -> bool:
    """Whether a class of this name and package is among those of the object."""
    return not isinstance(value, type) and any(
        cls.__name__ == name and cls.__module__.partition(".")[0] == package for cls in type(value).__mro__
    )
