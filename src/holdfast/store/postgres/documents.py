"""
Writes as the procedures take them: the journal's columns as arrays, all that is rarer as one JSON document each.

Bytes in a document are hexadecimal, as Postgres reads them; what is JSON already goes as text, so that it is kept as
it was made. Nothing here talks to the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from holdfast.model import Interrupt, Message, Segment, Status, Step
from holdfast.model.lifecycle import TRANSITIONS
from holdfast.store.base import Answered, Append, InboxRow, OutboxRow, PutInbox, StartRun, Write
from holdfast.store.places import is_limited

PLAIN, MORE, UNLEASED, START, LIMITED, INBOX = "pausli"
"""Kinds of writes, each one letter: see commit_2; a LIMITED start may be held back, or needs the queue of its tenant counted."""

BEFORE: Final = {
    after: tuple(s.value for s in Status if after in TRANSITIONS[s] or (after is s and not s.is_final))
    for after in Status
}
"""The statuses that each one may follow."""

# The escapes of NUL and ESC that stand for themselves, and not behind a backslash that is one of the text's own.
_ESCAPED: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u00(00|1b)")

_encoder: Final = msgspec.json.Encoder()


class Item(msgspec.Struct, frozen=True):
    """One write, ready to be sent."""

    kind: str
    number: int
    lease_epoch: int
    tail: int
    segment: Segment | None
    document: str | None
    queue_limit: int | None = None

    @property
    def size(self) -> int:
        """About what it weighs on the way."""
        return (len(self.segment.body) if self.segment else 0) + len(self.document or "") + 200


def item_of(write: Write, now: int) -> Item:
    """
    A write ready to be sent; `now` is wall time.

    Raises:
        TypeError, ValueError: something in it is not what its field says.
    """
    if type(write) is Append:
        document = None if is_bare(write) else _text(_append(write))
        kind = PLAIN if document is None else UNLEASED if write.unleased else MORE
        return Item(kind, write.number, write.lease_epoch, write.tail, write.segment, document)
    if type(write) is StartRun:
        is_queued = write.run.status is Status.QUEUED
        has_limits = is_limited(write)
        kind = LIMITED if has_limits or (is_queued and write.tenant_queued_max is not None) else START
        queue_limit = write.queued_max if is_queued or has_limits else None
        return Item(kind, 0, 0, 0, write.segment, _text(_start(write, now)), queue_limit)
    assert type(write) is PutInbox
    return Item(INBOX, write.row.number, 0, 0, None, _text(_inbox(write.row)))


def arrays_of(items: Sequence[Item]) -> tuple[Any, ...]:
    """The parameters of `commit_2` that hold the writes, in its order."""
    segments = [item.segment for item in items]
    return (
        "".join([item.kind for item in items]),
        [item.number for item in items],
        [item.lease_epoch for item in items],
        [item.tail for item in items],
        [None if s is None else s.first for s in segments],
        [None if s is None else s.last for s in segments],
        [None if s is None else s.first_timestamp for s in segments],
        [None if s is None else s.last_timestamp for s in segments],
        [None if s is None else s.hash for s in segments],
        [None if s is None or not s.marks else json_text(s.marks) for s in segments],
        [None if s is None else s.body for s in segments],
        [item.document for item in items],
        [item.queue_limit for item in items],
    )


def json_text(value: Any) -> str | None:
    """A structured value as a column; None stays NULL."""
    return None if value is None else _encoder.encode(value).decode()


def is_plain(write: Append) -> bool:
    """Whether it changes nothing of the run but its journal and what hangs on that."""
    return (
        write.status is None
        and not write.unleased
        and not write.release
        and not write.answers
        and write.attempt is None
        and write.output is None
        and write.error is None
        and write.usage is None
        and write.cancel is None
        and write.started_at is None
        and write.ended_at is None
        and write.executed_seconds is None
    )


def is_bare(write: Append) -> bool:
    """Whether it touches nothing but its own journal, so that it may pass the writes to other runs."""
    return is_plain(write) and not (
        write.steps or write.interrupts or write.messages or write.inbox_done or write.outbox
    )


# Documents


def _append(write: Append) -> dict[str, Any]:
    status = write.status
    document: dict[str, Any] = {
        "unleased": write.unleased,
        "release": write.release,
        "is_final": status is not None and status.is_final,
        "changes_run": not is_plain(write),
    }
    if document["changes_run"]:
        document |= {
            "status": status,
            "before": None if status is None else BEFORE[status],
            "attempt": write.attempt,
            "output": _hex(write.output),
            "error": json_text(write.error),
            "usage": _hex(write.usage),
            "cancel": json_text(write.cancel),
            "started_at": write.started_at,
            "ended_at": write.ended_at,
            "executed_seconds": write.executed_seconds,
        }
    document |= _record(write)
    if write.answers:
        document["answers"] = [_answer(answer) for answer in write.answers]
    if write.messages:
        document["messages"] = [_message(message) for message in _last_of(write.messages, "message_id")]
    if write.inbox_done:
        document["inbox_done"] = write.inbox_done
    if write.outbox:
        document["outbox"] = _outbox(write.outbox)
    return document


def _start(write: StartRun, now: int) -> dict[str, Any]:
    run = write.run
    is_leased = run.lease_owner is not None
    document: dict[str, Any] = {
        "run_id": run.run_id,
        "tenant": run.tenant,
        "agent": run.agent,
        "agent_id": run.agent_id,
        "thread_id": run.thread_id,
        "parent": run.parent,
        "status": run.status,
        "attempt": run.attempt,
        "priority": run.priority,
        "superseded": run.superseded,
        "input": _hex(run.input),
        "output": _hex(run.output),
        "error": json_text(run.error),
        "cancel": json_text(run.cancel),
        "usage": _hex(run.usage),
        "caller": run.caller,
        "role": run.role,
        "trust": run.trust,
        "metadata": escaped(_encoder.encode(run.metadata)).decode(),  # the database looks into it
        "timeout_seconds": run.timeout_seconds,
        "executed_seconds": run.executed_seconds,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "epoch": run.epoch,
        "epochs": json_text(run.epochs),
        "lease_owner": run.lease_owner,
        "lease_epoch": max(run.lease_epoch, 1) if is_leased else run.lease_epoch,
        "lease_seconds": write.lease_seconds,
        "is_over": run.status.is_final,
        "now": now,
    }
    document |= _record(write)
    if write.tenant_queued_max is not None:
        document["tenant_queued_max"] = write.tenant_queued_max
    if is_limited(write):
        document |= {"tenant_runs_max": write.tenant_runs_max, "agent_runs_max": write.agent_runs_max}
    if write.message is not None:
        document["message"] = _message(write.message)
    if write.supersedes:
        document["supersedes"] = write.supersedes
    if write.outbox:
        document["outbox"] = _outbox(write.outbox)
    if (key := write.idempotency) is not None:
        document["idempotency"] = {
            "method": key.method,
            "path": key.path,
            "key": key.key,
            "fingerprint": _hex(key.fingerprint),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
    return document


def _record(write: Append | StartRun) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if write.steps:
        document["steps"] = [_step(step) for step in _last_of(write.steps, "key")]
    if write.interrupts:
        document["interrupts"] = [_interrupt(item) for item in _last_of(write.interrupts, "interrupt_id")]
        document["parts"] = [part for item in write.interrupts for part in _parts(item)]
    return document


def _inbox(row: InboxRow) -> dict[str, Any]:
    return _fields(row) | {"answer": _hex(row.answer)}


def _step(step: Step) -> dict[str, Any]:
    return _fields(step) | {"output": _hex(step.output), "error": json_text(step.error)}


def _interrupt(interrupt: Interrupt) -> dict[str, Any]:
    fields = _fields(interrupt) | {"input": _hex(interrupt.input), "choices": json_text(interrupt.choices)}
    del fields["parts"]
    return fields


def _parts(interrupt: Interrupt) -> Iterable[dict[str, Any]]:
    for part in interrupt.parts:
        yield _fields(part) | {
            "interrupt_id": interrupt.interrupt_id,
            "input": _hex(part.input),
            "default": _hex(part.default),
            "answer": _hex(part.answer),
            "is_open": part.answer is None and interrupt.is_pending,
        }


def _answer(answer: Answered) -> dict[str, Any]:
    return _fields(answer) | {"answer": _hex(answer.answer)}


def _message(message: Message) -> dict[str, Any]:
    return _fields(message) | {"media": _hex(message.media), "detail": _hex(message.detail)}


def _outbox(rows: Iterable[OutboxRow]) -> list[dict[str, Any]]:
    return [_fields(row) for row in rows]


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else "\\x" + value.hex()


def _last_of(items: Iterable[Any], name: str) -> Iterable[Any]:
    """One of each name, the last one, in the order of the first ones: a statement may change a row only once."""
    return {getattr(item, name): item for item in items}.values()


def _text(document: dict[str, Any]) -> str:
    return escaped(_encoder.encode(document)).decode()


def escaped(encoded: bytes) -> bytes:
    """JSON into which Postgres can look: as a text is kept, ESC 0 stands for a NUL and ESC 1 for an ESC."""
    if b"\\u00" not in encoded:
        return encoded
    return _ESCAPED.sub(lambda found: found[1] + rb"\u001b" + (b"0" if found[2] == b"00" else b"1"), encoded)
