"""`GET /tasks`, `GET /tasks/{task_id}`, its messages, and the DELETE of a task or of its grants."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import delete, get

from holdfast.agents.tools.grants import GivenGrant
from holdfast.api.engine import fields
from holdfast.api.engine.codes import engine_code
from holdfast.api.engine.finding import active_turn, find_task, why_busy
from holdfast.api.engine.hitl import shown_request
from holdfast.api.engine.pages import page_cursor, page_limit, shown_cursor
from holdfast.api.engine.timestamps import milliseconds
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.query import Query
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import InvalidRequest, ThreadBusy
from holdfast.model import Message, Run, Thread
from holdfast.model.encoding import format_time
from holdfast.runs import Runs
from holdfast.store.base import RunQuery

STATUSES: Final = ("idle", "running", "waiting")
TURNS_MAX: Final = 50


@get("/tasks", opt={"role": "reader"})
async def tasks(request: Call) -> asgi.Answer:
    """A page of the tenant's tasks, last changed first."""
    query = request.query("status", "limit", "cursor")
    limit, cursor = page_limit(query), page_cursor(query, int, str)
    status = query.get("status")
    if status is not None:
        fields.one_of(STATUSES)(status, "status")
    found: list[Thread] = []
    shown: list[dict[str, Any]] = []
    while len(shown) <= limit:
        page = await request.runs.threads(request.caller, before=cursor, limit=limit + 1)
        for thread in page:
            item = await _shown_task(request.runs, thread)
            if status in (None, item["status"]):
                found.append(thread)
                shown.append(item)
        if len(page) <= limit:
            break
        cursor = (page[-1].updated_at, page[-1].thread_id)
    has_more = len(shown) > limit
    last = shown_cursor(found[limit - 1].updated_at, found[limit - 1].thread_id) if has_more else None
    return json_reply({"tasks": shown[:limit], "next_cursor": last})


@get("/tasks/{task_id:str}", opt={"role": "reader"})
async def task(request: Call) -> asgi.Answer:
    """A task with its newest turns."""
    request.query()
    runs, caller, task_id = request.runs, request.caller, _task_id(request)
    thread = await find_task(runs, caller, task_id)
    pending = [await shown_request(runs, item) for item in await runs.pending(caller, thread_id=task_id)]
    grants = await request.services.permissions.grants.of_task(caller.tenant, task_id)
    turns = await runs.list(RunQuery(tenant=caller.tenant, thread_id=task_id, limit=TURNS_MAX))
    return json_reply(
        {
            **await _shown_task(runs, thread),
            "pending": [item for item in pending if item is not None],
            "grants": [_shown_grant(given) for given in grants],
            "working_memory": await runs.memory.working(caller.tenant, task_id),
            "turns": [_shown_turn(run) for run in turns],
        }
    )


@get("/tasks/{task_id:str}/messages", opt={"role": "reader"})
async def messages(request: Call) -> asgi.Answer:
    """A page of a task's messages, oldest first."""
    query = request.query("superseded", "limit", "cursor")
    limit, cursor = page_limit(query), page_cursor(query, int)
    runs, caller, task_id = request.runs, request.caller, _task_id(request)
    await find_task(runs, caller, task_id)
    behind = 0 if cursor is None else cursor[0]
    page = await runs.store.messages(
        caller.tenant, task_id, after=behind, limit=limit + 1, superseded=_flag(query, "superseded")
    )
    turn_ids: dict[int, str | None] = {}
    for message in page[:limit]:
        if message.number not in turn_ids:
            run = await runs.store.run_by_number(message.number)
            turn_ids[message.number] = None if run is None else run.run_id
    shown = [_shown_message(message, turn_ids[message.number]) for message in page[:limit]]
    last = shown_cursor(behind + limit) if len(page) > limit else None
    return json_reply({"messages": shown, "next_cursor": last})


@delete("/tasks/{task_id:str}", opt={"role": "operator"}, status_code=200)
async def delete_task(request: Call) -> asgi.Answer:
    """Delete a task with its turns, events, messages and workspace."""
    query, task_id = request.query(), _task_id(request)

    async def work() -> Reply:
        thread = await request.runs.thread(request.caller, task_id)
        try:
            await request.runs.delete_thread(request.caller, task_id)
        except ThreadBusy as busy:
            raise await why_busy(request.runs, request.caller, task_id, busy) from None
        if thread is not None:
            await request.services.permissions.forget(thread)
        return json_reply({"status": "deleted", "task_id": task_id})

    return await once(request, query, None, work)


@delete("/tasks/{task_id:str}/grants", opt={"role": "operator"}, status_code=200)
async def delete_grants(request: Call) -> asgi.Answer:
    """End every `always` of a task; what asked before asks again."""
    query, task_id = request.query(), _task_id(request)

    async def work() -> Reply:
        await find_task(request.runs, request.caller, task_id)
        await request.services.permissions.grants.end(request.caller.tenant, task_id)
        return json_reply({"status": "deleted", "task_id": task_id})

    return await once(request, query, None, work)


def _task_id(request: Call) -> str:
    return str(fields.task_id(request.path_value("task_id"), "task_id"))


def _flag(query: Query, name: str) -> bool:
    text = query.get(name, "0")
    if text not in ("0", "1"):
        raise InvalidRequest(f"{name}: 0 or 1, not {text[:60]!r}", field=name)
    return text == "1"


async def _shown_task(runs: Runs, thread: Thread) -> dict[str, Any]:
    active = await active_turn(runs, thread)
    status = "idle"
    if active is not None:
        waits = await runs.store.pending(thread.tenant, thread_id=thread.thread_id, limit=1)
        status = "waiting" if waits else "running"
    return {
        "task_id": thread.thread_id,
        "status": status,
        "agent": thread.agent,
        "active_turn_id": None if active is None else active.run_id,
        "last_timestamp": msgspec.Raw(milliseconds(thread.last_timestamp).encode()),
        "created_at": format_time(thread.created_at),
        "updated_at": format_time(thread.updated_at),
    }


def _shown_grant(given: GivenGrant) -> dict[str, Any]:
    return {
        "tool": given.grant.tool,
        "rule": given.grant.rule,
        "host": given.grant.host,
        "turn_id": given.run_id,
        "by": given.by,
        "created_at": format_time(given.at),
    }


def _shown_turn(run: Run) -> dict[str, Any]:
    error = run.error
    return {
        "turn_id": run.run_id,
        "status": run.status.value,
        "superseded": run.superseded,
        "attempt": run.attempt,
        "started_at": format_time(run.created_at),
        "ended_at": None if run.ended_at is None else format_time(run.ended_at),
        "usage": None if run.usage is None else msgspec.Raw(run.usage),
        "error": None if error is None else {"error": engine_code(error.code), "message": error.message},
        "metadata": run.metadata,
    }


def _shown_message(message: Message, turn_id: str | None) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "turn_id": turn_id,
        "role": message.role,
        "content": message.content,
        "media": msgspec.Raw(message.media),
        "created_at": format_time(message.created_at),
        "superseded": message.superseded,
    }
