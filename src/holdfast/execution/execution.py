"""
One run while this process executes it: from taking it up to its end, or to the point where it is let go.

It ends in one of these ways, and each writes its last words in one commit:

    the code returned            complete, status completed
    the code raised              error, status failed
    cancelled                    cancelled; after CANCEL_SECONDS whether or not the code has returned
    over its time                error timeout_error, likewise
    waits for the outside        status waiting, lease given up: nothing is left in memory
    the server stops             lease given up (a restartable agent), or error interrupted
    the lease was lost           nothing; another process has the run
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from holdfast.errors import (
    AgentMissing,
    FileNotFound,
    HoldfastError,
    Interrupted,
    LeaseLost,
    ReplayDiverged,
    RunTimeout,
    ToolCallFailed,
)
from holdfast.execution.admission import Shaped, check_output, cut, off_loop, shaped
from holdfast.execution.client_tools import ClientTool
from holdfast.execution.codec import VALUE_BYTES_MAX, decode_result, encode_result
from holdfast.execution.context import Context, set_current
from holdfast.execution.emitting import custom_fields
from holdfast.execution.events import (
    EXPIRED_CODE,
    answer_events,
    answered,
    cancelled_event,
    error_event,
    interrupt_event,
    void_interrupt,
)
from holdfast.execution.exits import Exited, no_exit
from holdfast.execution.files import GivenFile
from holdfast.execution.given import OUTPUT_SCHEMA, given_key
from holdfast.execution.guarded import GuardedWriter, clean_interrupt, violation
from holdfast.execution.program import Closing, Program, Result, spec_of
from holdfast.execution.record import Record
from holdfast.execution.redaction import redactor_of
from holdfast.execution.released import Released
from holdfast.execution.rounds import Rounds
from holdfast.execution.steps import OpenStep, failure_of
from holdfast.execution.threads import run_in_thread
from holdfast.journal import Journal, Writer
from holdfast.model import Cancel, Failure, Interrupt, Message, Part, Restart, Run, Status, Step
from holdfast.model.encoding import encode_fields
from holdfast.store.base import InboxRow

if TYPE_CHECKING:
    from holdfast.execution.worker import Worker

# A cancelled run is final 5 s after the request; the rest is for the last commit.
CANCEL_SECONDS = 4.5

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Ending(StrEnum):
    """Why the executing code is being stopped."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    PARK = "park"
    STOP = "stop"
    LOST = "lost"
    FAIL = "fail"


