"""
Why a write was refused, told in full.

A procedure raises one word. What it means for the caller is looked up here, still in the same transaction, so that
the facts in the error are those that decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from holdfast.errors import (
    ConflictError,
    HoldfastError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InterruptNotFound,
    InterruptResolved,
    LeaseLost,
    RunExists,
    RunFinished,
    RunNotFound,
    ThreadBusy,
)
from holdfast.model import Kind
from holdfast.model.interrupt import shown_answer
from holdfast.store.base import Append, Behind, InboxRow, Outcome, Started, StartRun
from holdfast.store.places import of_queue
from holdfast.store.sql import statements
from holdfast.store.sqlite import rows
from holdfast.store.sqlite.connection import Connection

SQL: Final = statements("sqlite", "writes")
READS: Final = statements("sqlite", "reads")
RUN_BY_NUMBER: Final = READS["run_by_number"].replace("{run}", READS["run_columns"])

WORDS: Final = frozenset(
    {
        "lease_lost",
        "transition",
        "key_used",
        "run_exists",
        "thread_busy",
        "behind",
        "tenant_queue_full",
        "queue_full",
    }
)
"""What procedures.sql raises."""

Reason: TypeAlias = Callable[[str], Outcome]


class Refused(Exception):
    """A write did not pass; it left no trace. Never leaves the store."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def of_append(connection: Connection, writes: Sequence[Append]) -> Reason:
    """Why an append was refused; asked only when it was the only one."""

    def reason(word: str) -> Outcome:
        write = writes[0]
        head = _head(connection, write.number)
        if head is None:
            return LeaseLost(f"there is no run {write.number}", number=write.number)
        is_over, _, _, epoch, tail, status, run_id = head
        if word == "transition":
            return ConflictError(
                f"run {run_id}: a run that is {status} cannot become {write.status}", before=status, after=write.status
            )
        if is_over:
            found = f"it is {status}"
        elif epoch != write.lease_epoch:
            found = f"expected lease epoch {write.lease_epoch}, it is {epoch}"
        elif tail != write.tail:
            found = f"expected the journal to end at {write.tail}, it ends at {tail}"
        else:
            found = "somebody holds its lease"
        return LeaseLost(f"run {run_id}: {found}", number=write.number, status=status)

    return reason


def of_start(connection: Connection, writes: Sequence[StartRun], now: int) -> Reason:
    """Why a start was refused; asked only when it was the only one."""

    def reason(word: str) -> Outcome:
        write = writes[0]
        run = write.run
        if word == "key_used":
            return of_key(connection, write, now)
        if word == "run_exists":
            return RunExists(f"there is already a run {run.run_id}", run_id=run.run_id)
        if word == "thread_busy":
            active = connection.execute(SQL["active_of_thread"], (run.tenant, run.thread_id)).fetchone()
            run_id, status = active or ("", "")
            return ThreadBusy(
                f"thread {run.thread_id} has a run that is not finished: {run_id} is {status}",
                active_run_id=run_id,
                status=status,
            )
        if word == "behind":
            return Behind(connection.execute(SQL["newest_of_thread"], (run.tenant, run.thread_id)).get)
        return of_queue(word, write)

    return reason


def of_key(connection: Connection, write: StartRun, now: int) -> Outcome:
    """What an idempotency key that was used before makes of a start; None if it was not."""
    given = write.idempotency
    if given is None:
        return None
    row = connection.execute(
        READS["idempotency"], (write.run.tenant, given.method, given.path, given.key, now)
    ).fetchone()
    if row is None:
        return None
    known = rows.idempotency_of(row)
    if known.fingerprint != given.fingerprint:
        return IdempotencyKeyReused(f"the Idempotency-Key {given.key!r} belongs to another call", key=given.key)
    run = None if known.number is None else connection.execute(RUN_BY_NUMBER, (known.number,)).fetchone()
    if run is None:
        return IdempotencyInProgress(f"the first call with Idempotency-Key {given.key!r} is at work", key=given.key)
    return Started(rows.run_of(run), replayed=True)


def of_answer(
    connection: Connection, number: int, interrupt_id: str, tool_call_id: str
) -> InterruptNotFound | InterruptResolved | None:
    """Why a part takes no answer; None if it does."""
    row = connection.execute(SQL["part_answer"], (number, interrupt_id, tool_call_id)).fetchone()
    if row is None:
        return InterruptNotFound(f"there is no interrupt {interrupt_id!r} with a call {tool_call_id!r}")
    status, answer, by, kind = row
    if answer is None and status == "pending":
        return None
    return InterruptResolved(
        f"interrupt {interrupt_id} was resolved before",
        interrupt_id=interrupt_id,
        answer=shown_answer(Kind(kind), answer),
        by=by or "cancelled",
        status=status,
    )


def of_inbox(connection: Connection, row: InboxRow, clock: float) -> HoldfastError | None:
    """Why a fact cannot be left for a holder; None if it can."""
    head = _head(connection, row.number)
    if head is None:
        return RunNotFound(f"there is no run {row.number}")
    is_over, owner, until, _, _, status, run_id = head
    if row.kind == "answer":
        refusal = of_answer(connection, row.number, row.interrupt_id, row.tool_call_id)
        if refusal is not None:
            return refusal
    if is_over:
        return RunFinished(f"run {run_id} is {status}", status=status)
    if owner is None or until <= clock:
        return LeaseLost(f"run {run_id}: nobody holds its lease", number=row.number, status=status)
    return None


def _head(connection: Connection, number: int) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(SQL["head"], (number,)).fetchone()
    return row
