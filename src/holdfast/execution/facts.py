"""
Facts from outside: an answer, an expiry, a cancellation. Exactly one answer of an interrupt wins, whoever gives it.

    nobody executes the run      one transaction writes answer, event and status, and fences a former holder off
    somebody does                one transaction decides the race and leaves the fact in the inbox; the holder of the
                                 lease is woken, writes the event and goes on
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from holdfast.errors import (
    HoldfastError,
    InterruptNotFound,
    InterruptResolved,
    LeaseLost,
    RunFinished,
    RunNotFound,
    StoreUnavailable,
)
from holdfast.execution.events import (
    answer_events,
    answered,
    cancelled_event,
    error_event,
    outbox_of,
    segment_of,
    untold,
    void_interrupt,
)
from holdfast.execution.guarded import clean_fields
from holdfast.execution.program import Closing, spec_of
from holdfast.execution.redaction import redactor_of
from holdfast.journal import Journal
from holdfast.model import Cancel, Failure, Interrupt, Run, Status, Step
from holdfast.model.interrupt import encode_answer
from holdfast.store.base import Answered, Append, InboxRow, PutInbox, Write

if TYPE_CHECKING:
    from holdfast.execution.worker import Worker

log = structlog.get_logger(__name__)

# Each turn of the loop means that somebody else changed the run between our read and our write.
TRIES_MAX = 20


Events = Sequence[tuple[str, str]]
Clean = Callable[[Run, Events], Events]


class Given(msgspec.Struct, frozen=True):
    """An answer that was given, and by whom."""

    answer: bytes
    by: str
    caller: str
    at: int


class Facts:
    """Brings facts from outside into journals."""

    def __init__(self, journal: Journal, worker: Worker) -> None:
        self._journal = journal
        self._store = journal.store
        self._worker = worker

    async def answer(self, run_number: int, interrupt_id: str, part_id: str, given: Given) -> Interrupt:
        """
        Answer one part. The interrupt as it is afterwards comes back; the answer is durable.

        Giving the answer that it has already is a success, if it was given and did not come by expiry.

        Raises:
            InterruptResolved: it has another answer (`answer`, `by`).
            RunFinished, InterruptNotFound
        """
        is_held = True  # by a lease that still runs, as far as we know
        for _ in range(TRIES_MAX):
            run, interrupt = await self._find(run_number, interrupt_id)
            part = next((part for part in interrupt.parts if part.tool_call_id == part_id), None)
            if part is None:
                raise InterruptNotFound(f"interrupt {interrupt_id} has no call {part_id!r}")
            if part.answer == given.answer and given.by == part.by == "caller":
                return interrupt
            if part.answer is not None or not interrupt.is_pending:
                raise resolved_already(interrupt, part.answer, part.by)
            if run.status.is_final:
                raise RunFinished(f"run {run.run_id} is {run.status}", status=run.status.value)
            try:
                if run.is_leased and is_held:
                    return await self._answer_held(run, interrupt, part_id, given)
                return await self._answer_unheld(run, interrupt, part_id, given)
            except (LeaseLost, InterruptResolved):
                is_held = not is_held  # the row cannot tell whether a lease has run out: the other way is next
        raise StoreUnavailable(f"run {run_number} changed {TRIES_MAX} times while it was answered; try again")

    async def answer_calls(self, run_number: int, given: Mapping[str, Given]) -> set[str]:
        """
        Answer tool calls of a run, by their ids, whichever of its rounds they are of. All that is stored is stored in one
        transaction; the ids of it come back. A call that has an answer keeps it, and a run that is over takes none.
        """
        is_held = True
        for _ in range(TRIES_MAX):
            run, interrupts = await self._read(run_number)
            pending = {
                part.tool_call_id: interrupt
                for interrupt in interrupts
                for part in interrupt.parts
                if interrupt.is_pending and part.answer is None
            }
            places = {call_id: pending[call_id] for call_id in given if call_id in pending}
            if not places or run.status.is_final:
                return set()
            try:
                if run.is_leased and is_held:
                    return await self._answer_calls_held(run, places, given)
                return await self._answer_calls_unheld(run, places, given)
            except RunFinished:
                return set()
            except (LeaseLost, InterruptResolved):
                is_held = not is_held
        raise StoreUnavailable(f"run {run_number} changed {TRIES_MAX} times while it was answered; try again")

    async def _answer_calls_held(
        self, run: Run, places: Mapping[str, Interrupt], given: Mapping[str, Given]
    ) -> set[str]:
        # Submitted in one turn of the loop, so the committer takes them as one batch. Of each it is decided alone who
        # was first; a lease that is lost refuses them all.
        rows = [_inbox_row(interrupt, call_id, given[call_id]) for call_id, interrupt in places.items()]
        outcomes = await asyncio.gather(*(self._journal.submit(_putting(row)) for row in rows), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        stored = {
            row.tool_call_id
            for row, outcome in zip(rows, outcomes, strict=True)
            if not isinstance(outcome, BaseException)
        }
        if not stored or not all(isinstance(failure, InterruptResolved | RunFinished) for failure in failures):
            others = [failure for failure in failures if not isinstance(failure, InterruptResolved)]
            raise (others or failures)[0]
        await self._await_written(run, stored)
        return stored

    async def _await_written(self, run: Run, call_ids: Collection[str]) -> None:
        """The answers are durable; wait up to 5 s until the run's holder has written them into the journal."""
        await self._worker.look_at_inbox([run.number])
        deadline = asyncio.get_running_loop().time() + self._worker.settings.holder_seconds
        while asyncio.get_running_loop().time() < deadline:
            if not any(row.tool_call_id in call_ids for row in await self._store.inbox([run.number])):
                return
            await self._worker.changed(run.number)

    async def _answer_calls_unheld(
        self, run: Run, places: Mapping[str, Interrupt], given: Mapping[str, Given]
    ) -> set[str]:
        heads: dict[str, Interrupt] = {}
        events: list[tuple[str, str]] = []
        ends: dict[str, int] = {}  # of each interrupt that is resolved by this, the place of its last event
        answers: list[Answered] = []
        for call_id, interrupt in places.items():
            fact = given[call_id]
            head = heads.get(interrupt.interrupt_id, interrupt)
            head = answered(head, call_id, fact.answer, by=fact.by, caller=fact.caller, at=fact.at)
            heads[head.interrupt_id] = head
            events += answer_events(head, call_id)
            ends[head.interrupt_id] = len(events)
            answers.append(_answered_row(head, call_id, fact))
        events = list(self._clean(run, events))
        after = [_resolved(head, run.tail_sequence + ends[name]) for name, head in heads.items()]
        await self._journal.submit(_append_of(run, events, after, answers=tuple(answers)))
        self._worker.wake()
        return set(places)

    async def cancel(self, run_number: int, reason: str) -> None:
        """
        Ask a run to end as cancelled. One that nobody executes is cancelled when this returns; another one is
        stopped by whoever executes it. Asking again changes nothing.

        Raises:
            RunFinished: it is completed or failed.
        """
        is_held = True
        for _ in range(TRIES_MAX):
            run = await self._store.run_by_number(run_number)
            if run is None:
                raise RunNotFound(f"there is no run {run_number}")
            if run.status is Status.CANCELLED or (run.cancel is not None and not run.status.is_final):
                return  # its holder, or whoever takes it up after that, ends it
            if run.status.is_final:
                raise RunFinished(f"run {run.run_id} is {run.status}", status=run.status.value)
            now = self._worker.clock.now()
            try:
                if run.is_leased and is_held:
                    row = InboxRow(number=run.number, kind="cancel", reason=reason, created_at=now)
                    await self._journal.submit(lambda _: PutInbox(row=row))  # noqa: B023  submit builds at once
                    await self._worker.look_at_inbox([run.number])
                    return
                await self._end(run, Cancel(reason, now, now))
                return
            except (LeaseLost, RunFinished):
                is_held = not is_held
        raise StoreUnavailable(f"run {run_number} changed {TRIES_MAX} times while it was cancelled; try again")

    async def fail(self, run: Run, failure: Failure) -> None:
        """
        End a run that nobody executes as failed.

        Raises:
            LeaseLost: somebody took it, or it is over.
        """
        await self._end(run, failure)

    async def fail_refused(self, run: Run, refusal: HoldfastError) -> None:
        """
        End a run as failed of which the store refused a write, for another reason than a lost lease. Where that is
        refused as well, its lease runs out, and whoever claims it then tries again.
        """
        failure = Failure(f"what the run did cannot be stored: {refusal.message}", HoldfastError.code)
        try:
            current = await self._store.run_by_number(run.number)
            if current is None or current.status.is_final or current.lease_epoch != run.lease_epoch:
                return
            await self._end(current, failure, unleased=False)
        except LeaseLost:
            return
        except HoldfastError as error:
            log.error("run_left", run_id=run.run_id, reason=error.code, message=str(error))

    async def expire(self, interrupt: Interrupt) -> None:
        """Answer the overdue parts of an interrupt with their defaults; one that was answered just now is left."""
        now = self._worker.clock.now()
        for part in interrupt.parts:
            if part.answer is None and part.expires_at is not None and part.expires_at <= now:
                given = Given(part.default or encode_answer({"answer": None}), "expiry", "", now)
                try:
                    await self.answer(interrupt.number, interrupt.interrupt_id, part.tool_call_id, given)
                except (InterruptResolved, RunFinished, InterruptNotFound):
                    continue

    async def apply_inbox(self, run: Run) -> None:
        """Write the facts that a holder left behind when it let the run go."""
        rows = await self._store.inbox([run.number])
        for place, row in enumerate(rows):
            current = await self._store.run_by_number(run.number)
            if current is None or current.is_leased or current.status.is_final:
                return
            try:
                if row.kind == "cancel":
                    await self._end(current, Cancel(row.reason, row.created_at, row.created_at))
                    continue
                _, interrupt = await self._find(run.number, row.interrupt_id)
                interrupt = untold(interrupt, rows[place:])
                await self._journal.submit(_inbox_append(current, interrupt, row, self._clean))
                self._worker.wake()
            except LeaseLost:
                return  # somebody took the run: its new holder looks at the inbox itself

    def _clean(self, run: Run, events: Events) -> Events:
        """Events without what the policy of the run's agent redacts; it may be one that is not served here."""
        program = self._worker.programs.get(run.agent)
        redactor = None if program is None else redactor_of(spec_of(program).safety.redact_patterns)
        return events if redactor is None else [(name, clean_fields(redactor, name, own)) for name, own in events]

    async def _find(self, run_number: int, interrupt_id: str) -> tuple[Run, Interrupt]:
        run, interrupts = await self._read(run_number)
        for interrupt in interrupts:
            if interrupt.interrupt_id == interrupt_id:
                return run, interrupt
        raise InterruptNotFound(f"run {run.run_id} has no interrupt {interrupt_id!r}")

    async def _read(self, run_number: int) -> tuple[Run, Sequence[Interrupt]]:
        run = await self._store.run_by_number(run_number)
        if run is None:
            raise RunNotFound(f"there is no run {run_number}")
        self._journal.raise_floor(run.last_timestamp)  # another process may have written it, by a faster clock
        return run, await self._store.interrupts(run_number)

    async def _answer_held(self, run: Run, interrupt: Interrupt, part_id: str, given: Given) -> Interrupt:
        after = answered(interrupt, part_id, given.answer, by=given.by, caller=given.caller, at=given.at)
        await self._journal.submit(_putting(_inbox_row(interrupt, part_id, given)))
        return await self._await_holder(run, after)

    async def _answer_unheld(self, run: Run, interrupt: Interrupt, part_id: str, given: Given) -> Interrupt:
        after = answered(interrupt, part_id, given.answer, by=given.by, caller=given.caller, at=given.at)
        answer = _answered_row(interrupt, part_id, given)
        await self._journal.submit(_answer_append(run, after, part_id, self._clean, answers=(answer,)))
        self._worker.wake()
        # It would have been refused, had the journal not ended where the run's row says.
        return _resolved(after, run.tail_sequence + len(answer_events(after, part_id)))

    async def _await_holder(self, run: Run, after: Interrupt) -> Interrupt:
        """The answer is durable; wait up to 5 s for its sequence in the journal."""
        await self._worker.look_at_inbox([run.number])
        deadline = asyncio.get_running_loop().time() + self._worker.settings.holder_seconds
        while asyncio.get_running_loop().time() < deadline:
            _, current = await self._find(run.number, after.interrupt_id)
            if current.resolved_sequence is not None or after.is_pending:
                return current
            await self._worker.changed(run.number)
        return after

    async def _end(self, run: Run, end: Cancel | Failure, *, unleased: bool = True) -> None:
        self._journal.raise_floor(run.last_timestamp)  # another process may have written it, by a faster clock
        interrupts = [item for item in await self._store.interrupts(run.number) if item.is_pending]
        now = self._worker.clock.now()
        voided = [void_interrupt(item, now) for item in interrupts]
        closed = await self._closed(run, now)
        is_cancel = isinstance(end, Cancel)
        last = cancelled_event(end.reason) if isinstance(end, Cancel) else error_event(end)
        events = self._clean(run, [*[event for event, _ in closed], *[event for event, _ in voided], last])

        def build(stamp: Callable[[], int]) -> Write:
            segment = segment_of(run, events, stamp)
            return Append(
                number=run.number,
                lease_epoch=run.lease_epoch,
                tail=run.tail_sequence,
                unleased=unleased,
                segment=segment,
                status=Status.CANCELLED if is_cancel else Status.FAILED,
                cancel=end if isinstance(end, Cancel) else None,
                error=end if isinstance(end, Failure) else None,
                ended_at=now,
                release=True,
                outbox=outbox_of(segment, events),
                steps=tuple(
                    msgspec.structs.replace(step, sequence=segment.first + index)
                    for index, (_, step) in enumerate(closed)
                ),
                interrupts=tuple(
                    msgspec.structs.replace(item, resolved_sequence=segment.first + len(closed) + index)
                    for index, (_, item) in enumerate(voided)
                ),
            )

        await self._journal.submit(build)

    async def _closed(self, run: Run, now: int) -> Sequence[tuple[tuple[str, str], Step]]:
        """The steps that the run's agent shows as under way, ended."""
        program: object = self._worker.programs.get(run.agent)
        return program.last_words(await self._store.steps(run.number), now) if isinstance(program, Closing) else ()


