"""From what a Dockfile declares of an agent to the agent: its code is imported here, and nowhere else in this package."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from holdfast.agents.adapting import adapted, is_runnable
from holdfast.agents.function import FunctionAgent
from holdfast.agents.target import TargetError, load_reference
from holdfast.dockfile.meaning import AgentPlan
from holdfast.dockfile.problems import InvalidDockfile, Problem, refusal
from holdfast.execution.program import Program
from holdfast.model.lifecycle import Restart


def program_of(plan: AgentPlan, folder: Path, file: str, restart: str | None = None) -> Program:
    """
    The agent that a Dockfile in this folder declares.

    Args:
        restart: what may happen to its runs when their process dies; None: as its code declares.

    Raises:
        InvalidDockfile: its code cannot be imported, or is none that can be served.
    """
    try:
        value = load_reference(plan.reference, folder)
        make = _entry if plan.spec.mode == "entrypoint" else _handler
        return make(value, plan, restart)
    except (TargetError, TypeError, ValueError) as exc:
        raise _misfit(plan, file, str(exc)) from exc


def _handler(value: Any, plan: AgentPlan, restart: str | None) -> Program:
    """A function, an agent made of one, an object that can be called, or one that can be run by itself."""
    if is_runnable(value):
        return adapted(value, plan.name, spec=plan.spec, restart=restart, framework=plan.framework)
    declared = Restart.WAITING
    if isinstance(value, FunctionAgent):
        declared, value = value.restart, value.function
    if not callable(value):
        raise TargetError(f"{plan.reference} is {type(value).__name__}, no function")
    if not inspect.isroutine(value) and not inspect.isclass(value) and not hasattr(value, "func"):
        value = value.__call__  # an object that can be called; its method tells whether it is async
    made = FunctionAgent(
        value,
        plan.name,
        restart=declared if restart is None else Restart(restart),
        id=None,
        description=plan.spec.description,
        spec=plan.spec,
    )
    made.framework = plan.framework
    return made


def _entry(value: Any, plan: AgentPlan, restart: str | None) -> Program:
    """A graph or another object with `invoke`, or what a factory of one returns; a factory is called once, now."""
    if not is_runnable(value) and callable(value) and not isinstance(value, FunctionAgent):
        try:
            value = value()
        except Exception as exc:  # the author's code may raise anything
            raise TargetError(f"{plan.reference} cannot be called: {type(exc).__name__}: {exc}") from exc
    if is_runnable(value) or isinstance(value, FunctionAgent) or inspect.isroutine(value):
        return _handler(value, plan, restart)
    todo = "; compile it" if callable(getattr(value, "compile", None)) else ""
    raise TargetError(f"{plan.reference} gives {type(value).__name__}, which has no method invoke{todo}")


def _misfit(plan: AgentPlan, file: str, found: str) -> InvalidDockfile:
    return refusal([Problem(file=file, path=plan.path, expected="code that can be served", found=found)])
