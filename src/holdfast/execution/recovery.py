"""
Taking a run up that was claimed: fresh from the queue, after an answer, or from a holder that died.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.errors import Interrupted
from holdfast.execution.events import error_event, restarted_event, untold
from holdfast.execution.execution import Execution
from holdfast.execution.program import Program
from holdfast.execution.record import Record, discarded
from holdfast.execution.steps import failure_of
from holdfast.journal.chunk import chunk_of
from holdfast.model import Failure, Run, Segment, Status
from holdfast.model.lifecycle import AfterDeath, after_death
from holdfast.store.base import Store

PAGE_BYTES_MAX = 1024 * 1024


class TakenUp(msgspec.Struct, frozen=True):
    """What to do with a claimed run."""

    run: Run
    record: Record
    action: AfterDeath
    discard: list[tuple[int, int]] | None  # of a holder's death; None: nobody died
    failure: Failure | None = None

    async def begin(self, execution: Execution) -> None:
        """
        Do it: execute the run, end it, or give the lease back.

        Raises:
            LeaseLost: somebody else took it meanwhile.
        """
        if self.run.cancel is not None:
            await execution.cancel_at_once(self.run.cancel)
        elif self.action is AfterDeath.KEEP:
            await execution.give_back()
        elif self.action is AfterDeath.FAIL and self.failure is not None:
            await execution.fail_at_once(error_event(self.failure), self.failure)
        else:
            if self.discard is not None:
                sequence = self.run.tail_sequence + 1
                event = restarted_event(self.run.attempt, self.discard, "takeover", sequence)
                execution.writer.write(event, status=Status.RUNNING, attempt=self.run.attempt)
            execution.start()


class Recovery:
    """Reads what is on record of claimed runs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take_up(self, run: Run, program: Program) -> TakenUp:
        """Decide what to do with a claimed run; its status is still that in which it was found."""
        # Also of a run that nobody executed yet: a fork begins with what it took over.
        steps = await self._store.steps(run.number)
        interrupts = await self._store.interrupts(run.number)
        inbox = await self._store.inbox([run.number])  # what its last holder did not write; read after the interrupts
        interrupts = [untold(interrupt, inbox) for interrupt in interrupts]
        record = Record(steps, interrupts)
        action = after_death(run.status, program.restart)
        if run.status is Status.QUEUED:
            return TakenUp(_running(run), record, action, None)
        if action is AfterDeath.FAIL:
            failure = failure_of(Interrupted("the process died while the run executed"))
            return TakenUp(run, record, action, None, failure)
        if action is AfterDeath.KEEP:
            return TakenUp(run, record, action, None)
        marks = await self._store.marks(run.number)
        void = discarded(marks, await self._types(run), steps, interrupts)
        again = msgspec.structs.replace(run, status=Status.RUNNING, attempt=run.attempt + 1)
        return TakenUp(again, record, action, void)

    async def _types(self, run: Run) -> Sequence[tuple[int, str]]:
        """Sequence and type of the events since the last restart: what lies before was dropped by that already."""
        types: list[tuple[int, str]] = []
        after = run.first_sequence - 1
        while after < run.tail_sequence:
            page: list[Segment] = await self._store.segments(run.number, after=after, bytes_max=PAGE_BYTES_MAX)
            if not page:
                break
            chunk = chunk_of(page, after)
            for offset, name in enumerate(chunk.types):
                if name == "restarted":
                    types.clear()
                types.append((chunk.first + offset, name))
            after = chunk.last
        return types


def _running(run: Run) -> Run:
    return msgspec.structs.replace(run, status=Status.RUNNING)
