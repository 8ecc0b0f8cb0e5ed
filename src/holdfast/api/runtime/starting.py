"""The calls that start a run: `/invoke` (waits), `/invoke/stream` (follows), `/runs` (answers at once)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar import post

from holdfast.api.http.asgi import Answer, Header
from holdfast.api.http.call import Call
from holdfast.api.http.enabling import ASYNC_RUNS, REST, SSE
from holdfast.api.http.idempotency import REPLAYED
from holdfast.api.http.query import Query, read_query
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.run_webhook import start_run as start_run_with_webhook
from holdfast.api.runtime.controls import CONTROLS, check_input, start_request, wish_of
from holdfast.api.runtime.filters import EVERYTHING
from holdfast.api.runtime.following import READING, Reading, event_stream
from holdfast.api.runtime.position import find_position, read_cursor
from holdfast.api.runtime.problems import failure_status_and_code, problem
from holdfast.api.runtime.views import accepted_view, events_url, interrupt_view
from holdfast.errors import AgentNotFound, Stopping
from holdfast.execution.program import spec_of
from holdfast.model import Run, Status
from holdfast.store.base import Started


@post(["/invoke", "/agents/{name:str}/invoke"], opt={"role": "executor", "enabled_by": REST})
async def invoke(request: Call) -> Answer:
    """Start a run and answer with its output when it ends, or with its interrupts when it waits."""
    started = await _start(request)
    run = await request.runs.wait(request.caller, started.run.run_id, timeout=None)
    return await _outcome(request, run, _headers(started))


@post(["/invoke/stream", "/agents/{name:str}/invoke/stream"], opt={"role": "executor", "enabled_by": SSE})
async def invoke_stream(request: Call) -> Answer:
    """Start a run and stream its events; a repeat under its Idempotency-Key goes on behind Last-Event-ID."""
    cursor = read_cursor((request.header(b"last-event-id") or b"").decode("latin-1"), "Last-Event-ID")
    reading = Reading(EVERYTHING, False)

    def read(query: Query) -> None:
        nonlocal reading
        reading = Reading.parse(query, request.services.settings)

    started = await _start(request, READING, read)
    position = find_position(started.run, None, cursor if started.replayed else None)
    headers = _headers(started)
    return await event_stream(request, started.run, position, reading, is_post=True, idle=None, headers=headers)


@post(["/runs", "/agents/{name:str}/runs"], opt={"role": "executor", "enabled_by": ASYNC_RUNS})
async def start_run(request: Call) -> Answer:
    """Start a run and answer at once; its event `started` is durable by then."""
    return accepted(await _start(request))


def accepted(started: Started) -> Reply:
    """The answer to a start that nobody waits for."""
    location = (b"location", f"/runs/{started.run.run_id}".encode())
    return json_reply(accepted_view(started.run), 202, (location, *_headers(started)))


async def _start(request: Call, more: tuple[str, ...] = (), check: Callable[[Query], None] | None = None) -> Started:
    """
    Check everything there is to check, in the order of the specification, then start the run.

    Args:
        more: query parameters that this call takes beside the controls; `check` reads them.
    """
    agent, controls = _agent_of(request)
    request.runs.check_rate(request.caller)
    request.exchange.agent = agent
    given = await request.json_body(request.services.settings.body_bytes_max)
    check_input(given, request.runs.agent(agent))
    query = request.query(*controls, *more)
    if check is not None:
        check(query)
    asked = start_request(request, query, agent=agent, input=given, body=given)
    return await start_run_with_webhook(request, asked, wish_of(query))


def _agent_of(request: Call) -> tuple[str, tuple[str, ...]]:
    """The agent that is called, and which query parameters the call takes. An unknown agent is told first of all."""
    if "name" in request.scope["path_params"]:
        return request.runs.agent(request.path_value("name")).name, CONTROLS
    query = read_query(request.scope["query_string"], None)
    return request.runs.agent(query.get("agent")).name, ("agent", *CONTROLS)


async def _outcome(request: Call, run: Run, headers: tuple[Header, ...]) -> Reply:
    """The answer of `/invoke`, once the run is finished or waits."""
    if run.status is Status.COMPLETED:
        seconds = round(((run.ended_at or run.created_at) - run.created_at) / 1_000_000, 3)
        metadata = {"agent": run.agent, "framework": framework_of(request, run.agent), "latency_seconds": seconds}
        metadata |= await _shaping(request, run)
        output = msgspec.Raw(run.output or b"null")
        return json_reply({"success": True, "output": output, "metadata": metadata}, 200, headers)
    if run.status is Status.FAILED and run.error is not None:
        status, code = failure_status_and_code(run.error.code)
        details = {**run.error.details, "run_id": run.run_id}
        return problem(status, code, run.error.message, request.request_id, details)
    if run.status is Status.CANCELLED:
        return problem(409, "CANCELLED", "the run was cancelled", request.request_id, {"run_id": run.run_id})
    if run.status is not Status.WAITING:
        raise Stopping("the server is stopping; the run goes on after it", run_id=run.run_id)
    pending = [item for item in await request.runs.interrupts(request.caller, run.run_id) if item.is_pending]
    body = {
        "success": True,
        "output": None,
        "status": "waiting",
        "run_id": run.run_id,
        "interrupts": [interrupt_view(item) for item in pending],
        "events_url": events_url(run.run_id),
    }
    return json_reply(body, 202, headers)


async def _shaping(request: Call, run: Run) -> dict[str, Any]:
    """What the agent's declaration did to the output, where it may have done anything."""
    program = request.runs.worker.programs.get(run.agent)
    if program is None or spec_of(program).output_strict is None:
        return {}
    last = await request.runs.last_event(run)
    return {name: last[name] for name in ("removed_keys", "output_valid") if name in last}


def _headers(started: Started) -> tuple[Header, ...]:
    run_id = (b"x-run-id", started.run.run_id.encode())
    return (run_id, REPLAYED) if started.replayed else (run_id,)


def framework_of(request: Call, agent: str) -> str:
    """How an agent is made, as far as this server serves it."""
    try:
        return request.runs.agent(agent).framework
    except AgentNotFound:
        return "custom"


HANDLERS: Final = (invoke, invoke_stream, start_run)
