"""`POST /hitl/respond` and `GET /hitl/pending`: what turns ask people, and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import get, post

from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, require
from holdfast.api.engine.finding import find_task, request_ids
from holdfast.api.engine.media import BLOCKS_MAX, content_block
from holdfast.api.engine.pages import page_cursor, page_limit, shown_cursor
from holdfast.api.engine.projection import frame_data
from holdfast.api.engine.refusals import HitlInputChanged
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import (
    InterruptAmbiguous,
    InterruptNotFound,
    InterruptResolved,
    InvalidAnswer,
    InvalidRequest,
    RunFinished,
)
from holdfast.model import Interrupt, Kind, Run
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

ANSWER_MAX: Final = 1_000_000
PAGE: Final = 1000

_BODY: Final[Mapping[str, Check]] = {
    "task_id": fields.task_id,
    "answer": fields.text(0, ANSWER_MAX),
    "feedback": fields.text(0, ANSWER_MAX),
    "content_blocks": fields.array(content_block, BLOCKS_MAX),
    "request_id": fields.identifier,
    "input_hash": fields.text(0, 128),
}


class Answer(msgspec.Struct, frozen=True):
    """What a person said."""

    text: str
    feedback: str | None
    blocks: list[Any] | None


@post("/hitl/respond", opt={"role": "executor"}, status_code=200)
async def respond(request: Call) -> asgi.Answer:
    """Answer what a turn asks people."""
    query, body = request.query(), await request.json_body()
    found = read_object(body, _BODY)
    require(found, "task_id", "answer")
    return await once(request, query, body, lambda: _respond(request.runs, request.caller, found))


async def _respond(runs: Runs, caller: Caller, found: Mapping[str, Any]) -> Reply:
    task_id = found["task_id"]
    await find_task(runs, caller, task_id)
    answer = Answer(found["answer"], found.get("feedback") or None, found.get("content_blocks") or None)
    request_id = found.get("request_id")
    if request_id is None:
        request_id = await _only_pending(runs, caller, task_id)
    if request_id is None:
        interrupt = await _repeated(runs, caller, task_id, answer)
    else:
        interrupt = await _find(runs, caller, task_id, request_id)
        if found.get("input_hash") not in (None, interrupt.input_hash):
            raise HitlInputChanged(f"Request {request_id} asks about another input than this one.")
        await _give(runs, caller, interrupt, answer)
    return json_reply({"status": "resumed", "request_id": interrupt.interrupt_id})


async def _only_pending(runs: Runs, caller: Caller, task_id: str) -> str | None:
    """The id of the one request that waits; None where none does."""
    pending = await runs.pending(caller, thread_id=task_id)
    if len(pending) > 1:
        raise InterruptAmbiguous(
            f"Task {task_id} waits for {len(pending)} answers: name one.", interrupt_ids=request_ids(pending)
        )
    return pending[0].interrupt_id if pending else None


async def _repeated(runs: Runs, caller: Caller, task_id: str, answer: Answer) -> Interrupt:
    """
    The request that the task's last answer was given to, if it was this same answer.

    Raises:
        InterruptNotFound
    """
    last = await runs.store.last_resolved(caller.tenant, task_id)
    if last is not None:
        try:
            await _give(runs, caller, last, answer)
        except (InterruptResolved, InvalidAnswer, RunFinished):
            pass
        else:
            return last
    raise InterruptNotFound(f"Task {task_id} waits for no answer.")


async def _find(runs: Runs, caller: Caller, task_id: str, request_id: str) -> Interrupt:
    """A request of a task, resolved or not. The pending and the newest ones are found first."""
    for interrupt in await runs.pending(caller, thread_id=task_id):
        if interrupt.interrupt_id == request_id:
            return interrupt
    before = None
    while True:
        page = await runs.list(RunQuery(tenant=caller.tenant, thread_id=task_id, before=before, limit=PAGE))
        for run in page:
            for interrupt in await runs.store.interrupts(run.number):
                if interrupt.interrupt_id == request_id and interrupt.kind in (Kind.QUESTION, Kind.APPROVAL):
                    return interrupt
        if len(page) < PAGE:
            raise InterruptNotFound(f"Task {task_id} has no request {request_id!r}.")
        before = page[-1].number


async def _give(runs: Runs, caller: Caller, interrupt: Interrupt, answer: Answer) -> None:
    """
    Answer a request; the same answer again is a success.

    Raises:
        InvalidAnswer, InterruptResolved
    """
    run = await runs.store.run_by_number(interrupt.number)
    if run is None:
        raise InterruptNotFound(f"There is no request {interrupt.interrupt_id!r}.")
    if interrupt.kind is Kind.APPROVAL:
        value: Any = _permission(interrupt, answer)
    else:
        value = _chosen(interrupt, answer)
    try:
        await runs.answer(
            caller,
            run.run_id,
            value,
            interrupt_id=interrupt.interrupt_id,
            note=answer.feedback,
            blocks=answer.blocks,
        )
    except RunFinished:
        # Its turn ended without an answer, and with it the request.
        raise InterruptResolved(
            f"request {interrupt.interrupt_id} ended with its turn", answer=None, by="cancelled"
        ) from None


def _permission(interrupt: Interrupt, answer: Answer) -> dict[str, Any]:
    if answer.blocks:
        raise InvalidRequest("content_blocks: a permission takes none", field="content_blocks")
    choices = interrupt.choices or ("yes", "no")
    word = answer.text.strip().lower()
    if word not in choices or word not in ("yes", "no", "always"):
        raise InvalidAnswer(
            f"the answer must be one of {', '.join(choices)}, not {answer.text[:60]!r}", choices=list(choices)
        )
    return {"approved": word != "no", "remember": word == "always", "note": answer.feedback}


def _chosen(interrupt: Interrupt, answer: Answer) -> str:
    if interrupt.choices is not None and answer.text not in interrupt.choices:
        raise InvalidAnswer(
            f"the answer must be one of {', '.join(interrupt.choices)}, not {answer.text[:60]!r}",
            choices=list(interrupt.choices),
        )
    return answer.text


@get("/hitl/pending", opt={"role": "reader"})
async def pending(request: Call) -> asgi.Answer:
    """What turns ask people, oldest first."""
    query = request.query("task_id", "limit", "cursor")
    limit, cursor = page_limit(query), page_cursor(query, int, str)
    runs, caller = request.runs, request.caller
    task_id = query.get("task_id")
    if task_id is not None:
        await find_task(runs, caller, fields.task_id(task_id, "task_id"))
    found, has_more = await _pending_behind(runs, caller, task_id, cursor, limit)
    shown = [await shown_request(runs, interrupt) for interrupt in found]
    last = shown_cursor(found[-1].created_at, found[-1].interrupt_id) if has_more else None
    return json_reply({"pending": [item for item in shown if item is not None], "next_cursor": last})


async def _pending_behind(
    runs: Runs, caller: Caller, task_id: str | None, cursor: tuple[Any, ...] | None, limit: int
) -> tuple[list[Interrupt], bool]:
    """Up to `limit` requests of turns behind a cursor, oldest first, and whether there are more."""
    size = PAGE
    while True:
        page = await runs.store.pending(caller.tenant, thread_id=task_id, limit=size)
        behind = page if cursor is None else _behind(page, *cursor)
        if len(behind) > limit or len(page) < size:
            return list(behind[:limit]), len(behind) > limit
        size *= 4


def _behind(page: Sequence[Interrupt], created_at: int, interrupt_id: str) -> Sequence[Interrupt]:
    """What follows a request in the list; it may have been answered meanwhile."""
    for index, item in enumerate(page):
        if item.interrupt_id == interrupt_id:
            return page[index + 1 :]
    return [item for item in page if item.created_at > created_at]


async def shown_request(runs: Runs, interrupt: Interrupt) -> msgspec.Raw | None:
    """A request with the fields of its frame; None where its run is no turn."""
    run: Run | None = await runs.store.run_by_number(interrupt.number)
    if run is None or run.thread_id is None or interrupt.sequence is None:
        return None
    segments = await runs.store.segments(run.number, after=interrupt.sequence - 1, bytes_max=1)
    line = segments[0].body.decode().split("\n")[interrupt.sequence - segments[0].first]
    return msgspec.Raw(frame_data(run.thread_id, line).encode())
