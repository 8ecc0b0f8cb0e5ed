"""What the procedures say of writes, as outcomes of the contract. Nothing here talks to the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

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
    StoreUnavailable,
    ThreadBusy,
)
from holdfast.model import Kind, Run
from holdfast.model.interrupt import shown_answer
from holdfast.store.base import Append, Behind, InboxRow, Outcome, PutInbox, Started, StartRun, Write
from holdfast.store.places import as_queued, is_limited, of_queue

Verdict = Mapping[str, Any]

_Verdicts = msgspec.json.Decoder(list[tuple[int, dict[str, Any]]])
_Claimed = msgspec.json.Decoder(list[tuple[int, str]])


class Replay(msgspec.Struct, frozen=True):
    """A start that was made before: its run has still to be read."""

    number: int
    key: str


def verdicts_of(text: str | None) -> dict[int, Verdict]:
    """The verdicts of a batch by place; a write that has none was done."""
    return {} if text is None else dict(_Verdicts.decode(text))


def claimed_of(text: str | None) -> list[tuple[int, str]]:
    """Numbers and statuses of what a claim found."""
    return [] if text is None else _Claimed.decode(text)


def outcome_of(write: Write, verdict: Verdict | None) -> Outcome | Replay:
    """What a write came to."""
    if verdict is None:
        return None
    if isinstance(write, StartRun):
        return _of_start(write, verdict)
    if isinstance(write, PutInbox):
        return _of_inbox(write.row, verdict)
    return _of_append(write, verdict)


def _of_start(write: StartRun, verdict: Verdict) -> Outcome | Replay:
    run = write.run
    match verdict.get("refused"):
        case None:
            if verdict["until"] is None and is_limited(write):
                write = as_queued(write)
            return Started(_numbered(write, verdict["number"], verdict["until"]))
        case "key_used":
            return _of_key(write, verdict)
        case "run_exists":
            return RunExists(f"there is already a run {run.run_id}", run_id=run.run_id)
        case "thread_busy":
            active, status = verdict["run_id"] or "", verdict["status"] or ""
            return ThreadBusy(
                f"thread {run.thread_id} has a run that is not finished: {active} is {status}",
                active_run_id=active,
                status=status,
            )
        case "behind":
            return Behind(verdict["newest"])
        case "queue_full" | "tenant_queue_full" as word:
            return of_queue(word, write)
        case _:
            return _away()


def _of_key(write: StartRun, verdict: Verdict) -> Outcome | Replay:
    given = write.idempotency
    assert given is not None
    if _bytes(verdict["fingerprint"]) != given.fingerprint:
        return IdempotencyKeyReused(f"the Idempotency-Key {given.key!r} belongs to another call", key=given.key)
    return in_progress(given.key) if verdict["number"] is None else Replay(verdict["number"], given.key)


def in_progress(key: str) -> IdempotencyInProgress:
    return IdempotencyInProgress(f"the first call with Idempotency-Key {key!r} is at work", key=key)


def _numbered(write: StartRun, number: int, until: float | None) -> Run:
    """The run of a start as it is kept."""
    run, segment = write.run, write.segment
    return msgspec.structs.replace(
        run,
        number=number,
        lease_epoch=run.lease_epoch if run.lease_owner is None else max(run.lease_epoch, 1),
        lease_until=until,
        first_sequence=segment.first,
        tail_sequence=segment.last,
        head_hash=segment.hash,
        last_timestamp=segment.last_timestamp,
    )


def _of_append(write: Append, verdict: Verdict) -> HoldfastError:
    match verdict["refused"]:
        case "interrupt_not_found" | "interrupt_resolved":
            return _of_answer(verdict)
        case "transition":
            before, after = verdict["before"], verdict["after"]
            return ConflictError(
                f"run {verdict['run_id']}: a run that is {before} cannot become {after}", before=before, after=after
            )
        case "away":
            return _away()
        case _:
            return _lease_lost(write, verdict)


def _lease_lost(write: Append, verdict: Verdict) -> LeaseLost:
    if "run_id" not in verdict:
        return LeaseLost(f"there is no run {write.number}", number=write.number)
    if verdict["is_over"]:
        found = f"it is {verdict['status']}"
    elif verdict["epoch"] != write.lease_epoch:
        found = f"expected lease epoch {write.lease_epoch}, it is {verdict['epoch']}"
    elif verdict["tail"] != write.tail:
        found = f"expected the journal to end at {write.tail}, it ends at {verdict['tail']}"
    else:
        found = "somebody holds its lease"
    return LeaseLost(f"run {verdict['run_id']}: {found}", number=write.number, status=verdict["status"])


def _of_inbox(row: InboxRow, verdict: Verdict) -> Outcome:
    match verdict.get("refused"):
        case None:
            return msgspec.structs.replace(row, inbox_id=verdict["inbox_id"])
        case "interrupt_not_found" | "interrupt_resolved":
            return _of_answer(verdict)
        case "away":
            return _away()
        case "run_not_found":
            return RunNotFound(f"there is no run {row.number}")
        case _:
            return _not_held(row, verdict)


def _not_held(row: InboxRow, verdict: Verdict) -> RunFinished | LeaseLost:
    run_id, status = verdict["run_id"], verdict["status"]
    if verdict["is_over"]:
        return RunFinished(f"run {run_id} is {status}", status=status)
    return LeaseLost(f"run {run_id}: nobody holds its lease", number=row.number, status=status)


def _of_answer(verdict: Verdict) -> InterruptNotFound | InterruptResolved:
    interrupt_id = verdict["interrupt_id"]
    if verdict["refused"] == "interrupt_not_found":
        return InterruptNotFound(f"there is no interrupt {interrupt_id!r} with a call {verdict['call']!r}")
    answer = verdict["answer"]
    return InterruptResolved(
        f"interrupt {interrupt_id} was resolved before",
        interrupt_id=interrupt_id,
        answer=shown_answer(Kind(verdict["kind"]), None if answer is None else _bytes(answer)),
        by=verdict["by"] or "cancelled",
        status=verdict["status"],
    )


def _away() -> StoreUnavailable:
    return StoreUnavailable("this process did not reach the database for more than 10 s; try again in a moment")


_HEX: Final = "\\x"


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix(_HEX))
