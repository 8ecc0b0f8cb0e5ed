"""What a path names: an agent by UUID or name, a run by its number; and the state of a run as it is now."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

from holdfast.api.http.call import Call
from holdfast.api.workflow.refusals import WorkflowRefusal
from holdfast.api.workflow.rows import State, child_of, text_of
from holdfast.errors import AgentNotFound, RunNotFound
from holdfast.execution.codec import decode_result
from holdfast.execution.program import Program, spec_of
from holdfast.ids import is_uuid
from holdfast.model import Run
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

_TASK: Final = re.compile(r"[1-9][0-9]{0,15}\Z")
PAGE_BYTES: Final = 4 * 1024 * 1024
CHILDREN_MAX: Final = 1000


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


def version_of(program: Program) -> int:
    """The declared version where it is a whole number, else 1."""
    text = spec_of(program).version
    return int(text) if text.isdigit() and text.isascii() and len(text) < 16 else 1


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
    program = runs.worker.programs.get(run.agent)
    if program is not None:
        state.version = version_of(program)
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


async def children_of(runs: Runs, caller: Caller, run: Run) -> Sequence[Run]:
    """The runs that this run started, oldest first."""
    found = await runs.store.runs(RunQuery(tenant=caller.tenant, parent=run.number, limit=CHILDREN_MAX))
    return found[::-1]


async def shown_children(runs: Runs, caller: Caller, run: Run) -> list[dict[str, Any]]:
    """The same as a status shows them; the calls of one that awaits them are asked under its own number."""
    shown = []
    for child in await children_of(runs, caller, run):
        interrupts = [] if child.status.is_final else await runs.store.interrupts(child.number)
        shown.append(child_of(child, interrupts))
    return shown
