"""
`POST /execute`: one turn of a task, and its frames. Also `POST /execute/cancel`.

The answer begins when the turn's first event is durable; whatever is wrong before that is a plain JSON answer, and
then there is no turn. Leaving the stream does not stop the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import post

from holdfast.api.engine import fields
from holdfast.api.engine.cursors import parse_event_id
from holdfast.api.engine.fields import Check, read_object, refuse, require
from holdfast.api.engine.finding import active_turn, find_task, find_turn, why_busy
from holdfast.api.engine.media import BLOCKS_MAX, media_block
from holdfast.api.engine.refusals import MediaUnsupported, NoActiveTurn
from holdfast.api.engine.superseding import Replaced, replaced_by_edit, replaced_by_retry
from holdfast.api.engine.turns import stream, turn_frames
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import REPLAYED, idempotency_row, once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.sse import EventStream
from holdfast.errors import IdempotencyKeyReused, RunFinished, ThreadBusy
from holdfast.execution.foreign_schemas import check_schema
from holdfast.execution.forking import Inherited
from holdfast.execution.given import DIRECT, OUTPUT_SCHEMA, THINKING, given_step
from holdfast.execution.schema import InvalidSchema
from holdfast.model import Run
from holdfast.runs import Caller, Runs, StartRequest
from holdfast.store.base import IdempotencyRow, Started

MESSAGE_MAX: Final = 1_000_000
METADATA_BYTES_MAX: Final = 16 * 1024
SCHEMA_BYTES_MAX: Final = 64 * 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a call, checked."""

    task_id: str
    message: str | None = None
    media: list[dict[str, Any]] = []
    edit_message_id: str | None = None
    retry_message_id: str | None = None
    agent: str | None = None
    metadata: dict[str, Any] = {}
    response_schema: dict[str, Any] | None = None
    direct: bool = False
    super_thinking: bool = False
    effort: str | None = None


_BODY: Final[Mapping[str, Check]] = {
    "message": fields.text(1, MESSAGE_MAX),
    "task_id": fields.task_id,
    "media": fields.array(media_block, BLOCKS_MAX),
    "edit_message_id": fields.identifier,
    "retry_message_id": fields.identifier,
    "direct": fields.flag,
    "super_thinking": fields.flag,
    "effort": fields.one_of(("none", "low", "medium", "high")),
    "agent": fields.text(1, 128),
    "metadata": fields.json_object(METADATA_BYTES_MAX),
    "response_schema": fields.json_object(SCHEMA_BYTES_MAX),
}


def read_wanted(body: Any) -> Wanted:
    """
    A body as what is wanted.

    Raises:
        InvalidRequest: `field` names the first part that does not fit.
    """
    found = read_object(body, _BODY)
    require(found, "task_id")
    if "edit_message_id" in found and "retry_message_id" in found:
        refuse("retry_message_id", "not together with edit_message_id")
    if "retry_message_id" in found and found.get("media"):
        refuse("media", "not together with retry_message_id: the message is run again as it is")
    if "retry_message_id" not in found and not found.get("media"):
        require(found, "message")
    kept = {name: found[name] for name in Wanted.__struct_fields__ if name in found}
    return Wanted(**kept)


@post("/execute", opt={"role": "executor"}, status_code=200)
async def execute(request: Call) -> asgi.Answer:
    """Run one turn of a task and stream its frames."""
    query = request.query()
    body = await request.json_body()
    idempotency = idempotency_row(request, query, body)
    has_media = isinstance(body, dict) and bool(body.get("media"))
    # Twenty blocks are up to 24 MiB of base64, which would hold up every stream of the server.
    wanted = await asyncio.to_thread(read_wanted, body) if has_media else read_wanted(body)
    await _check_schema(wanted.response_schema)
    started = None
    if idempotency is not None:
        # The key lives as long as its turn.
        idempotency = msgspec.structs.replace(idempotency, expires_at=None)
        started = await _known(request.runs, idempotency)
    if started is None:
        started = await _start(request, wanted, idempotency)
    return await _answer(request, started)


async def _answer(request: Call, started: Started) -> EventStream:
    given = request.header(b"last-event-id") if started.replayed else None
    event_id = parse_event_id(given.decode("latin-1"), field="Last-Event-ID") if given else None
    gap, frames = await turn_frames(request.runs, started.run, event_id=event_id)
    return stream(request, frames, gap=gap, is_post=True, headers=(REPLAYED,) if started.replayed else ())


