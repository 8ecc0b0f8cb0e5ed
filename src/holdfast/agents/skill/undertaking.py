"""
What all steps of one run of a skill share: its options and definition, what is on record, and when that is on disk.

A result is written with its events in one commit, and execution goes on at once. Who must know that results are on
disk (a step with side effects, a question, the end) waits with `settle` for all that were written before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.agents.skill.model import Binding, Definition, Options
from holdfast.execution.codec import decode_result
from holdfast.execution.withheld import Withheld, withheld_key
from holdfast.model import Failure, Step
from holdfast.model.encoding import encode_fields

if TYPE_CHECKING:
    from holdfast.execution.context import Context

# Steps of our own functions have nothing to wait for: so many of them, and the others have their turn.
BURST = 8


class Bound(Protocol):
    """What fulfils one capability."""

    async def call(self, call: Any) -> Any:
        """Make a `Call` within its time; what came of it, unchecked."""
        ...


class Binder(Protocol):
    """All that fulfil capabilities in this process."""

    def of(self, bind: Binding) -> Bound:
        """What this part of a contract stands for."""
        ...


class Undertaking:
    """One run, while this process executes it."""

    def __init__(self, context: Context, definition: Definition, options: Options, bindings: Binder) -> None:
        self.context = context
        self.execution = context.execution
        self.definition = definition
        self.options = options
        self.bindings = bindings
        self.record = self.execution.record
        self.places = asyncio.Semaphore(options.max_workers)
        self._number = self.execution.run.number
        self._writer = self.execution.writer
        self._burst = 0
        self._written = 0  # results that were written,
        self._settled = 0  # and how many of these are on disk for sure

    @property
    def run_attempt(self) -> int:
        """1, and one more after each crash."""
        return self.execution.run.attempt

    def now(self) -> int:
        return self.execution.now()

    def recorded(self, key: str) -> Step | None:
        """The step, or the part of one, that is on record under this key and over."""
        step = self.record.step(key)
        return step if step is not None and step.is_recorded else None

    def note(self, key: str) -> Any:
        """What was written down under this key (`noted`), or None."""
        step = self.recorded(key)
        return None if step is None or step.output is None else decode_result(step.output)

    @property
    def is_full(self) -> bool:
        """So much is pending for the disk that whoever emits waits."""
        return self._writer.size > self.execution.pending_bytes_max

    def room_in_thread(self) -> None:
        """Wait in a thread while too much is pending for the disk."""
        if self.is_full:
            self._writer.room_in_thread()

    def write(self, *events: tuple[str, dict[str, Any]], mark: str, rows: tuple[Step, ...] = ()) -> None:
        """Write events and rows in one commit. They belong to the step of the key `mark`."""
        self._writer.write(*((name, encode_fields(fields)) for name, fields in events), mark=mark, steps=rows)
        if rows:  # never from a thread, which could lose a count
            self._written += sum(row.is_recorded for row in rows)

    def row(
        self,
        key: str,
        name: str,
        status: str,
        *,
        started_at: int,
        attempt: int = 1,
        completed_at: int | None = None,
        output: bytes | None = None,
        error: Failure | None = None,
        at_most_once: bool = False,
    ) -> Step:
        """What the store keeps of a step, or of a part of one."""
        return Step(
            number=self._number,
            key=key,
            name=name,
            status=status,
            attempts=attempt,
            at_most_once=at_most_once,
            started_at=started_at,
            completed_at=completed_at,
            output=output,
            error=error,
        )

    def noted(self, key: str, name: str, output: bytes, *, began_at: int | None = None, attempt: int = 1) -> Step:
        """A row that remembers something, such as what a call made that began then."""
        now = self.now()
        return self.row(
            key, name, "completed", started_at=began_at or now, completed_at=now, output=output, attempt=attempt
        )

    def withheld(self, key: str, name: str, what: Withheld) -> tuple[Step, ...]:
        """The note of what people are not shown of the output under this key, if there is anything."""
        return (self.noted(withheld_key(key), name, what.encode()),) if what else ()

    async def breathe(self) -> None:
        """Let others have the event loop now and then, and wait where too much is pending for the disk."""
        self._burst += 1
        if self._burst >= BURST:
            self._burst = 0
            await asyncio.sleep(0)
        if self.is_full:
            await self._writer.room()

    async def not_ending(self) -> None:
        """Go on, unless the run ends here or is let go: nothing begins any more, and a cancellation is on its way."""
        if self.execution.is_ending:
            await asyncio.get_running_loop().create_future()

    async def settle(self) -> None:
        """
        Wait until all results that were written up to now are on disk, and the lease is surely ours.

        Raises:
            LeaseLost
        """
        written = self._written
        if self._settled < written:
            await self._writer.durable()
            self._settled = max(self._settled, written)
        await self.execution.make_sure_of_lease()

    async def durable(self) -> None:
        """
        Wait until everything that was written up to now is on disk, and the lease is surely ours.

        Raises:
            LeaseLost
        """
        written = self._written
        await self._writer.durable()
        self._settled = max(self._settled, written)
        await self.execution.make_sure_of_lease()
