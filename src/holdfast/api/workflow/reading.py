"""The calls that read runs: status with long poll, stream, row, lists."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from litestar import get

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.reply import json_reply
from holdfast.api.workflow.finding import children_of, find_agent, find_run, fold, with_texts
from holdfast.api.workflow.following import Task, since_of, stream
from holdfast.api.workflow.refusals import invalid
from holdfast.api.workflow.rows import row_of
from holdfast.journal import Signal
from holdfast.model import Run, Status
from holdfast.store.base import RunQuery

CHILDREN_MAX: Final = 1000
_STATUSES: Final = {
    "pending": (Status.QUEUED,),
    "running": (Status.QUEUED, Status.RUNNING, Status.WAITING),
    "awaiting_tool_calls": (Status.RUNNING, Status.WAITING),
    "completed": (Status.COMPLETED,),
    "failed": (Status.FAILED,),
    "cancelled": (Status.CANCELLED,),
}


@get("/api/agent/{agent:str}/status/{task:str}")
async def status(request: Call) -> Answer:
    """The task status now, or with `wait` at the next state event behind `since_seq`."""
    query = request.query("wait", "since_seq")
    wait = query.number("wait", least=0, most=60) or 0.0
    run = await find_run(request, agent=request.path_value("agent"))
    since, _ = since_of(request, run, query.get("since_seq"))
    task = Task(request.runs, request.caller, await fold(request.runs, run), since)
    request.services.shutdown.add(task.wake)
    try:
        if not task.is_newer and task.state.ended is None and not request.services.shutdown.is_set:
            await _until_newer(request, task, wait)
        return json_reply(await task.shown())
    finally:
        request.services.shutdown.remove(task.wake)
        task.close()


async def _until_newer(request: Call, task: Task, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while (signal := await task.next()) is not None:
                if signal is not Signal.WOKEN or request.services.shutdown.is_set:
                    return
    except TimeoutError:
        return


@get("/api/agent/{agent:str}/status/{task:str}/events")
async def events(request: Call) -> Answer:
    """The states of a run as a stream, from a snapshot on."""
    query = request.query("since_seq")
    run = await find_run(request, agent=request.path_value("agent"))
    since, gap = since_of(request, run, query.get("since_seq"))
    return await stream(request, run, since, gap)


@get("/api/workflow/run/{task:str}")
async def show_run(request: Call) -> Answer:
    """A run as one row with its nodes."""
    request.query()
    run = await find_run(request)
    return json_reply(row_of(await with_texts(request.runs, await fold(request.runs, run))))


@get("/api/agent/{agent:str}/runs")
async def agent_runs(request: Call) -> Answer:
    """An agent's runs, newest first."""
    query = request.query("limit", "before", "status")
    limit = query.integer("limit", 100, least=1, most=1000)
    before = query.integer("before", 2**53 - 1, least=1, most=2**53 - 1)
    wanted = query.get("status")
    if wanted is not None and wanted not in _STATUSES:
        raise InvalidQuery(f"status is one of {', '.join(_STATUSES)}", field="status")
    agent = find_agent(request.runs, request.path_value("agent")).name
    rows: list[dict[str, Any]] = []
    while len(rows) <= limit:
        page = await request.runs.list(
            RunQuery(
                tenant=request.caller.tenant,
                agent=agent,
                statuses=_STATUSES[wanted] if wanted else (),
                before=before,
                limit=limit + 1,
            )
        )
        for run in page:
            state = await fold(request.runs, run)
            if wanted is None or state.status == wanted:
                rows.append(row_of(await with_texts(request.runs, state, bytes_max=0), with_nodes=False))
        if len(page) <= limit:
            break
        before = page[-1].number
    shown = rows[:limit]
    return json_reply({"runs": shown, "next_before": shown[-1]["task_id"] if len(rows) > limit else None})


@get("/api/workflow/runs/by-parent/{task:str}")
async def by_parent(request: Call) -> Answer:
    """The runs that a run started, oldest first; with `recursive` those below them too."""
    recursive = request.query("recursive").get("recursive", "false").lower()
    if recursive not in ("true", "false"):
        raise invalid("recursive", "true or false")
    found: list[Run] = []
    level: list[Run] = [await find_run(request)]
    while level and len(found) < CHILDREN_MAX:
        below = [child for run in level for child in await children_of(request.runs, request.caller, run)]
        found += below
        level = below if recursive == "true" else []
    found = sorted(found, key=lambda run: run.number)[:CHILDREN_MAX]
    states = [await with_texts(request.runs, await fold(request.runs, run), bytes_max=0) for run in found]
    return json_reply([row_of(state, with_nodes=False) for state in states])


HANDLERS: Final = (status, events, show_run, agent_runs, by_parent)
