"""What a path names: an agent by UUID or name, a run by its number; and the picture of a run as it is now."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.api.http.call import Call
from holdfast.api.workflow.refusals import WorkflowRefusal
from holdfast.api.workflow.rows import State, text_of
from holdfast.errors import AgentNotFound, RunNotFound
from holdfast.execution.codec import decode_result
from holdfast.execution.program import Program
from holdfast.ids import is_uuid
from holdfast.model import Interrupt, Run
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

_TASK: Final = re.compile(r"[1-9][0-9]{0,15}\Z")
PAGE_BYTES: Final = 4 * 1024 * 1024
CHILDREN_MAX: Final = 1000


class Picture(msgspec.Struct, frozen=True):
    """A run at one moment: its events up to the row's tail, folded, with its interrupts and children."""

    state: State
    interrupts: Sequence[Interrupt]
    children: Sequence[Run]


def as_uuid(text: str) -> str | None:
    """A UUID in the one form it is compared in; None: the text is none."""
    return str(uuid.UUID(text)) if is_uuid(text) else None


def find_agent(runs: Runs, given: str) -> Program:
    """
    The agent that this server serves under a UUID, in any case, or else under a name.

    Raises:
        AgentNotFound
    """
    wanted = as_uuid(given)
    for name in runs.worker.programs.names():
        if name == given or (wanted is not None and runs.agent_id(name) == wanted):
            return runs.agent(name)
    raise AgentNotFound(f"this server serves no agent {given!r}")


def task_number(request: Call) -> int:
    """
    The number of the run that the path names.

    Raises:
        WorkflowRefusal: it is no number from 1 on, below 2^53.
    """
    text = request.path_value("task")
    if not _TASK.match(text) or int(text) >= 2**53:
        raise WorkflowRefusal(
            "invalid_task_id", f"a task_id is a whole number from 1 on, below 2^53, not {text[:40]!r}"
        )
    return int(text)


async def find_run(request: Call, *, agent: str | None = None) -> Run:
    """
    The run of the path, of this agent if one is named.

    Raises:
        WorkflowRefusal
        RunNotFound: unknown, or of another agent or tenant.
    """
    number = task_number(request)
    run = await request.runs.store.run_by_number(number)
    if run is None or run.tenant != request.caller.tenant:
        raise RunNotFound(f"there is no run {number}")
    if agent is not None and agent != run.agent and as_uuid(agent) != run.agent_id:
        raise RunNotFound(f"there is no run {number} of agent {agent!r}")
    return run


async def fold(runs: Runs, run: Run) -> State:
    """The state of a run as of the last event of its row."""
    state, after = State(run), run.first_sequence - 1
    while after < run.tail_sequence:
        segments = await runs.store.segments(run.number, after=after, bytes_max=PAGE_BYTES)
        if not segments:
            break
        for segment in segments:
            lines = segment.body.decode().split("\n")[:-1]
            wanted = lines[max(after + 1 - segment.first, 0) : run.tail_sequence + 1 - segment.first]
            state.feed_lines(wanted)
            after = max(after, segment.last)
        await asyncio.sleep(0)
    return state


async def with_texts(runs: Runs, state: State, *, bytes_max: int | None = None) -> State:
    """
    The state with the outputs that are kept as files put in their places, from the newest on; with `bytes_max` no more
    of them than fill it.
    """
    size = 0
    for node in reversed(state.nodes):
        if node.file is not None and (bytes_max is None or size <= bytes_max):
            found = await runs.store.file(state.run.tenant, node.file)
            if found is not None:
                node.output = text_of(decode_result(found[1]))
            node.file = None
        size += len(node.output)
    return state


async def picture(runs: Runs, caller: Caller, run: Run) -> Picture:
    """Everything that a status shows of a run."""
    state = await fold(runs, run)
    return Picture(state, await runs.store.interrupts(run.number), await children_of(runs, caller, run))


async def children_of(runs: Runs, caller: Caller, run: Run) -> Sequence[Run]:
    """The runs that this run started, oldest first."""
    found = await runs.store.runs(RunQuery(tenant=caller.tenant, parent=run.number, limit=CHILDREN_MAX))
    return found[::-1]
