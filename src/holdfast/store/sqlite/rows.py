"""Rows as structs and structs as rows. Columns stand in the order of store/sql/sqlite/."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from holdfast.model import (
    ApiKey,
    Cancel,
    Failure,
    File,
    Interrupt,
    Kind,
    Message,
    Part,
    Run,
    Segment,
    Status,
    Step,
    Thread,
)
from holdfast.store.base import Append, IdempotencyRow, InboxRow, OutboxRow, StartRun

Row: TypeAlias = Sequence[Any]

_Failure = msgspec.json.Decoder(Failure)
_Cancel = msgspec.json.Decoder(Cancel)
_Epochs = msgspec.json.Decoder(tuple[tuple[int, int], ...])
_Choices = msgspec.json.Decoder(tuple[str, ...])
_Object = msgspec.json.Decoder(dict[str, Any])
_Marks: TypeAlias = tuple[tuple[int, int, str], ...]
_Facts = msgspec.json.Decoder(list[tuple[int, int, int, int, int, int, str, _Marks | None]])
_encoder = msgspec.json.Encoder()


def json_text(value: Any) -> str | None:
    """A structured value as a column; None stays NULL."""
    return None if value is None else _encoder.encode(value).decode()


def rollbacks_of(text: str | None) -> tuple[tuple[int, int], ...]:
    """What `Lost.rolled_back` is, out of the meta table."""
    return msgspec.json.decode(text or "[]", type=tuple[tuple[int, int], ...])


# ── rows to structs ─────────────────────────────────────────────────────────────────────────────────────────────


def run_of(row: Row) -> Run:
    return Run(
        number=row[0],
        run_id=row[1],
        tenant=row[2],
        agent=row[3],
        agent_id=row[4],
        thread_id=row[5],
        parent=row[6],
        status=Status(row[7]),
        attempt=row[8],
        priority=row[9],
        superseded=bool(row[10]),
        input=row[11],
        output=row[12],
        error=None if row[13] is None else _Failure.decode(row[13]),
        cancel=None if row[14] is None else _Cancel.decode(row[14]),
        usage=row[15],
        caller=row[16],
        role=row[17],
        trust=row[18],
        metadata={} if row[19] == "{}" else _Object.decode(row[19]),
        timeout_seconds=row[20],
        executed_seconds=row[21],
        created_at=row[22],
        started_at=row[23],
        ended_at=row[24],
        lease_owner=row[25],
        lease_epoch=row[26],
        lease_until=row[27],
        epoch=row[28],
        epochs=() if row[29] == "[]" else _Epochs.decode(row[29]),
        first_sequence=row[30],
        tail_sequence=row[31],
        prior_hash=row[32],
        head_hash=row[33],
        last_timestamp=row[34],
    )


def segments_of(facts: str, bodies: bytes | None) -> list[Segment]:
    """The segments of one page: their facts as JSON, and all their bodies behind each other."""
    segments = []
    offset = 0
    whole = bodies or b""
    for number, first, last, first_timestamp, last_timestamp, size, digest, marks in _Facts.decode(facts):
        segments.append(
            Segment(
                number=number,
                first=first,
                last=last,
                first_timestamp=first_timestamp,
                last_timestamp=last_timestamp,
                body=whole[offset : offset + size],
                hash=bytes.fromhex(digest),
                marks=marks or (),
            )
        )
        offset += size
    return segments


def step_of(row: Row) -> Step:
    return Step(
        number=row[0],
        key=row[1],
        name=row[2],
        status=row[3],
        attempts=row[4],
        at_most_once=bool(row[5]),
        started_at=row[6],
        completed_at=row[7],
        output=row[8],
        error=None if row[9] is None else _Failure.decode(row[9]),
        sequence=row[10],
        reused=bool(row[11]),
    )


def interrupts_of(rows: Iterable[Row]) -> list[Interrupt]:
    """Interrupts from rows of a head and one of its parts each; rows of the same head adjoin."""
    heads: list[tuple[Row, list[Part]]] = []
    for row in rows:
        if not heads or heads[-1][0][:2] != row[:2]:
            heads.append((row, []))
        heads[-1][1].append(_part_of(row[19:]))
    return [_interrupt_of(row, tuple(parts)) for row, parts in heads]


def _interrupt_of(row: Row, parts: tuple[Part, ...]) -> Interrupt:
    return Interrupt(
        interrupt_id=row[0],
        number=row[1],
        kind=Kind(row[2]),
        status=row[3],
        step=row[4],
        question=row[5],
        choices=None if row[6] is None else _Choices.decode(row[6]),
        reason=row[7],
        tool=row[8],
        tool_call_id=row[9],
        input=row[10],
        rule=row[11],
        input_hash=row[12],
        round=row[13],
        answer_role=row[14],
        created_at=row[15],
        resolved_at=row[16],
        sequence=row[17],
        resolved_sequence=row[18],
        parts=parts,
    )


def _part_of(row: Row) -> Part:
    return Part(
        tool_call_id=row[0],
        tool=row[1],
        namespace=row[2],
        input=row[3],
        expires_at=row[4],
        on_expiry=row[5],
        default=row[6],
        answer=row[7],
        by=row[8],
        caller=row[9],
        answered_at=row[10],
        claim_worker=row[11],
        claim_number=row[12],
        claim_until=row[13],
    )


def inbox_row_of(row: Row) -> InboxRow:
    return InboxRow(
        inbox_id=row[0],
        number=row[1],
        kind=row[2],
        interrupt_id=row[3],
        tool_call_id=row[4],
        answer=row[5],
        by=row[6],
        caller=row[7],
        reason=row[8],
        created_at=row[9],
    )


def thread_of(row: Row) -> Thread:
    return Thread(
        tenant=row[0],
        thread_id=row[1],
        agent=row[2],
        active=row[3],
        created_at=row[4],
        updated_at=row[5],
        last_timestamp=row[6],
    )


def message_of(row: Row) -> Message:
    return Message(
        message_id=row[0],
        number=row[1],
        role=row[2],
        content=row[3],
        media=row[4],
        detail=row[5],
        created_at=row[6],
        superseded=bool(row[7]),
    )


def idempotency_of(row: Row) -> IdempotencyRow:
    return IdempotencyRow(
        tenant=row[0],
        method=row[1],
        path=row[2],
        key=row[3],
        fingerprint=row[4],
        number=row[5],
        status=row[6],
        body=row[7],
        created_at=row[8],
        expires_at=row[9],
    )


def key_of(row: Row) -> ApiKey:
    return ApiKey(name=row[0], hash=row[1], role=row[2], tenant=row[3], created_at=row[4], revoked_at=row[5])


def file_of(row: Row) -> File:
    return File(
        file_id=row[0],
        tenant=row[1],
        number=row[2],
        name=row[3],
        media_type=row[4],
        size=row[5],
        sha256=row[6],
        created_at=row[7],
    )


def outbox_row_of(row: Row) -> OutboxRow:
    return OutboxRow(row[0], row[1], row[2], row[3])


# ── structs to rows ─────────────────────────────────────────────────────────────────────────────────────────────

_NO_SEGMENT = (None,) * 7


def segment_columns(segment: Segment | None) -> tuple[Any, ...]:
    if segment is None:
        return _NO_SEGMENT
    return (
        segment.first,
        segment.last,
        segment.first_timestamp,
        segment.last_timestamp,
        segment.hash,
        json_text(segment.marks) if segment.marks else None,
        segment.body,
    )


def append_row(write: Append) -> tuple[Any, ...]:
    return (write.number, write.lease_epoch, write.tail, *segment_columns(write.segment))


def change_row(write: Append, before: str | None, clock: float) -> tuple[Any, ...]:
    return (
        *append_row(write),
        write.unleased,
        write.release or write.unleased,
        clock,
        write.status,
        before,
        write.status is not None and write.status.is_final,
        write.attempt,
        write.output,
        json_text(write.error),
        write.usage,
        json_text(write.cancel),
        write.started_at,
        write.ended_at,
        write.executed_seconds,
    )


def start_row(write: StartRun, run: Run, now: int) -> tuple[Any, ...]:
    message, key = write.message, write.idempotency
    return (
        run.number,
        run.run_id,
        run.tenant,
        run.agent,
        run.agent_id,
        run.thread_id,
        run.parent,
        run.status,
        run.attempt,
        run.priority,
        run.superseded,
        run.input,
        run.output,
        json_text(run.error),
        json_text(run.cancel),
        run.usage,
        run.caller,
        run.role,
        run.trust,
        json_text(run.metadata),
        run.timeout_seconds,
        run.executed_seconds,
        run.created_at,
        run.started_at,
        run.ended_at,
        run.epoch,
        json_text(run.epochs),
        run.lease_owner,
        run.lease_epoch,
        run.lease_until,
        run.status.is_final,
        *segment_columns(write.segment),
        *(
            (None,) * 6
            if message is None
            else (
                message.message_id,
                message.role,
                message.content,
                message.media,
                message.detail,
                message.created_at,
            )
        ),
        *(
            (None,) * 6
            if key is None
            else (key.key, key.method, key.path, key.fingerprint, key.created_at, key.expires_at)
        ),
        write.queued_max,
        write.tenant_queued_max,
        now,
    )


def step_row(number: int, step: Step) -> tuple[Any, ...]:
    return (
        number,
        step.key,
        step.name,
        step.status,
        step.attempts,
        step.at_most_once,
        step.started_at,
        step.completed_at,
        step.output,
        json_text(step.error),
        step.sequence,
        step.reused,
    )


def interrupt_row(number: int, interrupt: Interrupt) -> tuple[Any, ...]:
    return (
        number,
        interrupt.interrupt_id,
        interrupt.kind,
        interrupt.status,
        interrupt.step,
        interrupt.question,
        json_text(interrupt.choices),
        interrupt.reason,
        interrupt.tool,
        interrupt.tool_call_id,
        interrupt.input,
        interrupt.rule,
        interrupt.input_hash,
        interrupt.round,
        interrupt.answer_role,
        interrupt.created_at,
        interrupt.resolved_at,
        interrupt.sequence,
        interrupt.resolved_sequence,
    )


def part_row(number: int, interrupt: Interrupt, part: Part) -> tuple[Any, ...]:
    return (
        number,
        interrupt.interrupt_id,
        part.tool_call_id,
        part.tool,
        part.namespace,
        part.input,
        part.expires_at,
        part.on_expiry,
        part.default,
        part.answer,
        part.by,
        part.caller,
        part.answered_at,
        part.claim_worker,
        part.claim_number,
        part.claim_until,
        part.answer is None and interrupt.is_pending,
    )


def message_row(number: int, message: Message) -> tuple[Any, ...]:
    return (
        message.message_id,
        number,
        message.role,
        message.content,
        message.media,
        message.detail,
        message.created_at,
        message.superseded,
    )


def inbox_columns(row: InboxRow) -> tuple[Any, ...]:
    return (
        row.number,
        row.kind,
        row.interrupt_id,
        row.tool_call_id,
        row.answer,
        row.by,
        row.caller,
        row.reason,
        row.created_at,
    )


def idempotency_columns(row: IdempotencyRow) -> tuple[Any, ...]:
    return (
        row.tenant,
        row.method,
        row.path,
        row.key,
        row.fingerprint,
        row.number,
        row.status,
        row.body,
        row.created_at,
        row.expires_at,
    )
