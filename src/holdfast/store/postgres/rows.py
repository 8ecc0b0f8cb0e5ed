"""Rows as structs. Columns bear the names of the fields; what is structured in them is JSON as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

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
from holdfast.store.base import Growth, IdempotencyRow, InboxRow, OutboxRow
from holdfast.store.postgres.connection import Record

_Failure = msgspec.json.Decoder(Failure)
_Cancel = msgspec.json.Decoder(Cancel)
_Epochs = msgspec.json.Decoder(tuple[tuple[int, int], ...])
_Choices = msgspec.json.Decoder(tuple[str, ...])
_Object = msgspec.json.Decoder(dict[str, Any])
_Marks = msgspec.json.Decoder(tuple[tuple[int, int, str], ...])
_Rollbacks = msgspec.json.Decoder(tuple[tuple[int, int], ...])

# What `documents.escaped` writes, and not behind a backslash that is one of the text's own.
_ESCAPED: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u001b([01])")

# In the columns of an interrupt with one of its parts, those of the part begin here.
_PART_FROM = 19


def run_of(row: Record) -> Run:
    fields = dict(row)
    fields["status"] = Status(fields["status"])
    fields["metadata"] = {} if fields["metadata"] == "{}" else _Object.decode(_unescaped(fields["metadata"]))
    fields["epochs"] = () if fields["epochs"] == "[]" else _Epochs.decode(fields["epochs"])
    if fields["error"] is not None:
        fields["error"] = _Failure.decode(fields["error"])
    if fields["cancel"] is not None:
        fields["cancel"] = _Cancel.decode(fields["cancel"])
    return Run(**fields)


def _unescaped(text: str) -> str:
    """JSON as it was, of JSON into which Postgres can look."""
    if r"\u001b" not in text:
        return text
    return _ESCAPED.sub(lambda found: found[1] + (r"\u0000" if found[2] == "0" else r"\u001b"), text)


def segment_of(row: Record) -> Segment:
    return Segment(
        number=row[0],
        first=row[1],
        last=row[2],
        first_timestamp=row[3],
        last_timestamp=row[4],
        body=row[5],
        hash=row[6],
        marks=() if row[7] is None else _Marks.decode(row[7]),
    )


def growth_of(rows: Iterable[Record]) -> dict[int, Growth]:
    """From rows of a segment each, with how far the journal goes; without a body where it was one too many."""
    found: dict[int, Growth] = {}
    segments: list[Segment] = []
    for row in rows:
        if row[0] not in found:
            segments = []
            found[row[0]] = Growth(row[8], row[9], segments)
        if row[5] is not None:
            segments.append(segment_of(row))
    return found


def step_of(row: Record) -> Step:
    fields = dict(row)
    if fields["error"] is not None:
        fields["error"] = _Failure.decode(fields["error"])
    return Step(**fields)


def interrupts_of(rows: Iterable[Record]) -> list[Interrupt]:
    """Interrupts from rows of a head and one of its parts each; rows of the same head adjoin."""
    heads: list[tuple[tuple[Any, ...], list[Part]]] = []
    for row in map(tuple, rows):
        if not heads or heads[-1][0][:2] != row[:2]:
            heads.append((row, []))
        heads[-1][1].append(Part(**dict(zip(Part.__struct_fields__, row[_PART_FROM:], strict=True))))
    return [_interrupt_of(row, tuple(parts)) for row, parts in heads]


def _interrupt_of(row: tuple[Any, ...], parts: tuple[Part, ...]) -> Interrupt:
    fields = dict(zip(Interrupt.__struct_fields__[:_PART_FROM], row, strict=False))
    fields["kind"] = Kind(fields["kind"])
    if fields["choices"] is not None:
        fields["choices"] = _Choices.decode(fields["choices"])
    return Interrupt(**fields, parts=parts)


def inbox_row_of(row: Record) -> InboxRow:
    return InboxRow(**dict(row))


def thread_of(row: Record) -> Thread:
    return Thread(**dict(row))


def message_of(row: Record) -> Message:
    return Message(**dict(row))


def idempotency_of(row: Record) -> IdempotencyRow:
    return IdempotencyRow(**dict(row))


def key_of(row: Record) -> ApiKey:
    return ApiKey(**dict(row))


def file_of(row: Record) -> File:
    return File(**dict(row))


def outbox_row_of(row: Record) -> OutboxRow:
    return OutboxRow(*row)


def rollbacks_of(text: str | None) -> tuple[tuple[int, int], ...]:
    """What `Lost.rolled_back` is, out of the meta table."""
    return _Rollbacks.decode(text or "[]")