def resolved_already(interrupt: Interrupt, answer: bytes | None, by: str | None) -> InterruptResolved:
    """The error for an answer that came too late."""
    from holdfast.model.interrupt import shown_answer

    return InterruptResolved(
        f"interrupt {interrupt.interrupt_id} was resolved before",
        interrupt_id=interrupt.interrupt_id,
        answer=shown_answer(interrupt.kind, answer),
        by=by or "cancelled",
        status=interrupt.status,
    )


def _inbox_append(run: Run, interrupt: Interrupt, row: InboxRow, clean: Clean) -> Callable[[Callable[[], int]], Write]:
    # The part has its answer in the store since the fact was accepted; what is missing is the event and the head.
    after = answered(interrupt, row.tool_call_id, row.answer, by=row.by, caller=row.caller, at=row.created_at)
    return _answer_append(run, after, row.tool_call_id, clean, inbox_done=(row.inbox_id,))


def _answer_append(
    run: Run,
    after: Interrupt,
    part_id: str,
    clean: Clean,
    *,
    answers: tuple[Answered, ...] = (),
    inbox_done: tuple[int, ...] = (),
) -> Callable[[Callable[[], int]], Write]:
    events = clean(run, answer_events(after, part_id))
    head = after if not events else _resolved(after, run.tail_sequence + len(events))
    return _append_of(run, events, [head], answers=answers, inbox_done=inbox_done)


