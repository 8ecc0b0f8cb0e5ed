"""`POST /feedback` and `GET /feedback`: what people think of a turn, and what the assistant is to learn from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import get, post

from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require
from holdfast.api.engine.finding import find_task, find_turn
from holdfast.api.engine.memory_fields import FEEDBACK_TYPES, TEXT_MAX, rating
from holdfast.api.engine.pages import page_cursor, page_limit, shown_cursor
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import MessageNotFound, RunNotFound
from holdfast.memory import Draft, shown_item
from holdfast.model import Message
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

METADATA_BYTES_MAX: Final = 16 * 1024

_BODY: Final[Mapping[str, Check]] = {
    "task_id": fields.task_id,
    "feedback_type": fields.one_of(FEEDBACK_TYPES),
    "turn_id": fields.identifier,
    "message_id": fields.identifier,
    "comment": fields.text(1, TEXT_MAX),
    "correction": fields.text(1, TEXT_MAX),
    "score": rating,
    "metadata": fields.json_object(METADATA_BYTES_MAX),
}

# What a type cannot do without.
_NEEDED: Final[Mapping[str, str]] = {"correction": "correction", "preference": "comment", "rating": "score"}

# Types that the assistant learns at once, and the field that says what.
_LEARNED: Final[Mapping[str, str]] = {"correction": "correction", "preference": "comment"}


@post("/feedback", opt={"role": "executor"}, status_code=201)
async def give_feedback(request: Call) -> asgi.Answer:
    """Keep what somebody thinks of a turn; a correction or preference is known to the assistant from now on."""
    query, body = request.query(), await request.json_body()
    found = _read(body)
    return await once(request, query, body, lambda: _record(request, found))


def _read(body: Any) -> dict[str, Any]:
    found = read_object(body, _BODY)
    require(found, "task_id", "feedback_type")
    kind = found["feedback_type"]
    if kind in _NEEDED:
        require(found, _NEEDED[kind])
    if "score" in found and kind != "rating":
        refuse("score", "is allowed only for the type rating")
    return found


async def _record(request: Call, found: Mapping[str, Any]) -> Reply:
    runs, caller = request.runs, request.caller
    turn_id = await _turn_id(runs, caller, found)
    feedback_id = request.services.ids.short("fb")
    kept = {name: found.get(name) for name in _BODY} | {"turn_id": turn_id}
    drafts = [Draft(store="feedback", item_id=feedback_id, source=f"api:{caller.name}", fields=kept)]
    learned = _LEARNED.get(found["feedback_type"])
    if learned is not None:
        knowledge = {
            "subject": found["comment"][:200] if learned == "correction" and "comment" in found else "",
            "content": found[learned],
            "type": found["feedback_type"],
        }
        drafts.append(Draft(store="knowledge", fields=knowledge))
    await runs.memory.write(caller.tenant, *drafts, source=f"feedback:{feedback_id}")
    return json_reply({"status": "recorded", "id": feedback_id}, 201)


async def _turn_id(runs: Runs, caller: Caller, found: Mapping[str, Any]) -> str:
    """
    The turn that is meant: the one named, else that of the message, else the task's last.

    Raises:
        ThreadNotFound, RunNotFound, MessageNotFound
    """
    task_id = found["task_id"]
    await find_task(runs, caller, task_id)
    turn = await find_turn(runs, caller, found["turn_id"], task_id) if "turn_id" in found else None
    if "message_id" in found:
        message = await _message(runs, caller, task_id, found["message_id"])
        if turn is not None and message.number != turn.number:
            raise MessageNotFound(f"Turn {turn.run_id!r} has no message {found['message_id']!r}.")
        turn = turn or await runs.store.run_by_number(message.number)
    if turn is None:
        newest = await runs.list(RunQuery(tenant=caller.tenant, thread_id=task_id, limit=1))
        turn = newest[0] if newest else None
    if turn is None:
        raise RunNotFound(f"Task {task_id!r} has no turn any more.")
    return turn.run_id


async def _message(runs: Runs, caller: Caller, task_id: str, message_id: str) -> Message:
    for message in await runs.store.messages(caller.tenant, task_id, superseded=True):
        if message.message_id == message_id:
            return message
    raise MessageNotFound(f"Task {task_id!r} has no message {message_id!r}.")


@get("/feedback", opt={"role": "reader"})
async def feedback(request: Call) -> asgi.Answer:
    """A page of what was thought of turns, newest first."""
    query = request.query("task_id", "limit", "cursor")
    limit, cursor = page_limit(query), page_cursor(query, int, str)
    runs, caller = request.runs, request.caller
    task_id = query.get("task_id")
    if task_id is not None:
        fields.task_id(task_id, "task_id")
    page = await runs.memory.store.items(caller.tenant, "feedback", task_id=task_id, before=cursor, limit=limit + 1)
    last = shown_cursor(page[limit - 1].created_at, page[limit - 1].item_id) if len(page) > limit else None
    return json_reply({"feedback": [shown_item(item, None) for item in page[:limit]], "next_cursor": last})


HANDLERS: Final = (give_feedback, feedback)
