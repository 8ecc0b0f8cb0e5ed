"""
One run in memory, for tests of agents: the real Context and Record over a journal that is a Python list.

It can die at any event and be executed again, as after a crash: from the top, with its recorded steps and interrupts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from holdfast.clock import HeldClock
from holdfast.errors import LeaseLost
from holdfast.execution.client_tools import ClientTool
from holdfast.execution.context import Context, set_current
from holdfast.execution.events import answer_events, answered, interrupt_event
from holdfast.execution.execution import Execution
from holdfast.execution.program import Program, Result
from holdfast.execution.record import Record, discarded
from holdfast.execution.tally import Tally
from holdfast.ids import SeededIds
from holdfast.model import Interrupt, Message, Part, Run, Segment, Status, Step
from holdfast.model.interrupt import canonical_answer

T = TypeVar("T")


class Died(Exception):
    """The process died: nothing of this execution can be written any more."""


class Event(msgspec.Struct, frozen=True):
    """An event of the journal; `mark` is the step that it was emitted in."""

    sequence: int
    type: str
    fields: dict[str, Any]
    mark: str | None


class OneRun:
    """The durable side of a run, and its executions one after the other."""

    def __init__(self, program: Program, input: Any, *, thread_id: str | None = None, run_id: str = "run-7") -> None:
        self.program = program
        self.input = input
        self.clock = HeldClock()
        self.ids = SeededIds(self.clock)
        self.events: list[Event] = []
        self.steps: dict[str, Step] = {}
        self.interrupts: dict[str, Interrupt] = {}
        self.earlier: list[Message] = []
        self.client_tools: dict[str, ClientTool] = {}
        self.discarded: list[tuple[int, int]] = []
        self.run = Run(
            number=7,
            run_id=run_id,
            agent=program.name,
            agent_id="a",
            thread_id=thread_id,
            status=Status.RUNNING,
            input=b"null",
            created_at=self.clock.now(),
            tail_sequence=-1,
        )
        self._execution: _Execution | None = None

    # Executing

    async def execute(self, *, die_at: int | None = None) -> Result:
        """
        Execute from the top and return the result.

        Raises:
            Died: it did.
        """
        return await self.start(die_at=die_at).result()

    def start(self, *, die_at: int | None = None, die_after: int | None = None) -> _Execution:
        """
        Begin to execute; the test answers questions meanwhile.

        Args:
            die_at: die when this many events are in the journal, before anything else is written.
            die_after: die when this many steps are recorded, before their callers know.
        """
        if self.events:
            self._restart()
        self._execution = _Execution(self, Record(self.steps.values(), self.interrupts.values()), die_at, die_after)
        return self._execution

    def _restart(self) -> None:
        """What recovery does: note which events are void."""
        segment = Segment(
            number=7,
            first=0,
            last=len(self.events) - 1,
            first_timestamp=0,
            last_timestamp=0,
            body=b"",
            hash=b"",
            marks=tuple((e.sequence, e.sequence, e.mark) for e in self.events if e.mark is not None),
        )
        types = [(event.sequence, event.type) for event in self.events if not self._is_void(event)]
        steps, interrupts = list(self.steps.values()), list(self.interrupts.values())
        self.discarded += discarded([segment], types, steps, interrupts)

    # What a reader has in the end

    def _is_void(self, event: Event) -> bool:
        provider = [
            tuple(pair) for other in self.events if other.type == "restarted" for pair in other.fields["discard"]
        ]
        return any(first <= event.sequence <= last for first, last in [*self.discarded, *provider])

    def seen(self, *types: str) -> list[Event]:
        """The events that count, of these types or all."""
        return [e for e in self.events if (not types or e.type in types) and not self._is_void(e)]

    @property
    def text(self) -> str:
        """The text of a reader who joins tokens and drops what was discarded."""
        return "".join(event.fields["content"] for event in self.seen("token"))

    def types(self) -> list[str]:
        """The types of the events that count; tokens in a row once."""
        types = [event.type for event in self.seen()]
        return [name for i, name in enumerate(types) if name != "token" or i == 0 or types[i - 1] != "token"]

    # The outside

    @property
    def pending(self) -> list[Interrupt]:
        """What is asked and not answered."""
        return [interrupt for interrupt in self.interrupts.values() if interrupt.is_pending]

    async def asked(self, count: int = 1) -> list[Interrupt]:
        """Wait until this many interrupts are pending."""
        assert self._execution is not None
        while len(pending := self.pending) < count:
            if self._execution.task.done():
                await self._execution.task
            await asyncio.sleep(0)
        return pending

    def answer(self, interrupt: Interrupt, answer: Any, *, by: str = "caller", **more: Any) -> None:
        """Answer an interrupt, whether or not the code is executing; `more` is a note, or blocks."""
        data = canonical_answer(interrupt, answer, **more) if by == "caller" else interrupt.parts[0].default or b"null"
        after = answered(interrupt, "", data, by=by, caller="", at=self.clock.now())
        self._write_fact(after, answer_events(after, ""))
        if self._execution is not None:
            self._execution.deliver(after)

    def _write_fact(self, interrupt: Interrupt, events: Sequence[tuple[str, str]]) -> None:
        for name, own in events:
            self.append(name, own, None)
        sequence = len(self.events) - 1
        name = "sequence" if interrupt.sequence is None else "resolved_sequence"
        self.interrupts[interrupt.step] = msgspec.structs.replace(interrupt, **{name: sequence})

    def append(self, type: str, own: str, mark: str | None) -> int:
        fields = msgspec.json.decode("{" + own.removeprefix(",") + "}")
        self.events.append(Event(len(self.events), type, fields, mark))
        return len(self.events) - 1


class _Writer:
    """The part of `journal.Writer` that a Context uses."""

    def __init__(self, one: OneRun, execution: _Execution) -> None:
        self._one, self._execution = one, execution
        self.size = 0

    @property
    def next_sequence(self) -> int:
        return len(self._one.events)

    def token(self, content: str, mark: str | None = None) -> int:
        return self.write(("token", f',"content":{msgspec.json.encode(content).decode()}'), mark=mark)

    def append(self, name: str, own: str, mark: str | None = None) -> str:
        sequence = self.write((name, own), mark=mark)
        return f'{{"id":"evt_{sequence}","type":"{name}"{own}}}'

    def write(self, *events: tuple[str, str], mark: str | None = None, steps: Sequence[Step] = (), **_: Any) -> int:
        for name, own in events:
            self._execution.live()
            self._one.append(name, own, mark)
        self._execution.live()
        for step in steps:
            sequence = len(self._one.events) - 1
            self._one.steps[step.key] = msgspec.structs.replace(step, sequence=sequence) if step.is_recorded else step
        self._execution.recorded()
        return len(self._one.events) - 1

    async def durable(self) -> None:
        await asyncio.sleep(0)
        self._execution.live()

    async def room(self) -> None:
        """There is always room."""


class _Execution:
    """The part of `Execution` that a Context uses, and a process that may die."""

    pending_bytes_max = 1024 * 1024
    is_ending = False
    recorded_only = False
    events_allowed = None

    def __init__(self, one: OneRun, record: Record, die_at: int | None, die_after: int | None) -> None:
        self.run, self.ids, self.record, self.program = one.run, one.ids, record, one.program
        self.writer = _Writer(one, self)
        self.tally = Tally()
        self.is_dead = False
        self.executing = 0
        self._one = one
        self._die_at, self._die_after = die_at, die_after
        self._answers: dict[str, asyncio.Future[Part]] = {}
        self.task = asyncio.create_task(self._carry_out())

    async def result(self) -> Result:
        try:
            result = await self.task
        except BaseException as exc:
            if self.is_dead:
                raise Died from exc
            raise
        if self.is_dead:
            raise Died
        assert self.record.unconsumed == [], f"the code did not ask for {self.record.unconsumed}"
        return result

    async def _carry_out(self) -> Result:
        context = Context(cast(Execution, self))
        set_current(context)
        return cast(Result, await self._one.program.execute(context, self._one.input))

    def die(self) -> None:
        """Nothing can be written any more, and the code is stopped."""
        self.is_dead = True
        self.task.cancel()

    def live(self) -> None:
        if self._die_at is not None and len(self._one.events) >= self._die_at and not self.is_dead:
            self.die()
        if self.is_dead:
            raise LeaseLost("this process is dead")

    def recorded(self) -> None:
        if self._die_after is not None and not self.is_dead:
            count = sum(1 for step in self._one.steps.values() if step.is_recorded)
            if count >= self._die_after:
                self.die()

    def now(self) -> int:
        return self._one.clock.now()

    async def history(self) -> list[Message]:
        return list(self._one.earlier)

    async def client_tools(self) -> dict[str, Any]:
        return dict(self._one.client_tools)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    async def shown(self, data: bytes) -> Any:
        return msgspec.Raw(data)

    async def make_sure_of_lease(self) -> None:
        self.live()

    def step_began(self, step: object) -> None:
        self.executing += 1

    def step_ended(self, step: object) -> None:
        self.executing -= 1

    def write_interrupt(self, interrupt: Interrupt, **_: Any) -> None:
        self.live()
        self._one._write_fact(interrupt, [interrupt_event(interrupt)])

    async def answer_to(self, interrupt: Interrupt, part_id: str, *, in_step: bool = False) -> Part:
        current = self._one.interrupts[interrupt.step]
        if not current.is_pending:
            return current.parts[0]
        future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._answers[current.step] = future
        return await future

    def deliver(self, interrupt: Interrupt) -> None:
        future = self._answers.get(interrupt.step)
        if future is not None and not future.done():
            future.set_result(interrupt.parts[0])