def _append_of(
    run: Run,
    events: Events,
    heads: Sequence[Interrupt],
    *,
    answers: tuple[Answered, ...] = (),
    inbox_done: tuple[int, ...] = (),
) -> Callable[[Callable[[], int]], Write]:
    """The write of answers to a run that nobody executes: what it says, and the interrupts as they are after it."""
    is_resolved = any(not head.is_pending for head in heads)

    def build(stamp: Callable[[], int]) -> Write:
        segment = segment_of(run, events, stamp) if events else None
        return Append(
            number=run.number,
            lease_epoch=run.lease_epoch,
            tail=run.tail_sequence,
            unleased=True,
            segment=segment,
            outbox=outbox_of(segment, events),
            # A run that waits goes on with any resolved interrupt; one whose holder died is claimed anyway.
            status=Status.QUEUED if run.status is Status.WAITING and is_resolved else None,
            interrupts=tuple(heads),
            answers=answers,
            inbox_done=inbox_done,
        )

    return build


def _putting(row: InboxRow) -> Callable[[Callable[[], int]], Write]:
    return lambda _: PutInbox(row=row)


def _inbox_row(interrupt: Interrupt, part_id: str, given: Given) -> InboxRow:
    return InboxRow(
        number=interrupt.number,
        kind="answer",
        interrupt_id=interrupt.interrupt_id,
        tool_call_id=part_id,
        answer=given.answer,
        by=given.by,
        caller=given.caller,
        created_at=given.at,
    )


def _answered_row(interrupt: Interrupt, part_id: str, given: Given) -> Answered:
    return Answered(
        interrupt_id=interrupt.interrupt_id,
        tool_call_id=part_id,
        answer=given.answer,
        by=given.by,
        caller=given.caller,
        at=given.at,
    )


def _resolved(interrupt: Interrupt, sequence: int) -> Interrupt:
    """The interrupt with the sequence of its last event, if that resolved it."""
    return interrupt if interrupt.is_pending else msgspec.structs.replace(interrupt, resolved_sequence=sequence)
