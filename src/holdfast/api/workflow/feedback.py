"""What people think of a run: one opinion of each kind and source, the last one counts."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import get, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.fields import ignored_header, read_object, replayed_header
from holdfast.api.workflow.finding import as_uuid, find_agent, find_run
from holdfast.api.workflow.refusals import invalid
from holdfast.model import Record, Run
from holdfast.model.encoding import format_time

FULL: Final = "feedback"
SIMPLE: Final = "feedback_simple"
SOURCES: Final = ("admin", "user")
RATINGS: Final = ("very-low", "low", "medium", "high", "very-high")
FEEDBACK_BYTES_MAX: Final = 256 * 1024
_TASK_MOST: Final = 2**53 - 1


@post("/api/agents/execution/{task:str}/feedback", opt={"role": "executor"}, status_code=200)
async def give(request: Call) -> Answer:
    """Rate the nodes of a run; what this source said before is replaced."""
    query = request.query()
    run = await find_run(request)
    body = await request.json_body()
    found, unknown = read_object(body, ("feedback_data", "feedback_source"))
    source = _source(found, "feedback_source")
    data = found.get("feedback_data")
    _check(data)
    value = {"feedback_data": data, "feedback_source": source}
    reply = await once(request, query, body, lambda: _keep(request, run, FULL, source, value))
    return reply.with_headers(*replayed_header(reply), *ignored_header(unknown))


@post("/api/agents/execution/{task:str}/feedback/simple", opt={"role": "executor"}, status_code=200)
async def give_simple(request: Call) -> Answer:
    """Say whether a run was good; what this source said before is replaced."""
    query = request.query()
    run = await find_run(request)
    body = await request.json_body()
    found, unknown = read_object(body, ("passed", "source"))
    source = _source(found, "source")
    if not isinstance(found.get("passed"), bool):
        raise invalid("passed", "true or false")
    value = {"passed": found["passed"], "source": source}
    reply = await once(request, query, body, lambda: _keep(request, run, SIMPLE, source, value))
    return reply.with_headers(*replayed_header(reply), *ignored_header(unknown))


@get("/api/agents/execution/{task:str}/feedback")
async def show(request: Call) -> Answer:
    """The feedback on a run: that of the given source, else the newest."""
    source = request.query("feedback_source").get("feedback_source")
    run = await find_run(request)
    found = [
        record
        for record in await _records(request, FULL, run)
        if source in (None, "", _value(record)["feedback_source"])
    ]
    if not found:
        facts = {"task_id": run.number, "agent_id": run.agent_id, "message": "there is no feedback"}
        return json_reply({"exists": False, "feedback_data": None, "feedback_source": None, **facts})
    newest = max(found, key=lambda record: record.updated_at)
    return json_reply({"exists": True, **_shown(newest, run), "message": "this is the feedback"})


@get("/api/agents/execution/{task:str}/feedback/simple")
async def show_simple(request: Call) -> Answer:
    """Whether a run was good, as each source said."""
    request.query()
    run = await find_run(request)
    return json_reply({"items": [_shown(record, run) for record in await _records(request, SIMPLE, run)]})


@get("/api/agents/execution/feedback")
async def list_feedback(request: Call) -> Answer:
    """
    The feedback on an agent's runs, newest runs first; on one run, on those before it, or on those that come next after
    one.
    """
    query = request.query("agent_id", "limit", "before_task_id", "task_id", "nearest_runs_after_id_with_feedback")
    limit = query.integer("limit", 3, least=1, most=1000)
    before = query.integer("before_task_id", _TASK_MOST, least=1, most=_TASK_MOST)
    task = query.integer("task_id", 0, least=0, most=_TASK_MOST)
    after = query.integer("nearest_runs_after_id_with_feedback", 0, least=0, most=_TASK_MOST)
    agent = query.get("agent_id")
    wanted = None if not agent else as_uuid(agent) or request.runs.agent_id(find_agent(request.runs, agent).name)
    store = request.runs.store
    found = [
        record
        for record in await store.records(FULL, tenant=request.caller.tenant, number=task or None)
        if record.number is not None and after < record.number < before
    ]
    found.sort(key=lambda record: record.number or 0, reverse=not after)
    items: list[dict[str, Any]] = []
    for record in found:
        if len(items) == limit:
            break
        if wanted not in (None, _value(record)["agent_id"]):
            continue
        run = await store.run_by_number(record.number or 0)
        if run is not None:
            items.append(_shown(record, run))
    return json_reply({"items": items})


def _source(found: dict[str, Any], name: str) -> str:
    source = found.get(name, "user")
    if source not in SOURCES:
        raise invalid(name, f"one of {', '.join(SOURCES)}")
    return str(source)


def _check(data: Any) -> None:
    feedback = data.get("feedback") if isinstance(data, dict) else None
    if not isinstance(feedback, dict):
        raise invalid("feedback_data.feedback", "an object with a rating for each node")
    if len(msgspec.json.encode(data)) > FEEDBACK_BYTES_MAX:
        raise invalid("feedback_data", f"up to {FEEDBACK_BYTES_MAX} bytes")
    for node, given in feedback.items():
        loc = f"feedback_data.feedback.{node[:64]}"
        if not isinstance(given, dict) or given.get("rating") not in RATINGS:
            raise invalid(f"{loc}.rating", f"one of {', '.join(RATINGS)}")
        if not isinstance(given.get("feedback", ""), str):
            raise invalid(f"{loc}.feedback", "a text")


async def _keep(request: Call, run: Run, kind: str, source: str, value: dict[str, Any]) -> Reply:
    now = request.runs.worker.clock.now()
    record = Record(
        kind=kind,
        tenant=run.tenant,
        name=f"{run.number}/{source}",
        number=run.number,
        body=msgspec.json.encode({**value, "agent_id": run.agent_id, "by": request.caller.name}),
        created_at=now,
        updated_at=now,
    )
    await request.runs.store.put_records([record])
    return json_reply({**_shown(record, run), "message": "the feedback is kept"})


async def _records(request: Call, kind: str, run: Run) -> list[Record]:
    return await request.runs.store.records(kind, tenant=run.tenant, number=run.number)


def _value(record: Record) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(record.body)
    return value


def _shown(record: Record, run: Run) -> dict[str, Any]:
    value = _value(record)
    del value["by"]
    return {**value, "task_id": run.number, "agent_id": run.agent_id, "updated_at": format_time(record.updated_at)}


HANDLERS: Final = (list_feedback, give, give_simple, show, show_simple)
