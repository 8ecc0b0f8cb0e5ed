"""The calls that read runs: a run, the list of them, its events, steps and interrupts, export and verification."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import get

from holdfast.api.http.asgi import Answer, Header
from holdfast.api.http.call import Call
from holdfast.api.http.enabling import ASYNC_RUNS, SSE
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.query import Query
from holdfast.api.http.reply import Download, Reply, json_reply
from holdfast.api.runtime.following import READING, Reading, event_stream
from holdfast.api.runtime.position import find_position, read_cursor
from holdfast.api.runtime.starting import framework_of
from holdfast.api.runtime.views import STATUSES, decode_cursor, encode_cursor, interrupt_view, run_view, step_view
from holdfast.errors import JournalCorrupt
from holdfast.model import Run, Status
from holdfast.model.encoding import parse_time
from holdfast.store.base import RunQuery

WAIT_SECONDS_MAX = 60
IDLE_SECONDS_MAX = 3600
# A stream token of the run opens these.
_TOKEN: Final = {"stream_token": True}
_LIST_FILTERS: Final = ("status", "thread_id", "created_after", "created_before", "limit", "cursor")


@get("/runs/{run_id:str}", opt=_TOKEN)
async def show_run(request: Call) -> Answer:
    """A run as it is now, or as it is once it waits or is finished."""
    query = request.query("wait")
    wait = query.number("wait", least=0, most=WAIT_SECONDS_MAX)
    run_id = request.path_value("run_id")
    if wait is None:
        run = await request.runs.get(request.caller, run_id)
    else:
        run = await request.runs.wait(request.caller, run_id, timeout=wait)
    view = run_view(run, framework_of(request, run.agent), await _pending(request, run), whole=True)
    return json_reply(view, headers=run_headers(run))


@get(["/runs", "/agents/{name:str}/runs"], opt={"enabled_by": ASYNC_RUNS})
async def list_runs(request: Call) -> Answer:
    """A page of the tenant's runs, newest first."""
    filters = _LIST_FILTERS if "name" in request.scope["path_params"] else (*_LIST_FILTERS, "agent")
    query = request.query(*filters)
    limit = query.integer("limit", 50, least=1, most=200)
    if "name" in request.scope["path_params"]:
        agent: str | None = request.runs.agent(request.path_value("name")).name
    else:
        agent = query.get("agent")
    found = await request.runs.list(_run_query(request, query, agent, limit + 1))
    page = found[:limit]
    views = [run_view(run, framework_of(request, run.agent), await _pending(request, run), whole=False) for run in page]
    next_cursor = encode_cursor(page[-1].number) if len(found) > limit else None
    return json_reply({"runs": views, "next_cursor": next_cursor})


def _run_query(request: Call, query: Query, agent: str | None, limit: int) -> RunQuery:
    names = [name for name in query.get("status", "").split(",") if name]
    for name in names:
        if name not in STATUSES:
            raise InvalidQuery(f"status is a list of {', '.join(STATUSES)}, not {name[:40]!r}", field="status")
    times = {name: parse_time(query[name], field=name) for name in ("created_after", "created_before") if name in query}
    return RunQuery(
        tenant=request.caller.tenant,
        statuses=tuple(STATUSES[name] for name in names),
        agent=agent,
        shown_thread=query.get("thread_id"),
        created_after=times.get("created_after"),
        created_before=times.get("created_before"),
        before=decode_cursor(query["cursor"]) if "cursor" in query else None,
        limit=limit,
    )


@get("/runs/{run_id:str}/events", opt={**_TOKEN, "enabled_by": SSE})
async def follow_run(request: Call) -> Answer:
    """The run's events from a cursor on: stored ones, then live ones, to the end."""
    query = request.query("from_sequence", "timeout", *READING)
    from_sequence = read_cursor(query.get("from_sequence"), "from_sequence")
    last_event_id = read_cursor((request.header(b"last-event-id") or b"").decode("latin-1"), "Last-Event-ID")
    settings = request.services.settings
    reading = Reading.parse(query, settings)
    idle = query.integer("timeout", 0, least=1, most=IDLE_SECONDS_MAX) or settings.stream_idle_seconds
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    position = find_position(run, from_sequence, last_event_id)
    headers = run_headers(run)
    if position.is_done:
        return Reply(204, headers=headers)
    return await event_stream(request, run, position, reading, is_post=False, idle=idle, headers=headers)


@get("/runs/{run_id:str}/interrupts", opt=_TOKEN)
async def list_interrupts(request: Call) -> Answer:
    """The interrupts that wait for an answer, or all of them."""
    status = request.query("status").get("status", "pending")
    if status not in ("pending", "all"):
        raise InvalidQuery(f"status is pending or all, not {status[:40]!r}", field="status")
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    found = await request.runs.interrupts(request.caller, run.run_id)
    views = [interrupt_view(item) for item in found if status == "all" or item.is_pending]
    return json_reply({"interrupts": views}, headers=run_headers(run))


@get("/runs/{run_id:str}/steps", opt=_TOKEN)
async def list_steps(request: Call) -> Answer:
    """The run's steps, by start."""
    request.query()
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    steps = await request.runs.steps(request.caller, run.run_id)
    return json_reply({"steps": [step_view(step) for step in steps]}, headers=run_headers(run))


@get("/runs/{run_id:str}/export")
async def export_run(request: Call) -> Answer:
    """The stored journal byte for byte, as JSON lines."""
    request.query()
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    verified = await request.runs.verify(request.caller, run.run_id)
    if not verified.ok:
        # Told before anything is sent: half an export would look like one that the network cut.
        raise JournalCorrupt(
            f"run {run.run_id}: the journal is damaged from event {verified.first_bad_sequence} on",
            first_bad_sequence=verified.first_bad_sequence,
        )
    return Download(request.runs.export(request.caller, run.run_id), b"application/x-ndjson", run_headers(run))


@get("/runs/{run_id:str}/verify")
async def verify_run(request: Call) -> Answer:
    """Whether every byte of the journal is what was written."""
    request.query()
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    verified = msgspec.structs.asdict(await request.runs.verify(request.caller, run.run_id))
    if verified["ok"]:
        del verified["first_bad_sequence"]
    return json_reply(verified, headers=run_headers(run))


async def _pending(request: Call, run: Run) -> list[str]:
    """The ids of the run's open interrupts; only a run that is under way can have any."""
    if run.status not in (Status.RUNNING, Status.WAITING):
        return []
    found = await request.runs.interrupts(request.caller, run.run_id)
    return [item.interrupt_id for item in found if item.is_pending]


def run_headers(run: Run) -> tuple[Header, ...]:
    return ((b"x-run-id", run.run_id.encode()),)


HANDLERS: Final = (
    show_run,
    list_runs,
    follow_run,
    list_interrupts,
    list_steps,
    export_run,
    verify_run,
)