async def _known(runs: Runs, wanted: IdempotencyRow) -> Started | None:
    """The turn that an earlier call with this key started; asked before anything that this turn may have changed."""
    row = await runs.store.idempotency(wanted.tenant, wanted.method, wanted.path, wanted.key)
    if row is None or row.number is None:
        return None
    if row.fingerprint != wanted.fingerprint:
        raise IdempotencyKeyReused("This Idempotency-Key belongs to a call with another body; take a new one.")
    run = await runs.store.run_by_number(row.number)
    return None if run is None else Started(run, replayed=True)


async def _start(request: Call, wanted: Wanted, idempotency: IdempotencyRow | None) -> Started:
    runs, caller = request.runs, request.caller
    message, media, replaced = wanted.message, wanted.media, Replaced()
    if wanted.edit_message_id is not None:
        replaced = await replaced_by_edit(runs, caller, wanted.task_id, wanted.edit_message_id)
    elif wanted.retry_message_id is not None:
        replaced = await replaced_by_retry(runs, caller, wanted.task_id, wanted.retry_message_id, message)
        message, media = replaced.message, replaced.media
    agent = wanted.agent or await _agent_of(runs, caller, wanted.task_id)
    await _check_media(runs, agent, media)
    start = StartRequest(
        agent=agent,
        input={"message": message or "", "media": media},
        thread_id=wanted.task_id,
        message=message,
        media=media,
        supersedes=replaced.numbers,
        metadata=wanted.metadata,
        timeout_seconds=request.services.settings.turn_seconds_max,
        idempotency=idempotency,
        inherited=_given(request, wanted),
        facts={"supersedes": replaced.turn_ids} if replaced.turn_ids else {},
    )
    try:
        return await runs.start(caller, start)
    except ThreadBusy as busy:
        raise await why_busy(runs, caller, wanted.task_id, busy) from None


def _given(request: Call, wanted: Wanted) -> Inherited:
    """What the turn is given beside its message."""
    now = request.services.clock.now()
    given: dict[str, Any] = {}
    if wanted.response_schema is not None:
        given[OUTPUT_SCHEMA] = wanted.response_schema
    if wanted.direct:
        given[DIRECT] = True
    if wanted.super_thinking or wanted.effort == "high":
        given[THINKING] = True
    return Inherited(steps=tuple(given_step(name, value, now) for name, value in given.items()))


async def _agent_of(runs: Runs, caller: Caller, task_id: str) -> str | None:
    """The agent of the task's last turn; None: whichever is the default."""
    thread = await runs.thread(caller, task_id)
    return None if thread is None else thread.agent


async def _check_schema(document: dict[str, Any] | None) -> None:
    """Let pass what an answer can be held to."""
    try:
        if document is not None:
            await check_schema(document)
    except InvalidSchema as exc:
        refuse("response_schema", f"is no JSON Schema that can be held to: {exc.message}")


async def _check_media(runs: Runs, agent: str | None, media: list[dict[str, Any]]) -> None:
    """Let pass what the agent's model takes; an agent that does not say takes all."""
    refused_media = getattr(runs.agent(agent), "refused_media", None)
    refused = await refused_media(media) if media and refused_media is not None else None
    if refused is not None:
        index, what = refused
        field = f"media[{index}].{'source' if what.endswith('by URL') else 'type'}"
        raise MediaUnsupported(f"{field}: the agent's model takes no {what}", field=field)


_CANCEL_BODY: Final[Mapping[str, Check]] = {"task_id": fields.task_id, "turn_id": fields.identifier}


@post("/execute/cancel", opt={"role": "executor"})
async def cancel(request: Call) -> asgi.Answer:
    """Cancel the active turn of a task."""
    query, body = request.query(), await request.json_body()
    found = read_object(body, _CANCEL_BODY)
    require(found, "task_id")
    return await once(request, query, body, lambda: _cancel(request.runs, request.caller, **found))


async def _cancel(runs: Runs, caller: Caller, task_id: str, turn_id: str | None = None) -> Reply:
    if turn_id is not None:
        run: Run | None = await find_turn(runs, caller, turn_id, task_id)
    else:
        run = await active_turn(runs, await find_task(runs, caller, task_id))
    if run is None:
        raise NoActiveTurn(f"Task {task_id} has no active turn.")
    status, code = run.status.value, 200
    if not run.status.is_final:
        status, code = "cancelling", 202
        try:
            await runs.cancel(caller, run.run_id, wait=0)
        except RunFinished as over:
            status, code = over.details["status"], 200
    return json_reply({"status": status, "task_id": task_id, "turn_id": run.run_id}, code)
