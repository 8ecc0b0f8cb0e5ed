"""
Editing and retrying: which turns an earlier message's new turn takes the place of.

The turns from there on are superseded when the new one starts, in the same transaction: no model sees them again,
and their events stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.api.engine.fields import refuse
from holdfast.errors import MessageNotFound
from holdfast.model import Message
from holdfast.runs import Caller, Runs
from holdfast.store.base import RunQuery

PAGE = 1000


class Replaced(msgspec.Struct, frozen=True):
    """Turns that go, oldest first, and the message whose place is taken."""

    numbers: tuple[int, ...] = ()
    turn_ids: tuple[str, ...] = ()
    message: str | None = None
    media: list[Any] = []


async def replaced_by_edit(runs: Runs, caller: Caller, task_id: str, message_id: str) -> Replaced:
    """
    What goes when a user's message is edited.

    Raises:
        MessageNotFound: the task has no such message, or it was superseded.
        InvalidRequest: it is an assistant's message.
    """
    messages = await runs.messages(caller, task_id)
    message = messages[_index(messages, task_id, message_id)]
    if message.role != "user":
        refuse("edit_message_id", "this is a message of the assistant; only a user's can be edited")
    return await _from(runs, caller, task_id, message)


async def replaced_by_retry(runs: Runs, caller: Caller, task_id: str, message_id: str, message: str | None) -> Replaced:
    """
    What goes when a message is run again; an assistant's message stands for the user's before it.

    Raises:
        MessageNotFound: as above, or there is no user's message before it.
        InvalidRequest: the text that came with the call is not the message's.
    """
    messages = await runs.messages(caller, task_id)
    index = _index(messages, task_id, message_id)
    while index >= 0 and messages[index].role != "user":
        index -= 1
    if index < 0:
        raise MessageNotFound(f"Before message {message_id!r} there is none of a user to run again.")
    found = messages[index]
    if message is not None and message != found.content:
        refuse("message", "is not the text of the message to be run again; change a message with edit_message_id")
    return await _from(runs, caller, task_id, found)


def _index(messages: Sequence[Message], task_id: str, message_id: str) -> int:
    for index, message in enumerate(messages):
        if message.message_id == message_id:
            return index
    raise MessageNotFound(f"Task {task_id!r} has no message {message_id!r}.")


async def _from(runs: Runs, caller: Caller, task_id: str, message: Message) -> Replaced:
    numbers: list[int] = []
    turn_ids: list[str] = []
    before = None
    while True:
        page = await runs.list(RunQuery(tenant=caller.tenant, thread_id=task_id, before=before, limit=PAGE))
        kept = [run for run in page if run.number >= message.number and not run.superseded]
        numbers += [run.number for run in kept]
        turn_ids += [run.run_id for run in kept]
        if len(page) < PAGE or page[-1].number < message.number:
            break
        before = page[-1].number
    media = msgspec.json.decode(message.media)
    return Replaced(tuple(reversed(numbers)), tuple(reversed(turn_ids)), message.content or None, media)
