"""Writes as the kernel makes them: a `Hand` holds a run and continues its journal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model import Interrupt, Kind, Message, Part, Run, Segment, Status, Step
from holdfast.store.base import Answered, Append, IdempotencyRow, InboxRow, Outcome, PutInbox, Started, StartRun, Store

BEGINNING = 1_795_219_159_000_000
LEASE_SECONDS = 8.0

_ticks = count(1)

E = TypeVar("E", bound=HoldfastError)


def tick() -> int:
    """A timestamp after all that were given before."""
    return BEGINNING + 2 * next(_ticks)


def segment(
    number: int = 0, *, first: int = 0, count: int = 1, prior: bytes = bytes(32), pad: int = 0, **changes: Any
) -> Segment:
    stamps = [tick() for _ in range(count)]
    body = b"".join(b'{"sequence":%d,"pad":"%s"}\n' % (first + index, b"x" * pad) for index in range(count))
    made = Segment(
        number=number,
        first=first,
        last=first + count - 1,
        first_timestamp=stamps[0],
        last_timestamp=stamps[-1],
        body=body,
        hash=hashlib.sha256(prior + body).digest(),
    )
    return msgspec.structs.replace(made, **changes)


def start_run(run_id: str = "r1", **options: Any) -> StartRun:
    """A start; options of `StartRun` or fields of its run."""
    own = {name: options.pop(name) for name in list(options) if name in StartRun.__struct_fields__}
    first = own.pop("segment", None) or segment()
    status = options.pop("status", Status.RUNNING if options.get("lease_owner") else Status.QUEUED)
    fields: dict[str, Any] = {
        "agent": "agent",
        "agent_id": "id-of-agent",
        "input": b'{"q":1}',
        "created_at": tick(),
    } | options
    run = Run(number=0, run_id=run_id, status=status, tail_sequence=0, **fields)
    return StartRun(run=run, segment=first, lease_seconds=LEASE_SECONDS, **own)


def question(interrupt_id: str = "i1", *, parts: Sequence[Part] = (), **changes: Any) -> Interrupt:
    fields: dict[str, Any] = {"kind": Kind.QUESTION, "question": "Pay?", "choices": ("yes", "no"), "step": "ask"}
    fields |= {"created_at": tick(), "parts": tuple(parts) or (Part(),)} | changes
    return Interrupt(interrupt_id=interrupt_id, number=0, **fields)


def answered(answer: bytes = b'{"answer":"yes"}', *, interrupt_id: str = "i1", tool_call_id: str = "") -> Answered:
    return Answered(
        interrupt_id=interrupt_id, tool_call_id=tool_call_id, answer=answer, by="caller", caller="key", at=tick()
    )


def step(key: str = "fetch", **changes: Any) -> Step:
    made = Step(number=0, key=key, name=key, status="completed", started_at=tick(), output=b"1")
    return msgspec.structs.replace(made, **changes)


def message(message_id: str, **changes: Any) -> Message:
    made = Message(message_id=message_id, number=0, role="user", content="hello", created_at=tick())
    return msgspec.structs.replace(made, **changes)


def key_row(key: str = "k1", fingerprint: bytes = b"same", **changes: Any) -> IdempotencyRow:
    fields: dict[str, Any] = {"tenant": "default", "method": "POST", "path": "/runs", "expires_at": None} | changes
    return IdempotencyRow(key=key, fingerprint=fingerprint, created_at=tick(), **fields)


def inbox_answer(number: int, answer: bytes = b'{"answer":"yes"}', *, interrupt_id: str = "i1") -> PutInbox:
    row = InboxRow(
        number=number,
        kind="answer",
        interrupt_id=interrupt_id,
        answer=answer,
        by="caller",
        caller="key",
        created_at=tick(),
    )
    return PutInbox(row=row)


def inbox_cancel(number: int) -> PutInbox:
    return PutInbox(row=InboxRow(number=number, kind="cancel", reason="enough", created_at=tick()))


class Hand:
    """Continues the journal of one run."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run = store, run
        self.tail, self.prior, self.epoch = run.tail_sequence, run.head_hash, run.lease_epoch
        self.number = run.number

    def next(self, count: int = 1, *, pad: int = 0, **fields: Any) -> Append:
        """The next append; it counts as written."""
        made = segment(self.number, first=self.tail + 1, count=count, prior=self.prior, pad=pad) if count else None
        given = {"segment": made} | fields
        write = Append(number=self.number, lease_epoch=self.epoch, tail=self.tail, **given)
        if made is not None:
            self.tail, self.prior = made.last, made.hash
        self.epoch += write.unleased
        return write

    async def append(self, count: int = 1, **fields: Any) -> Append:
        """Append, and insist that it is written."""
        write = self.next(count, **fields)
        assert await self.store.commit([write]) == [None]
        return write

    async def finish(self, status: Status = Status.COMPLETED, **fields: Any) -> Append:
        return await self.append(status=status, output=b"true", ended_at=tick(), release=True, **fields)

    async def row(self) -> Run:
        run = await self.store.run_by_number(self.number)
        assert run is not None
        return run


async def one(store: Store, write: Any) -> Outcome:
    (outcome,) = await store.commit([write])
    return outcome


async def started(store: Store, run_id: str = "r1", **options: Any) -> Hand:
    """Start a run that has to start."""
    outcome = await one(store, start_run(run_id, **options))
    assert isinstance(outcome, Started), outcome
    return Hand(store, outcome.run)


async def held(store: Store, run_id: str = "r1", *, lease_owner: str = "me", **options: Any) -> Hand:
    """Start a run with a lease."""
    return await started(store, run_id, lease_owner=lease_owner, **options)


async def waiting(store: Store, run_id: str = "r1", *, interrupt: Interrupt | None = None, **options: Any) -> Hand:
    """Start a run and let it wait for an interrupt, with nobody holding it."""
    hand = await held(store, run_id, **options)
    await hand.append(status=Status.WAITING, interrupts=(interrupt or question(),), release=True)
    return hand


def refusal(outcome: object, kind: type[E]) -> E:
    """The error that a write came to."""
    assert type(outcome) is kind, outcome
    return outcome


async def journal(store: Store, number: int, *, bytes_max: int = 1 << 20) -> list[Segment]:
    """All segments of a run, page by page."""
    found: list[Segment] = []
    after = -1
    while page := await store.segments(number, after=after, bytes_max=bytes_max):
        found += page
        after = page[-1].last
    return found