class Execution:
    """Carries out one run under its lease. `task` ends when nothing of it is left to do here."""

    def __init__(self, worker: Worker, run: Run, program: Program, record: Record, *, leased_at: float) -> None:
        self.run = run
        self.leased_at = leased_at  # on our clock, before the lease was taken or last prolonged
        self.program = program
        self.record = record
        self.ids = worker.ids
        self.pending_bytes_max = worker.settings.pending_bytes_max
        self.events_allowed = worker.settings.events_allowed
        self.recorded_only = worker.settings.recorded_only
        self._redactor = redactor_of(spec_of(program).safety.redact_patterns)
        self.writer = worker.journal.open_writer(run, self._make_writer)
        self.writer.on_lost = self._on_lost
        self.rounds = Rounds(self)
        self.threads = worker.threads
        self.tally = worker.tally
        self._spans = None if worker.tracing is None else worker.tracing.of_run(run, program.framework)
        self.ending: Ending | None = None
        self.is_over = False
        self.on_ending: list[Callable[[], None]] = []
        self.task: asyncio.Task[None] | None = None
        self._worker = worker
        self._cancel: Cancel | None = run.cancel
        self._failure: Failure | None = None
        self._pending: dict[str, Interrupt] = {
            item.interrupt_id: item for item in record.interrupts.values() if item.is_pending
        }
        self._early: dict[str, Interrupt] = {}  # answered before the code, executed again, asked for them
        self._answers: dict[tuple[str, str], asyncio.Future[Part]] = {}
        self._steps: set[OpenStep] = set()  # under way
        self._asking: Counter[str] = Counter()  # keys of these that wait for answers themselves, for so many
        self._is_shown_waiting = False
        self._started = worker.clock.monotonic()
        self._idle_since: float | None = None
        self._idle_seconds = 0.0
        self._park_timer: asyncio.TimerHandle | None = None
        self._park_activity = -1
        self._limit_timer: asyncio.TimerHandle | None = None
        self._abandon_timer: asyncio.TimerHandle | None = None

    def _make_writer(self, journal: Journal, run: Run) -> Writer:
        if self._redactor is None:
            return Writer(journal, run)
        loop, halt = asyncio.get_running_loop(), spec_of(self.program).safety.halt_on_violation

        def on_match() -> None:
            # From any thread. The code is told by an exception, which it may have caught.
            self._failure = failure_of(violation())
            loop.call_soon_threadsafe(self.end, Ending.FAIL)

        return GuardedWriter(journal, run, self._redactor, halt=halt, on_match=on_match)

    # What the context and its friends use

    @property
    def is_ending(self) -> bool:
        return self.ending is not None

    @property
    def is_cancelled(self) -> bool:
        """The run ends here for good, by a caller's wish or by its time limit."""
        return self.ending in (Ending.CANCEL, Ending.TIMEOUT, Ending.FAIL)

    def now(self) -> int:
        return self._worker.clock.now()

    async def history(self) -> list[Message]:
        """The thread's messages before this turn."""
        if self.run.thread_id is None:
            return []
        store, tenant, thread_id = self._worker.journal.store, self.run.tenant, self.run.thread_id
        messages = await self._worker.insist(lambda: store.messages(tenant, thread_id))
        return [message for message in messages if message.number != self.run.number]

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call to the store gives; where the store is away it is waited for. For what may be done twice."""
        return await self._worker.insist(call)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain function in a thread, as soon as one of the process's threads is free."""
        async with self.threads:
            return await run_in_thread(function, *args, **kwargs)

    async def file(self, reference: str) -> GivenFile:
        """
        A file of the run's tenant; raises FileNotFound. Where the store is away it is waited for. One that no run has
        yet is kept with this one: its start may have died before it did that.
        """
        store, tenant = self._worker.journal.store, self.run.tenant
        found = await self._worker.insist(lambda: store.file(tenant, reference))
        if found is None:
            raise FileNotFound(f"there is no file {reference!r}")
        if found[0].number is None:
            await self._worker.insist(lambda: store.attach_files(tenant, [reference], self.run.number))
        return GivenFile(found[0].name, found[0].media_type, found[1])

    async def definition(self, name: str | None) -> bytes:
        """See `Context.definition`. Where the store is away it is waited for."""
        if name is None:
            raise AgentMissing(f"run {self.run.run_id} began without a definition of its agent")
        return await self._worker.insist(lambda: self._worker.definitions.get(self.run.tenant, name))

    async def client_tools(self) -> Mapping[str, ClientTool]:
        """The registered tools of the run's tenant, by full name. Where the store is away it is waited for."""
        return await self._worker.insist(lambda: self._worker.client_tools.of(self.run.tenant))

    @property
    def tool_expires_seconds(self) -> float:
        return self._worker.settings.tool_expires_seconds

    async def run_child(self, agent: str, input: Any, occurrence: int) -> Any:
        """Start a child run, or find the one that was started before, and wait for its output."""
        return await self._worker.run_child(self.run, agent, input, occurrence)

    async def shown(self, data: bytes) -> Any:
        """A JSON value as an event shows it: itself, or from 256 KiB on a reference to a file that holds it."""
        if len(data) <= VALUE_BYTES_MAX:
            return msgspec.Raw(data)
        file = await self._worker.keep(self.run, self._clean(data))
        return {"file": file.file_id, "bytes": file.size, "sha256": file.sha256}

    def _clean(self, data: bytes) -> bytes:
        """
        JSON without what the agent's policy redacts.

        Raises:
            PolicyViolation: it holds such, and that fails the run.
        """
        if self._redactor is None:
            return data
        clean = self._redactor.json(data)
        if clean is not data and spec_of(self.program).safety.halt_on_violation:
            raise violation()
        return clean

    def _clean_failure(self, failure: Failure) -> Failure:
        if self._redactor is None:
            return failure
        message, details = self._redactor.text(failure.message), self._redactor.value(failure.details)
        if message == failure.message and details == failure.details:
            return failure
        if spec_of(self.program).safety.halt_on_violation:
            return failure_of(violation())
        return msgspec.structs.replace(failure, message=message, details=details)

    async def make_sure_of_lease(self) -> None:
        """
        Nothing with side effects starts under a lease that may have run out (the process was paused, or cut off).

        Raises:
            LeaseLost: somebody else has the run.
        """
        # Again and again: a renewal may take so long that it tells nothing any more.
        while self._worker.clock.monotonic() - self.leased_at >= self._worker.settings.lease_seconds:
            await self._worker.insist(self._worker.renew_leases)
            is_here = self._worker.execution(self.run.number) is self and not self.is_over
            if self.ending is Ending.LOST or not is_here:
                raise LeaseLost(f"the lease of run {self.run.run_id} was lost")

    def step_began(self, step: OpenStep) -> None:
        """A step is under way: the run executes, whatever else it waits for."""
        if self._worker.is_stopping and self.program.restart is Restart.ALWAYS:
            self.end(Ending.STOP)
        self._steps.add(step)
        if self._spans is not None:
            self._spans.step_began(step)
        self._show_running()

    def step_ended(self, step: OpenStep) -> None:
        """A step is over, or was given up; a second call changes nothing."""
        if step in self._steps:
            self._steps.discard(step)
            if self._spans is not None:
                self._spans.step_ended(step)
            self._arm_parking()

    @property
    def _is_in_steps(self) -> bool:
        return any(step.key not in self._asking for step in self._steps)

    def _show_running(self) -> None:
        if self._is_shown_waiting:
            self._is_shown_waiting = False
            self.writer.write(status=Status.RUNNING)

    def write_interrupt(
        self,
        interrupt: Interrupt,
        *,
        before: Sequence[tuple[str, str]] = (),
        steps: Sequence[Step] = (),
        asker: str | None = None,
    ) -> None:
        """
        Write an interrupt with its event and, when nothing else executes, the status `waiting`. `asker` is the key of
        the step that asks all calls of a round.
        """
        if self._redactor is not None:
            interrupt = clean_interrupt(self._redactor, interrupt)
        changes: dict[str, Any] = {} if self._is_in_steps else {"status": Status.WAITING}
        self._is_shown_waiting = self._is_shown_waiting or bool(changes)
        events = [*before, interrupt_event(interrupt, asker)]
        sequence = self.writer.write(*events, interrupts=[interrupt], steps=steps, **changes)
        self._pending[interrupt.interrupt_id] = msgspec.structs.replace(interrupt, sequence=sequence)
        if interrupt.expires_at is not None:
            self._worker.expect_deadline(interrupt.expires_at)

    async def answer_to(self, interrupt: Interrupt, part_id: str, *, in_step: str | None = None) -> Part:
        """
        Wait for the answer to one part; the run may be let go meanwhile, which cancels the caller. `in_step` is the key
        of the step that asks: such a step does not execute, but one that is `at_most_once` cannot be let go.
        """
        current = self._pending.get(interrupt.interrupt_id) or self._early.get(interrupt.interrupt_id, interrupt)
        part = next(part for part in current.parts if part.tool_call_id == part_id)
        if part.answer is not None:
            self._fail_if_declared(part)
            return part
        future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._answers[interrupt.interrupt_id, part_id] = future
        if any(step.key == in_step and step.at_most_once for step in self._steps):
            in_step = None
        if in_step is not None:
            self._asking[in_step] += 1
        self._arm_parking()
        try:
            part = await future
        finally:
            if in_step is not None:
                self._asking -= Counter({in_step: 1})  # what is at zero goes
            self._answers.pop((interrupt.interrupt_id, part_id), None)
            self._end_idle()
        self._fail_if_declared(part)
        return part

    def _fail_if_declared(self, part: Part) -> None:
        if part.by == "expiry" and part.on_expiry == "fail":
            self._failure = Failure(f"nobody answered the call of {part.tool} in time", EXPIRED_CODE)
            self.end(Ending.FAIL)
            raise ToolCallFailed(self._failure.message, tool=part.tool)

    # Facts from outside, for the holder of the lease

    def deliver(self, row: InboxRow) -> None:
        """
        Write a fact into the journal and let the code go on with it.

        Raises:
            LeaseLost: the run is being let go. The fact stays in the inbox, which is looked at after that.
        """
        if row.kind == "cancel":
            cancel = self._cancel or Cancel(row.reason, row.created_at)
            # Kept at once: if this process dies before the code has stopped, whoever is next ends the run.
            self.writer.write(inbox_done=[row.inbox_id], cancel=cancel)
            self.cancel(cancel)
            return
        if self.ending is Ending.PARK:
            # The code is being stopped and will not see it; answered here, the run would wait for nothing.
            raise LeaseLost(f"run {self.run.run_id} is being let go")
        interrupt = self._pending.get(row.interrupt_id)
        if interrupt is None or any(
            part.tool_call_id == row.tool_call_id and part.answer is not None for part in interrupt.parts
        ):
            self.writer.write(inbox_done=[row.inbox_id])
            return
        after = answered(interrupt, row.tool_call_id, row.answer, by=row.by, caller=row.caller, at=row.created_at)
        events = answer_events(after, row.tool_call_id)
        self.writer.write(*events, interrupts=[after], inbox_done=[row.inbox_id])
        if not after.is_pending:
            self._show_running()
        if after.is_pending:
            self._pending[row.interrupt_id] = after
        else:
            del self._pending[row.interrupt_id]
        future = self._answers.get((row.interrupt_id, row.tool_call_id))
        if not after.is_pending and future is None:
            self._early[row.interrupt_id] = after
        if future is not None and not future.done():
            future.set_result(next(part for part in after.parts if part.tool_call_id == row.tool_call_id))
        if not after.is_pending:
            self.rounds.on_resolved(after)
        self._arm_parking()

    def cancel(self, cancel: Cancel) -> None:
        """Stop the code; the run is cancelled when it has returned, or after CANCEL_SECONDS."""
        if self._cancel is None:
            self._cancel = cancel
        self.end(Ending.CANCEL)

    def end(self, ending: Ending) -> None:
        """
        Stop the executing code for this reason; the first reason counts, but a lost lease and a cancel win. The same again
        changes nothing: what waits for a thread would take a second cancellation for the thread's end.
        """
        if self.is_over or self.ending is ending:
            return
        if self.ending is not None and ending not in (Ending.LOST, Ending.CANCEL):
            return
        self.ending = ending
        for callback in self.on_ending:
            callback()
        if self.task is not None:
            self.task.cancel()
        if self._abandon_timer is None:
            loop = asyncio.get_running_loop()
            self._abandon_timer = loop.call_later(self._worker.settings.cancel_seconds, self.abandon)

    @property
    def is_idle(self) -> bool:
        """The code does nothing but wait for the outside."""
        is_answered = any(future.done() for future in self._answers.values())
        return bool(self._answers) and not is_answered and not self._is_in_steps

    @property
    def may_park(self) -> bool:
        """It can be let go now, and continued by its answer."""
        return self.is_idle and self.program.restart is not Restart.NEVER

    async def give_back(self) -> None:
        """Give the lease of a waiting run back, whose holder died; its answer will have it executed."""
        await self._let_go(Status.WAITING)

    async def fail_at_once(self, event: tuple[str, str], failure: Failure) -> None:
        """End a run without executing it."""
        try:
            await self._last_write(event, status=Status.FAILED, error=failure)
        finally:
            self._close()

    async def cancel_at_once(self, cancel: Cancel) -> None:
        """End a run whose holder died while it was being cancelled; its code stopped with the process."""
        try:
            now = self.now()
            stopped = msgspec.structs.replace(cancel, stopped=now)
            if isinstance(self.program, Closing):
                for event, step in self.program.last_words(self.record.steps.values(), now):
                    self.writer.write(event, mark=step.key, steps=[step])
            await self._last_write(cancelled_event(cancel.reason), status=Status.CANCELLED, cancel=stopped)
        finally:
            self._close()

    # Carrying out

    def start(self) -> None:
        """Begin to execute, as a task."""
        self.task = asyncio.create_task(self._carry_out(), name=f"run {self.run.run_id}")
        self._arm_limit()

    async def _carry_out(self) -> None:
        try:
            value = await self._execute()
            await self._finish_returned(value)
        except asyncio.CancelledError:
            await self._uncancelled(self._finish_stopped(returned=True))
        except (LeaseLost, Released):
            await self._uncancelled(self._finish_stopped(returned=True))
        except Exception as exc:  # noqa: BLE001  agent code may raise anything; it becomes the run's error
            if self.is_ending:
                await self._uncancelled(self._finish_stopped(returned=True))
            else:
                await self._uncancelled(self._finish_failed(self._failure or failure_of(exc)))
        finally:
            self._close()

    async def _execute(self) -> Any:
        context = Context(self)
        token = set_current(context)
        try:
            with nullcontext() if self._spans is None else self._spans.executing():
                with no_exit:
                    value = await self.program.execute(context, decode_result(self.run.input))
                if self.is_ending:
                    raise asyncio.CancelledError  # it was told to end, and did
                return value
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.is_ending or (task is not None and task.cancelling()):
                raise
            # Nobody told this execution to end: the code has awaited something that was cancelled.
            raise Exited("CancelledError: what the code waited for was cancelled") from None
        finally:
            token.var.reset(token)

    async def _uncancelled(self, last_words: Any) -> None:
        """Carry the last words out although this task was asked to end (perhaps once more)."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        work = asyncio.ensure_future(last_words)
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                continue
            except LeaseLost:
                return
            except HoldfastError as exc:
                log.error("last_words_lost", run_id=self.run.run_id, error=str(exc))
                return

    async def _finish_returned(self, value: Any) -> None:
        if self.record.unconsumed:
            missing = self.record.unconsumed[0]
            raise ReplayDiverged(
                f"the agent ended without asking for step {missing!r}, which an earlier execution recorded: "
                "its code was changed while the run was under way",
                step=missing,
            )
        self.writer.end_row()
        if self._failure is not None:
            await self._finish_failed(self._failure)
            return
        result = value if isinstance(value, Result) else Result(output=value)
        made = await self._shaped(encode_result(result.output, what="the output"))
        data, now = made.data, self.now()
        fields: dict[str, Any] = {
            "output": await self.shown(data),
            "latency_seconds": round(max(now - self.run.created_at, 0) / 1_000_000, 3),
            "stop_reason": result.stop_reason,
            **made.facts,
        }
        if result.usage is not None:
            fields["usage"] = result.usage
        message = self._message(result, data, now)
        if message is not None:
            fields["message_id"] = message.message_id
        await self._last_write(
            ("complete", encode_fields(fields)),
            status=Status.COMPLETED,
            output=data,
            usage=None if result.usage is None else msgspec.json.encode(result.usage),
            messages=() if message is None else (message,),
            before=[(name, custom_fields(name, None, own)) for name, own in result.events],
        )

    async def _shaped(self, data: bytes) -> Shaped:
        """The output as the agent's declaration wants it."""
        wanted = self.record.step(given_key(OUTPUT_SCHEMA))
        if wanted is not None:
            await check_output(decode_result(wanted.output or b"{}"), data)
        spec = spec_of(self.program)
        made = Shaped(data) if spec.output_schema is None else await off_loop(len(data), shaped, spec, data)
        return msgspec.structs.replace(made, data=cut(self._clean(made.data), spec.safety.max_output_chars))

    def _message(self, result: Result, data: bytes, now: int) -> Message | None:
        if self.run.thread_id is None:
            return None
        text = result.text
        if text is None:
            text = decode_result(data) if data.startswith(b'"') else data.decode()
        elif self._redactor is not None:
            text = self._redactor.text(text)
        return Message(
            message_id=self.ids.short("msg"),
            number=self.run.number,
            role="assistant",
            content=text,
            detail=result.detail,
            created_at=now,
        )

    async def _finish_failed(self, failure: Failure) -> None:
        failure = self._clean_failure(failure)
        await self._last_write(error_event(failure), status=Status.FAILED, error=failure)

    async def _finish_stopped(self, *, returned: bool) -> None:
        """The last words of code that was stopped."""
        if self.is_over:
            return
        ending = self.ending or Ending.STOP
        if ending is Ending.LOST:
            self._close()
        elif ending is Ending.PARK:
            await self._let_go(Status.WAITING)
        elif ending is Ending.CANCEL:
            now = self.now()
            cancel = self._cancel or Cancel("", now)
            cancel = msgspec.structs.replace(cancel, stopped=now if returned else None)
            await self._last_write(cancelled_event(cancel.reason), status=Status.CANCELLED, cancel=cancel)
        elif ending is Ending.TIMEOUT:
            seconds = self.run.timeout_seconds or 0
            await self._finish_failed(failure_of(RunTimeout(f"the run executed for more than {seconds:g} s")))
        elif ending is Ending.FAIL and self._failure is not None:
            await self._finish_failed(self._failure)
        elif self.program.restart is Restart.ALWAYS:
            await self._let_go(None)
        else:
            await self._finish_failed(failure_of(Interrupted("the server stopped while the run executed")))

    async def _last_write(
        self, event: tuple[str, str], *, before: Sequence[tuple[str, str]] = (), **changes: Any
    ) -> None:
        """The terminal event, what comes `before` it and all that ends with it; durable when this returns."""
        self.is_over = True
        now = self.now()
        events, interrupts = self._void_interrupts(now)
        self.writer.write(
            *events,
            *before,
            event,
            interrupts=interrupts,
            ended_at=now,
            executed_seconds=self._executed(),
            release=True,
            **changes,
        )
        await self.writer.durable()

    def _void_interrupts(self, now: int) -> tuple[list[tuple[str, str]], list[Interrupt]]:
        """Open questions of a run that ends are not open any more."""
        ended = [void_interrupt(interrupt, now) for interrupt in self._pending.values()]
        self._pending = {}
        return [event for event, _ in ended], [interrupt for _, interrupt in ended]

    async def _let_go(self, status: Status | None) -> None:
        """Give the lease up; what came for us meanwhile is looked at once more."""
        self.is_over = True
        changes: dict[str, Any] = {} if status is None else {"status": status}
        self.writer.write(release=True, executed_seconds=self._executed(), **changes)
        await self.writer.durable()
        self._close()
        await self._worker.let_go(self.run.number)

    def abandon(self) -> None:
        """The code did not return in time: end the run without it. It can write nothing any more."""
        if not self.is_over:
            self._worker.spawn(self._finish_abandoned())

    async def _finish_abandoned(self) -> None:
        log.warning("code_abandoned", run_id=self.run.run_id, agent=self.run.agent, reason=str(self.ending))
        try:
            await self._finish_stopped(returned=False)
        finally:
            self._close()

    def _on_lost(self) -> None:
        self.end(Ending.LOST)

    def _close(self) -> None:
        self.is_over = True
        refusal = self.writer.error
        if refusal is not None and not isinstance(refusal, LeaseLost) and self.writer.on_lost is not None:
            self._worker.spawn(self._worker.facts.fail_refused(self.run, refusal))
        self.writer.close()
        for timer in (self._park_timer, self._limit_timer, self._abandon_timer):
            if timer is not None:
                timer.cancel()
        # Nothing may point back here: what is left in a circle stays in memory until the collector comes, and it
        # comes seldom. A run that waits would cost 7 KB instead of nothing.
        self._park_timer = self._limit_timer = self._abandon_timer = None
        self.writer.on_lost = None
        self.on_ending.clear()
        self._worker.forget(self)

    # Waiting without cost

    def _arm_parking(self) -> None:
        if not self._answers or self.is_over or self._is_in_steps:
            return
        if self._idle_since is None:
            self._idle_since = self._worker.clock.monotonic()
        if self._park_timer is not None:
            self._park_timer.cancel()
        self._park_activity = self.writer.activity
        self._park_timer = asyncio.get_running_loop().call_later(self._worker.settings.grace_seconds, self._park)

    def _park(self) -> None:
        self._park_timer = None
        if all(future.done() for future in self._answers.values()) or self._is_in_steps or self.is_ending:
            return
        if self.writer.activity != self._park_activity:
            self._arm_parking()  # something besides the question is going on
        elif self.program.restart is Restart.NEVER:
            if not self._is_shown_waiting:
                self._is_shown_waiting = True
                self.writer.write(status=Status.WAITING)
        else:
            self.end(Ending.PARK)

    def _end_idle(self) -> None:
        if self._idle_since is not None and not self._answers:
            self._idle_seconds += self._worker.clock.monotonic() - self._idle_since
            self._idle_since = None

    # The limit on execution time; waiting does not count

    def _executed(self) -> float:
        now = self._worker.clock.monotonic()
        idle = self._idle_seconds + (now - self._idle_since if self._idle_since is not None else 0.0)
        return self.run.executed_seconds + max(now - self._started - idle, 0.0)

    def _arm_limit(self) -> None:
        limit = self.run.timeout_seconds
        if limit is None or self.is_over:
            return
        left = limit - self._executed()
        if left <= 0:
            self.end(Ending.TIMEOUT)
        else:
            self._limit_timer = asyncio.get_running_loop().call_later(left, self._arm_limit)
