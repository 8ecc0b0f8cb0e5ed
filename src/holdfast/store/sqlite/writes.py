"""
How writes are carried out, on the writing connection and in its thread.

Nothing here begins or ends a transaction; the writer does. Each write is checked and made by one INSERT into a view
of procedures.sql, which either happens as a whole or leaves no trace; what hangs on it follows when it has passed.
Adjacent writes of one kind go as one statement. If that is refused, one of them was at fault, and they go one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from holdfast.clock import Clock
from holdfast.errors import InterruptNotFound, StorageFull
from holdfast.model import Run, Segment, Status
from holdfast.model.lifecycle import TRANSITIONS
from holdfast.store.base import Answered, Append, InboxRow, OutboxRow, Outcome, PutInbox, Started, StartRun, Write
from holdfast.store.places import as_queued, is_limited
from holdfast.store.sql import rows_of, statements
from holdfast.store.sqlite import refusals, rows
from holdfast.store.sqlite.connection import Connection, ConstraintError
from holdfast.store.sqlite.schema import set_meta

SQL: Final = statements("sqlite", "writes")

# Rows in one statement: up to the smallest number each count has its own prepared statement, above it only these.
ROWS_SIZES: Final = (128, 32, 8)
STARTS_MAX: Final = 32  # the text of a longer one would be too long for the driver's cache of statements

BEFORE: Final = {
    after: f",{','.join(s for s in Status if after in TRANSITIONS[s] or (after is s and not s.is_final))},"
    for after in Status
}
"""The statuses that each one may follow, as text for `instr`."""

Carry: TypeAlias = Callable[[Sequence[Any]], list[Outcome]]


class Writes:
    """Carries writes out, and knows the newest number and the longest span of a segment."""

    def __init__(
        self, connection: Connection, clock: Clock, *, last_number: int, span_max: int, has_room: Callable[[], bool]
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._clock = clock
        self._has_room = has_room
        self._texts: dict[tuple[str, int], str] = {}
        self._before = (last_number, span_max)
        # Without an endpoint nobody hears of anything, and no row of the outbox is even tried.
        self.has_endpoints = bool(connection.execute(SQL["has_endpoints"]).get)
        self.last_number = last_number
        self.span_max = span_max
        self.last_timestamp = 0  # the newest one since `begin`

    def begin(self) -> None:
        """A transaction begins."""
        self._before = (self.last_number, self.span_max)
        self.last_timestamp = 0

    def undo(self) -> None:
        """The transaction was rolled back."""
        self.last_number, self.span_max = self._before
        self.last_timestamp = 0

    def is_one_statement(self, writes: Sequence[Write]) -> bool:
        """Whether all of these make a single statement, which needs no transaction around it."""
        return len(writes) <= ROWS_SIZES[-1] and all(
            type(write) is Append
            and _is_plain(write)
            and not _hangs_on(write)
            and (write.segment is None or _span(write.segment) <= self.span_max)
            for write in writes
        )

    def carry_out(self, writes: Sequence[Write]) -> list[Outcome]:
        """
        Carry the writes out, and return what each came to.

        After an error of the driver the transaction has to be rolled back.
        """
        outcomes: list[Outcome] = [None] * len(writes)
        for carry, places in self._grouped(writes):
            for place, outcome in zip(places, self._together(carry, [writes[i] for i in places]), strict=True):
                outcomes[place] = outcome
        return outcomes

    def _grouped(self, writes: Sequence[Write]) -> Iterator[tuple[Carry, list[int]]]:
        """
        Neighbours of one kind, in order. Plain appends go first, together: they touch nothing but their own run,
        and one that comes after another write to its run stays behind it.
        """
        plain: list[int] = []
        others: list[int] = []
        touched: set[int] = set()
        for place, write in enumerate(writes):
            if type(write) is Append:
                if write.number not in touched and _is_plain(write):
                    plain.append(place)
                    continue
                touched.add(write.number)
            elif type(write) is PutInbox:
                touched.add(write.row.number)
            others.append(place)
        if plain:
            yield self._append, plain
        start = 0
        while start < len(others):
            carry = self._kind(writes[others[start]])
            end = start + 1
            while end < len(others) and self._kind(writes[others[end]]) == carry:
                end += 1
            yield carry, others[start:end]
            start = end

    def _kind(self, write: Write) -> Carry:
        if type(write) is Append:
            if _is_plain(write):
                return self._append
            return self._answer if write.answers else self._change
        return self._start if type(write) is StartRun else self._put_inbox

    def _together(self, carry: Carry, writes: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for some in _chunks(writes, self._rows_max(carry, writes)):
            try:
                outcomes += carry(some)
            except refusals.Refused as refused:
                if len(some) == 1:
                    outcomes.append(refused.outcome)
                else:
                    for write in some:
                        outcomes += self._together(carry, [write])
        return outcomes

    def _rows_max(self, carry: Carry, writes: Sequence[Any]) -> int:
        if carry == self._start:
            # Whether there is a place is counted before each one that is limited.
            return 1 if any(is_limited(write) for write in writes) else STARTS_MAX
        return 1 if carry in (self._answer, self._put_inbox) else ROWS_SIZES[0]

    # Appends

    def _append(self, writes: Sequence[Append]) -> list[Outcome]:
        self._note_span(writes)
        self._insert(
            "append", [rows.append_row(write) for write in writes], refusals.of_append(self._connection, writes)
        )
        self._hang_on(writes)
        self._note_newest(writes)
        return [None] * len(writes)

    def _change(self, writes: Sequence[Append]) -> list[Outcome]:
        self._note_span(writes)
        clock = self._clock.monotonic()
        changes = [
            rows.change_row(write, None if write.status is None else BEFORE[write.status], clock) for write in writes
        ]
        self._insert("change", changes, refusals.of_append(self._connection, writes))
        self._hang_on(writes)
        self._note_newest(writes)
        return [None] * len(writes)

    def _answer(self, writes: Sequence[Append]) -> list[Outcome]:
        (write,) = writes
        for answer in write.answers:
            self._check_open(write, answer)
        self._change(writes)
        for answer in write.answers:
            self._answer_part(write.number, answer)
        return [None]

    def _check_open(self, write: Append, answer: Answered) -> None:
        refusal = refusals.of_answer(self._connection, write.number, answer.interrupt_id, answer.tool_call_id)
        if isinstance(refusal, InterruptNotFound) and any(
            item.interrupt_id == answer.interrupt_id and part.tool_call_id == answer.tool_call_id
            for item in write.interrupts
            for part in item.parts
        ):
            return  # the same write brings it
        if refusal is not None:
            raise refusals.Refused(refusal)

    def _answer_part(self, number: int, answer: Answered) -> None:
        self._execute(
            SQL["answer_part"],
            (answer.answer, answer.by, answer.caller, answer.at, number, answer.interrupt_id, answer.tool_call_id),
        )

    def _hang_on(self, writes: Sequence[Append]) -> None:
        """Write what hangs on appends that have passed."""
        if not any(_hangs_on(write) for write in writes):
            return
        self._record([(write.number, write) for write in writes])
        self._insert("messages", [rows.message_row(write.number, item) for write in writes for item in write.messages])
        done = [inbox_id for write in writes for inbox_id in write.inbox_done]
        if done:
            self._execute(SQL["inbox_done"], (rows.json_text(done),))
        self._put_outbox([row for write in writes for row in write.outbox])

    def _record(self, writes: Sequence[tuple[int, Append | StartRun]]) -> None:
        """Write the steps and interrupts of writes to runs of these numbers."""
        self._insert("steps", [rows.step_row(number, step) for number, write in writes for step in write.steps])
        interrupts = [(number, interrupt) for number, write in writes for interrupt in write.interrupts]
        if not interrupts:
            return
        self._insert("interrupts", [rows.interrupt_row(*item) for item in interrupts])
        self._insert("parts", [rows.part_row(*item, part) for item in interrupts for part in item[1].parts])
        for number, interrupt in interrupts:
            if not interrupt.is_pending:
                self._execute(SQL["close_parts"], (number, interrupt.interrupt_id))

    # Starts

    def _start(self, writes: Sequence[StartRun]) -> list[Outcome]:
        if not self._has_room():
            return [self._start_without_room(write) for write in writes]
        if is_limited(writes[0]) and not self._has_place(writes[0]):
            writes = [as_queued(writes[0])]
        now, clock = self._clock.now(), self._clock.monotonic()
        runs = [_numbered(write, self.last_number + place, clock) for place, write in enumerate(writes, 1)]
        self._note_span(writes)
        starts = [rows.start_row(write, run, now) for write, run in zip(writes, runs, strict=True)]
        self._insert("start", starts, refusals.of_start(self._connection, writes, now))
        self.last_number += len(runs)
        self._record([(run.number, write) for write, run in zip(writes, runs, strict=True)])
        for write, run in zip(writes, runs, strict=True):
            if write.supersedes:
                numbers = (run.tenant, rows.json_text(write.supersedes))
                self._execute(SQL["supersede_runs"], numbers)
                self._execute(SQL["supersede_messages"], numbers)
            self._put_outbox([msgspec.structs.replace(row, number=run.number) for row in write.outbox])
        self._note_newest(writes)
        return [Started(run) for run in runs]

    def _has_place(self, write: StartRun) -> bool:
        """Whether a run may begin at once; nobody else writes meanwhile."""
        given = {
            "tenant": write.run.tenant,
            "agent": write.run.agent,
            "priority": write.run.priority,
            "tenant_most": write.tenant_runs_max,
            "agent_most": write.agent_runs_max,
        }
        return bool(self._execute(SQL["has_place"], given).get)

    def _start_without_room(self, write: StartRun) -> Outcome:
        """A start that was made before still gives its run."""
        outcome = refusals.of_key(self._connection, write, self._clock.now())
        return outcome or StorageFull("the disk is almost full: running runs go on, new ones are not taken")

    # Facts from outside

    def _put_inbox(self, writes: Sequence[PutInbox]) -> list[Outcome]:
        row = writes[0].row
        refusal = refusals.of_inbox(self._connection, row, self._clock.monotonic())
        if refusal is not None:
            raise refusals.Refused(refusal)
        if row.kind == "answer":
            answer = Answered(
                interrupt_id=row.interrupt_id,
                tool_call_id=row.tool_call_id,
                answer=row.answer,
                by=row.by,
                caller=row.caller,
                at=row.created_at,
            )
            self._answer_part(row.number, answer)
        self._execute(SQL["inbox"], rows.inbox_columns(row))
        return [_kept(row, self._connection.last_insert_rowid())]

    # Helpers

    def _put_outbox(self, outbox: Sequence[OutboxRow]) -> None:
        if not self.has_endpoints:
            outbox = [row for row in outbox if row.endpoint_id]
        self._insert("outbox", [(row.endpoint_id, row.number, row.sequence, row.created_at) for row in outbox])

    def _insert(self, name: str, given: Sequence[tuple[Any, ...]], refused: refusals.Reason | None = None) -> None:
        """Insert rows by a named statement; `refused` tells what a word that a procedure raised means."""
        for some in _chunks(given, ROWS_SIZES[0]):
            text = self._texts.get((name, len(some)))
            if text is None:
                text = self._texts[name, len(some)] = rows_of(SQL[name], len(some[0]), len(some))
            try:
                self._execute(text, some[0] if len(some) == 1 else [value for row in some for value in row])
            except ConstraintError as error:
                if refused is None or str(error) not in refusals.WORDS:
                    raise
                raise refusals.Refused(refused(str(error))) from None

    def _note_span(self, writes: Sequence[Append | StartRun]) -> None:
        span = max((_span(write.segment) for write in writes if write.segment is not None), default=0)
        if span > self.span_max:
            # Rounded up, so that it is written a few times in the life of a store and not at every record.
            self.span_max = 1 << span.bit_length()
            set_meta(self._connection, "span_max", self.span_max)

    def _note_newest(self, writes: Sequence[Append | StartRun]) -> None:
        """Only of writes that passed: a store that is older than what is noted counts as a restored backup."""
        for write in writes:
            if write.segment is not None and write.segment.last_timestamp > self.last_timestamp:
                self.last_timestamp = write.segment.last_timestamp


def _is_plain(write: Append) -> bool:
    """Whether it changes nothing of the run but its journal."""
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


def _hangs_on(write: Append) -> bool:
    return bool(write.steps or write.interrupts or write.messages or write.inbox_done or write.outbox)


def _span(segment: Segment) -> int:
    return segment.last_timestamp - segment.first_timestamp


def _numbered(write: StartRun, number: int, clock: float) -> Run:
    """The run of a start as it is kept."""
    run, segment = write.run, write.segment
    is_leased = run.lease_owner is not None
    return msgspec.structs.replace(
        run,
        number=number,
        lease_epoch=max(run.lease_epoch, 1) if is_leased else run.lease_epoch,
        lease_until=clock + write.lease_seconds if is_leased else None,
        first_sequence=segment.first,
        tail_sequence=segment.last,
        head_hash=segment.hash,
        last_timestamp=segment.last_timestamp,
    )


def _kept(row: InboxRow, inbox_id: int) -> InboxRow:
    return msgspec.structs.replace(row, inbox_id=inbox_id)


def _chunks(items: Sequence[Any], rows_max: int) -> Iterator[Sequence[Any]]:
    """Pieces of the sizes for which there are prepared statements."""
    start = 0
    while left := len(items) - start:
        size = min(left, rows_max)
        if size > ROWS_SIZES[-1]:
            size = next(known for known in ROWS_SIZES if known <= size)
        yield items[start : start + size]
        start += size
