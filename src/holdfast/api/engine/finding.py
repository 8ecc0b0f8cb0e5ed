"""
What a call names: a task, a turn, the turn that a task is at. What belongs to another tenant is as unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.api.engine.refusals import HitlRequired
from holdfast.errors import ConflictError, RunNotFound, ThreadBusy, ThreadNotFound
from holdfast.model import Interrupt, Run, Thread
from holdfast.runs import Caller, Runs


async def find_task(runs: Runs, caller: Caller, task_id: str) -> Thread:
    """
    The task of this name.

    Raises:
        ThreadNotFound
    """
    thread = await runs.thread(caller, task_id)
    if thread is None:
        raise ThreadNotFound(f"There is no task {task_id!r}.")
    return thread


async def find_turn(runs: Runs, caller: Caller, turn_id: str, task_id: str | None = None) -> Run:
    """
    The turn of this id, of this task if one is named. A run without a thread is no turn.

    Raises:
        ThreadNotFound, RunNotFound
    """
    if task_id is not None:
        await find_task(runs, caller, task_id)
    try:
        run = await runs.get(caller, turn_id)
    except RunNotFound:
        run = None
    if run is None or run.thread_id is None or task_id not in (None, run.thread_id):
        of_task = "" if task_id is None else f" of task {task_id!r}"
        raise RunNotFound(f"There is no turn {turn_id!r}{of_task}.")
    return run


async def active_turn(runs: Runs, task: Thread) -> Run | None:
    """The turn of a task that is not over."""
    run = None if task.active is None else await runs.store.run_by_number(task.active)
    return None if run is None or run.status.is_final else run


async def why_busy(runs: Runs, caller: Caller, task_id: str, busy: ThreadBusy) -> ConflictError:
    """What to raise for a task that has an active turn: whether a person has to answer first, or time to pass."""
    turn_id = busy.details["active_run_id"]
    pending = await runs.pending(caller, thread_id=task_id)
    if not pending:
        return ThreadBusy(f"Task {task_id} is running turn {turn_id}.", active_run_id=turn_id)
    message = f"Task {task_id} waits for an answer in turn {turn_id}."
    return HitlRequired(message, turn_id=turn_id, request_ids=request_ids(pending))


def request_ids(pending: Sequence[Interrupt]) -> list[str]:
    """The ids under which a task's open questions and permissions are answered."""
    return [interrupt.interrupt_id for interrupt in pending]
