"""
The one writer of a run's journal: whoever holds its lease.

`write` numbers an event, stamps it, encodes it once and puts it into the run's pending buffer, with everything that
belongs into the same transaction. The committer takes the buffer. Tokens do not wait for that; whoever needs to know
that something is on disk waits for `durable`.

Methods that are not `async` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import HoldfastError, LeaseLost
from holdfast.journal.chunk import Chunk, chain
from holdfast.model import Interrupt, Message, Run, Segment, Step
from holdfast.model.encoding import encode_text, event_type, format_time
from holdfast.model.lifecycle import NOTABLE_EVENTS, TERMINAL_EVENTS
from holdfast.store.base import Answered, Append, OutboxRow

if TYPE_CHECKING:
    from holdfast.journal.journal import Journal

# Beyond this, whoever emits waits for the disk: an agent that outruns it must not eat the memory.
PENDING_BYTES_MAX = 1024 * 1024


class Taken(msgspec.Struct, frozen=True):
    """What the committer took from a writer: the write, and its events for the readers."""

    write: Append
    chunk: Chunk | None


class Writer:
    """
    Appends to one run's journal under one lease.

    After a write was refused (`LeaseLost`), or after `close`, nothing can be written any more: every method raises
    what is in `error`.
    """

    def __init__(self, journal: Journal, run: Run) -> None:
        self.number = run.number
        self.run_id = run.run_id
        self.tenant = run.tenant
        self.lease_epoch = run.lease_epoch
        self.error: HoldfastError | None = None
        self.on_lost: Callable[[], None] | None = None
        self.size = 0  # of what is pending, about, in bytes
        self.activity = 0  # grows with every write
        self._journal = journal
        self._lock = journal.lock
        self._next = run.tail_sequence + 1
        self._tail = run.tail_sequence  # the newest one that was taken
        self._hash = run.head_hash
        self._lines: list[str] = []
        self._first_timestamp = 0
        self._last_timestamp = 0
        self._marks: list[tuple[int, int, str]] = []
        self._steps: dict[str, Step] = {}
        self._interrupts: dict[str, Interrupt] = {}
        self._answers: list[Answered] = []
        self._inbox_done: list[int] = []
        self._messages: list[Message] = []
        self._outbox: list[OutboxRow] = []
        self._changes: dict[str, Any] = {}
        self._is_dirty = False
        self._takes = 0  # how often the committer took what was pending,
        self._done = 0  # and how many of these are on disk
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._room = threading.Event()

    @property
    def next_sequence(self) -> int:
        """The sequence that the next event will get."""
        return self._next

    def token(self, content: str, mark: str | None = None) -> int:
        """Append a `token` event: the hot path, without any detour."""
        encoded = encode_basestring(content) if content.isascii() and "\x7f" not in content else encode_text(content)
        with self._lock:
            if self.error is not None:
                raise self.error
            timestamp = self._journal.stamp()
            sequence = self._next
            self._next = sequence + 1
            line = (
                f'{{"id":"evt_{sequence}","type":"token","run_id":"{self.run_id}","sequence":{sequence},'
                f'"timestamp":"{format_time(timestamp)}","content":{encoded}}}'
            )
            if not self._lines:
                self._first_timestamp = timestamp
            self._last_timestamp = timestamp
            self._lines.append(line)
            self.size += len(line)
            self.activity += 1
            if mark is not None:
                self._mark(sequence, mark)
            if not self._is_dirty:
                self._is_dirty = True
                self._journal.note(self)
        return sequence

    def write(
        self,
        *events: tuple[str, str],
        mark: str | None = None,
        steps: Sequence[Step] = (),
        interrupts: Sequence[Interrupt] = (),
        answers: Sequence[Answered] = (),
        inbox_done: Sequence[int] = (),
        messages: Sequence[Message] = (),
        **changes: Any,
    ) -> int:
        """
        Append events (type, and own fields as `encode_fields` makes them) with what has to be committed with them.

        The sequence of the last event is returned (or of the newest one, without events). Steps and interrupts
        without a sequence get that one. `changes` are fields of `Append`.

        Raises:
            LeaseLost: nothing can be written any more.
        """
        with self._lock:
            if self.error is not None:
                raise self.error
            for name, own in events:
                self._add(name, own, mark)
            last = self._next - 1
            for step in steps:
                self._steps[step.key] = _numbered(step, last) if step.is_recorded else step
            for interrupt in interrupts:
                self._interrupts[interrupt.interrupt_id] = _placed(interrupt, last)
            self._answers += answers
            self._inbox_done += inbox_done
            self._messages += messages
            self._changes |= changes
            self._note()
            return last

    def append(self, name: str, own: str, mark: str | None = None) -> str | None:
        """
        Append one event and return its line; None where it is held back and has none yet.

        Raises:
            LeaseLost: nothing can be written any more.
        """
        with self._lock:
            if self.error is not None:
                raise self.error
            line = self._add(name, own, mark)
            self._note()
            return line

    def _add(self, name: str, own: str, mark: str | None) -> str:
        timestamp = self._journal.stamp()
        sequence = self._next
        self._next = sequence + 1
        line = (
            f'{{"id":"evt_{sequence}","type":"{name}","run_id":"{self.run_id}","sequence":{sequence},'
            f'"timestamp":"{format_time(timestamp)}"{own}}}'
        )
        if not self._lines:
            self._first_timestamp = timestamp
        self._last_timestamp = timestamp
        self._lines.append(line)
        self.size += len(line)
        if mark is not None:
            self._mark(sequence, mark)
        if name in NOTABLE_EVENTS:
            self._outbox.append(OutboxRow("", self.number, sequence, timestamp))
        return line

    def _note(self) -> None:
        self.activity += 1
        if not self._is_dirty:
            self._is_dirty = True
            self._journal.note(self)

    def end_row(self) -> None:
        """Hold nothing back any more; this writer never does."""

    async def durable(self) -> None:
        """
        Wait until all that was written up to now is on disk. Cancelling it cancels nothing of the write.

        Raises:
            LeaseLost: it never will be; nothing of it was written.
        """
        if self.error is not None:
            raise self.error
        # What is pending goes with the next take; what was taken already is on disk when that take is done.
        take = self._takes + 1 if self._is_dirty else self._takes
        if take <= self._done:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((take, future))
        await future

    async def room(self) -> None:
        """Wait until less than PENDING_BYTES_MAX is pending."""
        while self.size > PENDING_BYTES_MAX:
            await self.durable()

    def room_in_thread(self) -> None:
        """The same, for a thread other than the event loop's."""
        while self.size > PENDING_BYTES_MAX and self.error is None:
            self._room.clear()
            if self.size > PENDING_BYTES_MAX:
                self._room.wait(1.0)

    def close(self) -> None:
        """Let nothing be written any more; what is pending still is."""
        with self._lock:
            if self.error is None:
                self.error = LeaseLost(f"run {self.run_id} is not executed here any more")
        self._room.set()

    # For the committer, on the event loop.

    def take(self) -> Taken:
        """Take what is pending, as one write; the next one fills meanwhile. Called with the journal's lock held."""
        lines, segment, chunk = self._lines, None, None
        first = self._tail + 1
        if lines:
            body = ("\n".join(lines) + "\n").encode()
            self._hash = chain(self._hash, body)
            segment = Segment(
                number=self.number,
                first=first,
                last=first + len(lines) - 1,
                first_timestamp=self._first_timestamp,
                last_timestamp=self._last_timestamp,
                body=body,
                hash=self._hash,
                marks=tuple(self._marks),
            )
            chunk = Chunk(first, lines, len(body))
            self._lines = []
        write = Append(
            number=self.number,
            lease_epoch=self.lease_epoch,
            tail=self._tail,
            segment=segment,
            **self._take_attached(),
        )
        self._marks = []
        self._takes += 1
        self._tail = first + len(lines) - 1
        self.size = 0
        self._is_dirty = False
        return Taken(write, chunk)

    def done(self) -> None:
        """What was taken is on disk."""
        self._done += 1
        self._room.set()
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                take, future = waiter
                if take > self._done:
                    self._waiters.append(waiter)
                elif not future.done():
                    future.set_result(None)

    def lose(self, error: HoldfastError) -> None:
        """A write was refused: tell everybody who waits, and let nothing follow."""
        with self._lock:
            self.error = error
        self._room.set()
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(error)
        if self.on_lost is not None:
            self.on_lost()

    def _take_attached(self) -> dict[str, Any]:
        attached: dict[str, Any] = dict(self._changes)
        self._changes = {}
        if self._steps:
            attached["steps"] = tuple(self._steps.values())
            self._steps = {}
        if self._interrupts:
            attached["interrupts"] = tuple(self._interrupts.values())
            self._interrupts = {}
        if self._answers:
            attached["answers"] = tuple(self._answers)
            self._answers = []
        if self._inbox_done:
            attached["inbox_done"] = tuple(self._inbox_done)
            self._inbox_done = []
        if self._messages:
            attached["messages"] = tuple(self._messages)
            self._messages = []
        if self._outbox:
            attached["outbox"] = tuple(self._outbox)
            self._outbox = []
        return attached

    def _mark(self, sequence: int, key: str) -> None:
        if self._marks and self._marks[-1][2] == key and self._marks[-1][1] == sequence - 1:
            self._marks[-1] = (self._marks[-1][0], sequence, key)
        else:
            self._marks.append((sequence, sequence, key))


def is_end(chunk: Chunk | None) -> bool:
    """Whether a chunk ends its journal."""
    return chunk is not None and event_type(chunk.lines[-1]) in TERMINAL_EVENTS


def _numbered(step: Step, sequence: int) -> Step:
    return step if step.sequence is not None else msgspec.structs.replace(step, sequence=sequence)


def _placed(interrupt: Interrupt, sequence: int) -> Interrupt:
    if interrupt.sequence is None:
        return msgspec.structs.replace(interrupt, sequence=sequence)
    if not interrupt.is_pending and interrupt.resolved_sequence is None:
        return msgspec.structs.replace(interrupt, resolved_sequence=sequence)
    return interrupt
