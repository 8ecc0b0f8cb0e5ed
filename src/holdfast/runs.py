"""
The one service that APIs and the CLI call: start, get, list, follow, answer, cancel, export, verify.

It knows tenants, roles and runs, and no API. Whatever an API shows or accepts, it translates to and from here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.caller import NO_ROLE, ROLES, Caller
from holdfast.clock import Clock
from holdfast.errors import (
    AgentNotFound,
    InterruptAmbiguous,
    InterruptNotFound,
    InvalidAnswer,
    InvalidRequest,
    JournalCorrupt,
    RunFinished,
    RunNotFound,
    StepFailed,
    Stopping,
    ThreadNotFound,
)
from holdfast.execution.admission import admitted_request
from holdfast.execution.answers import (
    CallAnswer,
    GivenOutput,
    ToolOutput,
    canonical_answers,
    canonical_output,
    check_repeated,
)
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.events import outbox_of, segment_of, started_event
from holdfast.execution.facts import Given
from holdfast.execution.fork_point import point_at, point_before
from holdfast.execution.forking import inherit, with_answers
from holdfast.execution.given import DEFINITION, given_key, given_step, is_given, with_given
from holdfast.execution.guarded import clean_step
from holdfast.execution.program import Defined, Program, declared_id, spec_of
from holdfast.execution.record import Record
from holdfast.execution.redaction import redactor_of
from holdfast.execution.requests import ForkRequest, StartRequest, fingerprint
from holdfast.execution.withheld import shown_steps
from holdfast.execution.worker import Worker
from holdfast.ids import RUN_ID, Ids
from holdfast.journal import Journal, Reader, Signal
from holdfast.journal.proof import Verified, export, verify
from holdfast.memory import Memory
from holdfast.model import Cancel, Interrupt, Kind, Message, Part, Run, Status, Step, Thread
from holdfast.model.encoding import decode_event, repair_value
from holdfast.rates import RateLimiter
from holdfast.shutdown import Shutdown
from holdfast.store.base import Behind, CallClaim, RunQuery, Started, StartRun

# In a run's metadata: the endpoint that hears of this run alone. The store looks for it where it fills the outbox.
WEBHOOK_ENDPOINT: Final = "webhook_endpoint"

_CHILD_NAMESPACE: Final = uuid.UUID("5b8f3c52-6f0e-5d0a-9c50-0c6f5c8a4e11")
# A run can come to wait without an event of its own; whoever waits for that looks again this often.
RECHECK_SECONDS = 1.0


class _Limits(NamedTuple):
    """What may hold a new run back, or have it refused: fields of `StartRun`."""

    queued_max: int | None
    tenant_queued_max: int | None
    tenant_runs_max: int | None
    agent_runs_max: int | None


class Runs:
    """Made once per server; used on its event loop. Every call is scoped by the caller's tenant."""

    def __init__(
        self,
        journal: Journal,
        worker: Worker,
        clock: Clock,
        ids: Ids,
        shutdown: Shutdown,
        *,
        default_agent: str | None = None,
        timeout_seconds: float | None = None,
        queued_max: int = 10_000,
        tenant_queued_max: int | None = None,
        namespace: str = "00000000-0000-0000-0000-000000000000",
    ) -> None:
        self.journal = journal
        self.store = journal.store
        self.memory = Memory(journal.store.memory, clock, ids)
        self.worker = worker
        self.shutdown = shutdown
        self.default_agent = default_agent
        self._clock = clock
        self._ids = ids
        self._rates = RateLimiter(clock)
        self._timeout_seconds = timeout_seconds
        self._queued_max = queued_max
        self._tenant_queued_max = tenant_queued_max
        self._namespace = uuid.UUID(namespace)
        worker.start_child = self._run_child

    # Starting

    def agent(self, name: str | None) -> Program:
        """
        The agent of this name, or the default one.

        Raises:
            AgentNotFound
        """
        wanted = name or self.default_agent
        program = self.worker.programs.get(wanted) if wanted is not None else None
        if program is None:
            raise AgentNotFound(f"this server serves no agent {wanted!r}", agent=wanted)
        return program

    async def start(self, caller: Caller, request: StartRequest) -> Started:
        """
        Start a run. When this returns, the run and its event `started` are durable, and it executes or is queued.

        A known idempotency key gives the run that it started (`replayed`).

        Raises:
            AgentNotFound, InvalidRequest, InvalidInput, PolicyViolation, RunExists, ThreadBusy, QueueFull,
            TenantQueueFull, IdempotencyKeyReused, Stopping, StorageFull, RateLimited
        """
        caller.require("executor")
        program = self.agent(request.agent)
        start = self._rates.take((caller.tenant, caller.name), caller.rate)
        try:
            started = await self._start(caller, program, request)
        except Exception:
            start.undo()
            raise
        if started.replayed:
            start.undo()
        return started

    def check_rate(self, caller: Caller) -> None:
        """
        Let a caller pass who may start one more run now; `start` counts it.

        Raises:
            RateLimited
        """
        self._rates.check((caller.tenant, caller.name), caller.rate)

    async def _start(self, caller: Caller, program: Program, request: StartRequest) -> Started:
        if request.run_id is not None and not RUN_ID.match(request.run_id):
            raise InvalidRequest(
                "run_id: 1 to 128 letters, digits, _ or -, the first a letter or digit", field="run_id"
            )
        request = await self._defined(caller, program, await admitted_request(spec_of(program), request))
        if self.worker.is_stopping or self.shutdown.is_set:
            raise Stopping("the server is stopping; try again", retry_after=1)
        run, message = self._new_run(caller, program, request)
        facts = dict(request.facts)
        if message is not None:
            facts["user_message_id"] = message.message_id
        event = started_event(run, program.framework, facts)
        with self.worker.place(is_child=request.parent is not None) as leased:
            started = await self._insert(run, event, message, request, leased=leased)
            if started.run.is_leased and not started.replayed:
                inherited = request.inherited
                self.worker.begin(started.run, Record(inherited.steps, inherited.interrupts))
        if not started.run.is_leased and not started.replayed:
            # With a place here it was a limit that held it back: no other run waits for this process.
            if leased:
                self.worker.wake()
            else:
                self.worker.queued()
        return started

    async def _defined(self, caller: Caller, program: Program, request: StartRequest) -> StartRequest:
        """The request with the agent's definition of this moment, unless it has one already."""
        inherited = request.inherited
        if not isinstance(program, Defined) or any(s.key == given_key(DEFINITION) for s in inherited.steps):
            return request
        name = await self.worker.definitions.keep(caller.tenant, await program.definition())
        given = given_step(DEFINITION, name, self._clock.now())
        steps = with_given(inherited.steps, [given])
        return msgspec.structs.replace(request, inherited=msgspec.structs.replace(inherited, steps=steps))

    async def fork(self, caller: Caller, run_id: str, request: ForkRequest) -> Started:
        """
        Start a new run of the same agent that has on record what this one had before a point: steps that were over
        keep their results, answered questions their answers; everything later is done anew. The old run does not
        change. What holds for `start` holds here.

        Raises:
            RunNotFound
            InvalidRequest: the run has no such step, or its journal does not reach that far.
            as `start`
        """
        caller.require("executor")
        run = await self.get(caller, run_id)
        if request.step is not None:
            point = await point_before(self.store, run, request.step)
        else:
            point = point_at(run, request.from_sequence)
        steps, interrupts = await self.store.steps(run.number), await self.store.interrupts(run.number)
        start, inherited = request.start, inherit(point, steps, interrupts, lambda: self._ids.short("int"))
        left = {given_key(DEFINITION)} if request.redefined else set()
        given = with_given((step for step in inherited.steps if step.key not in left), start.inherited.steps)
        return await self.start(
            caller,
            msgspec.structs.replace(
                start,
                agent=run.agent,
                input=decode_result(run.input) if start.input is msgspec.UNSET else start.input,
                metadata={name: value for name, value in run.metadata.items() if name != WEBHOOK_ENDPOINT}
                | {name: value for name, value in start.metadata.items() if name == WEBHOOK_ENDPOINT},
                facts={**start.facts, "forked_from": {"run_id": run.run_id, "sequence": point.sequence}},
                inherited=msgspec.structs.replace(inherited, steps=given),
            ),
        )

    async def _insert(
        self, run: Run, event: tuple[str, str], message: Message | None, request: StartRequest, *, leased: bool
    ) -> Started:
        def build(stamp: Any) -> StartRun:
            segment = segment_of(run, [event], stamp)
            lease = {"lease_owner": self.worker.owner, "lease_epoch": 1, "status": Status.RUNNING} if leased else {}
            return StartRun(
                run=msgspec.structs.replace(
                    run,
                    tail_sequence=0,
                    head_hash=segment.hash,
                    last_timestamp=segment.last_timestamp,
                    **lease,
                ),
                segment=segment,
                outbox=outbox_of(segment, [event]),
                message=message,
                supersedes=request.supersedes,
                idempotency=request.idempotency,
                lease_seconds=self.worker.settings.lease_seconds,
                steps=request.inherited.steps,
                interrupts=request.inherited.interrupts,
                queued_max=limits.queued_max,
                tenant_queued_max=limits.tenant_queued_max,
                tenant_runs_max=limits.tenant_runs_max,
                agent_runs_max=limits.agent_runs_max,
            )

        limits = await self._limits(run)
        while isinstance(outcome := await self.journal.submit(build), Behind):
            self.journal.raise_floor(outcome.newest)
        assert isinstance(outcome, Started)
        return outcome

    async def _limits(self, run: Run) -> _Limits:
        """What may hold a new run back or have it refused. A child does its parent's work, which was accepted."""
        of_agent = self.worker.agent_runs_max(run.agent)
        if run.parent is None:
            of_tenant = self.worker.settings.tenant_runs_max
            return _Limits(self._queued_max, self._tenant_queued_max, of_tenant, of_agent)
        if of_agent is not None:
            parent = await self.store.run_by_number(run.parent)
            if parent is not None and parent.agent == run.agent:
                of_agent = None  # that one waits for it: both would wait for ever
        return _Limits(None, None, None, of_agent)

    def _new_run(self, caller: Caller, program: Program, request: StartRequest) -> tuple[Run, Message | None]:
        now = self._clock.now()
        declared = spec_of(program).timeout_seconds
        limits = [item for item in (request.timeout_seconds, self._timeout_seconds, declared) if item is not None]
        run = Run(
            number=0,
            run_id=request.run_id or self._ids.run_id(),
            tenant=caller.tenant,
            agent=program.name,
            agent_id=self.agent_id(program.name),
            thread_id=request.thread_id,
            parent=request.parent,
            status=Status.QUEUED,
            priority=spec_of(program).priority if request.priority is None else request.priority,
            input=encode_result(repair_value(request.input), what="the input"),
            caller=caller.name,
            role=caller.role,
            trust=caller.trust,
            metadata=request.metadata,
            timeout_seconds=min(limits, default=None),
            created_at=now,
            tail_sequence=-1,
        )
        if request.thread_id is None or (request.message is None and not request.media):
            return run, None
        message = Message(
            message_id=self._ids.short("msg"),
            number=0,
            role="user",
            content=request.message or "",
            media=msgspec.json.encode(request.media),
            created_at=now,
        )
        return run, message

    def agent_id(self, name: str) -> str:
        """The stable UUID of an agent: the declared one, else UUIDv5 of its name in the store's namespace."""
        program = self.worker.programs.get(name)
        declared = None if program is None else declared_id(program)
        return declared or str(uuid.uuid5(self._namespace, name))

    async def _run_child(self, parent: Run, agent: str, input: Any, occurrence: int) -> Any:
        # The id follows from parent and place, so that a second execution finds the child of the first.
        run_id = str(uuid.uuid5(_CHILD_NAMESPACE, f"{parent.tenant}/{parent.run_id}/{agent}/{occurrence}"))
        caller = Caller(parent.caller, parent.tenant, parent.role, parent.trust)
        run = await self.store.run(parent.tenant, run_id)
        if run is None:
            request = StartRequest(agent=agent, input=input, run_id=run_id, parent=parent.number)
            run = (await self.start(caller, request)).run
        ended = await self.wait(caller, run.run_id, timeout=None, until_waiting=False)
        if ended.status is Status.COMPLETED:
            return decode_result(ended.output or b"null")
        reason = ended.error.message if ended.error is not None else f"it was {ended.status}"
        raise StepFailed(f"the run of {agent} did not complete: {reason}", run_id=run_id)

    # Reading

    async def get(self, caller: Caller, run_id: str) -> Run:
        """
        The run as it is now.

        Raises:
            RunNotFound: unknown, or of another tenant.
        """
        run = await self.store.run(caller.tenant, run_id)
        if run is None:
            raise RunNotFound(f"there is no run {run_id!r}", run_id=run_id)
        return run

    async def list(self, query: RunQuery) -> Sequence[Run]:
        """Runs of the query's tenant, newest first."""
        return await self.store.runs(query)

    async def wait(self, caller: Caller, run_id: str, *, timeout: float | None, until_waiting: bool = True) -> Run:
        """The run, once it is finished (or waits for the outside), or when `timeout` seconds are over, or at a stop."""
        run = await self.get(caller, run_id)
        if self._is_awaited(run, until_waiting):
            return run
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        reader = Reader(self.journal, run, after=run.tail_sequence)
        self.shutdown.add(reader.wake)
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                # Subscribed before reading, so a change that comes between the two is not missed.
                run = await self.get(caller, run_id)
                is_over = self.shutdown.is_set or (deadline is not None and loop.time() >= deadline)
                if is_over or self._is_awaited(run, until_waiting):
                    return run
                seconds = RECHECK_SECONDS if deadline is None else min(deadline - loop.time(), RECHECK_SECONDS)
                timer = loop.call_later(max(seconds, 0), reader.wake)
                await _until_notable(reader)
                timer.cancel()
                if reader.is_void:
                    self.shutdown.remove(reader.wake)
                    reader.close()
                    reader = Reader(self.journal, run, after=run.tail_sequence)
                    self.shutdown.add(reader.wake)
        finally:
            if timer is not None:
                timer.cancel()
            self.shutdown.remove(reader.wake)
            reader.close()

    def _is_awaited(self, run: Run, until_waiting: bool) -> bool:
        return run.status.is_final or (until_waiting and run.status is Status.WAITING)

    async def last_event(self, run: Run) -> dict[str, Any]:
        """The newest event that the run had when its row was read; of a finished run, its end."""
        reader = Reader(self.journal, run, after=run.tail_sequence - 1)
        try:
            await reader.prime()
            chunk = await reader.next()
        finally:
            reader.close()
        if isinstance(chunk, Signal):
            raise JournalCorrupt(f"run {run.run_id}: its end is not stored", first_bad_sequence=run.tail_sequence)
        return decode_event(chunk.lines[0])

    def follow(self, run: Run, *, after: int) -> Reader:
        """
        A reader of the run's journal from behind this sequence on (-1: from the start). Close it after use.

        Whether history before it is gone or was rolled back is for the caller to see, from `run`.
        """
        return Reader(self.journal, run, after=after)

    async def steps(self, caller: Caller, run_id: str) -> Sequence[Step]:
        """
        The run's steps as people are shown them, by start; one that is a tool call of the caller's is over with its answer.
        """
        run = await self.get(caller, run_id)
        kept = [step for step in shown_steps(await self.store.steps(run.number)) if not is_given(step)]
        steps = with_answers(kept, await self.store.interrupts(run.number))
        program = self.worker.programs.get(run.agent)
        redactor = None if program is None else redactor_of(spec_of(program).safety.redact_patterns)
        return steps if redactor is None else [clean_step(redactor, step) for step in steps]

    async def interrupts(self, caller: Caller, run_id: str) -> Sequence[Interrupt]:
        """The run's interrupts, oldest first."""
        return await self.store.interrupts((await self.get(caller, run_id)).number)

    # Answering and cancelling

    async def answer(
        self,
        caller: Caller,
        run_id: str,
        answer: Any,
        *,
        interrupt_id: str | None = None,
        note: str | None = None,
        blocks: Any = None,
    ) -> Interrupt:
        """
        Answer a pending question or approval, or with `ToolOutput`s the calls of a round. Durable when this returns;
        the interrupt as it is afterwards comes back. The same content again is a success.

        Raises:
            RunNotFound, InterruptNotFound, InterruptAmbiguous, InvalidAnswer, InterruptResolved, RunFinished,
            Forbidden
        """
        caller.require("executor")
        run = await self.get(caller, run_id)
        interrupt = await self._interrupt(run, interrupt_id)
        caller.require(interrupt.answer_role)
        if interrupt.kind is Kind.TIMER:
            raise InvalidAnswer("a timer takes no answer")
        answers = canonical_answers(interrupt, answer, note=note, blocks=blocks)
        if run.status.is_final:
            check_repeated(run, interrupt, answers)
            return interrupt
        for part_id, data in answers:
            given = Given(data, "caller", caller.name, self._clock.now())
            interrupt = await self.worker.facts.answer(run.number, interrupt.interrupt_id, part_id, given)
        return interrupt

    async def _interrupt(self, run: Run, interrupt_id: str | None) -> Interrupt:
        interrupts = await self.store.interrupts(run.number)
        if interrupt_id is not None:
            for interrupt in interrupts:
                if interrupt.interrupt_id == interrupt_id:
                    return interrupt
            raise InterruptNotFound(f"run {run.run_id} has no interrupt {interrupt_id!r}", interrupt_id=interrupt_id)
        pending = [item for item in interrupts if item.is_pending and item.kind is not Kind.TIMER]
        if not pending:
            raise InterruptNotFound(f"run {run.run_id} waits for no answer")
        if len(pending) > 1:
            names = [item.interrupt_id for item in pending]
            raise InterruptAmbiguous(f"run {run.run_id} waits for {len(names)} answers: name one", interrupt_ids=names)
        return pending[0]

    async def expire_calls(self, run: Run) -> None:
        """Give the overdue calls of a run their declared answers, before a late one is looked at."""
        for interrupt in await self.store.interrupts(run.number):
            due = interrupt.expires_at
            if interrupt.is_pending and interrupt.kind is Kind.TOOL and due is not None and due <= self._clock.now():
                await self.worker.facts.expire(interrupt)

    async def answer_calls(self, caller: Caller, run: Run, outputs: Sequence[GivenOutput]) -> Sequence[CallAnswer]:
        """
        Answer tool calls, whichever rounds they are of; what became of each comes back, in their order. What is
        `accepted` is durable, all of it since one moment. The first stored answer of a call wins for ever; the same
        again is `repeated`.

        Raises:
            InterruptNotFound: a call was never asked (`tool_call_ids`); nothing was answered.
            Forbidden
        """
        caller.require("executor")
        call_ids = [item.output.tool_call_id for item in outputs]
        places = await self._parts(run, call_ids)
        now = self._clock.now()
        data = {item.output.tool_call_id: canonical_output(item.output) for item in outputs}
        stale = {
            item.output.tool_call_id
            for item in outputs
            if item.claim is not None and item.claim < places[item.output.tool_call_id].claim_number
        }
        given = {
            call_id: Given(answer, "caller", caller.name, now)
            for call_id, answer in data.items()
            if places[call_id].answer is None and call_id not in stale
        }
        stored = await self.worker.facts.answer_calls(run.number, given) if given else set()
        if len(stored) < len(outputs):  # what the others have now decides what is a repeat
            places = await self._parts(run, call_ids)
        return [_became(places[call_id], data[call_id], call_id in stored) for call_id in data]

    async def claim_calls(
        self, caller: Caller, run: Run, worker: str, call_ids: Sequence[str], *, seconds: float
    ) -> Mapping[str, Part]:
        """
        Claim tool calls for one of the caller's workers, for so long; 0 gives them back. The calls as they are
        afterwards come back: one is the worker's if it has its name and `claim_until` lies ahead.

        Raises:
            InterruptNotFound: a call was never asked; nothing was claimed.
            Forbidden
        """
        caller.require("executor")
        await self._parts(run, call_ids)
        now = self._clock.now()
        until = now + int(seconds * 1_000_000)
        await self.store.claim_calls(
            CallClaim(number=run.number, worker=worker, call_ids=tuple(call_ids), at=now, until=until)
        )
        return await self._parts(run, call_ids)

    async def _parts(self, run: Run, call_ids: Iterable[str]) -> dict[str, Part]:
        """The calls of these ids; raises InterruptNotFound."""
        parts = {
            part.tool_call_id: part
            for interrupt in await self.store.interrupts(run.number)
            for part in interrupt.parts
            if interrupt.kind is Kind.TOOL
        }
        missing = [call_id for call_id in call_ids if call_id not in parts]
        if missing:
            raise InterruptNotFound(f"run {run.run_id} never asked for the call {missing[0]!r}", tool_call_ids=missing)
        return {call_id: parts[call_id] for call_id in call_ids}

    async def cancel(self, caller: Caller, run_id: str, *, reason: str = "", wait: float = 5.0) -> Run:
        """
        Cancel a run and its children. The run comes back once it is final, or after `wait` seconds; it is final at
        most 5 s after the request. A run that is cancelled already is a success.

        Raises:
            RunFinished: it is completed or failed.
            RunNotFound, Forbidden
        """
        caller.require("executor")
        run = await self.get(caller, run_id)
        await self.worker.facts.cancel(run.number, reason)
        for child in await self.store.runs(RunQuery(tenant=run.tenant, parent=run.number, limit=1000)):
            if not child.status.is_final:
                try:
                    await self.cancel(caller, child.run_id, reason=reason, wait=0)
                except RunFinished:
                    continue
        run = await self.wait(caller, run_id, timeout=wait, until_waiting=False)
        return run if run.cancel is not None else await self._with_accepted_cancel(caller, run)

    async def _with_accepted_cancel(self, caller: Caller, run: Run) -> Run:
        """The run with its receipt, which its holder has not taken up yet."""
        for row in await self.store.inbox([run.number]):
            if row.kind == "cancel":
                return msgspec.structs.replace(run, cancel=Cancel(row.reason, row.created_at))
        return await self.get(caller, run.run_id)

    # Threads

    async def thread(self, caller: Caller, thread_id: str) -> Thread | None:
        return await self.store.thread(caller.tenant, thread_id)

    async def threads(self, caller: Caller, *, before: tuple[int, str] | None, limit: int) -> Sequence[Thread]:
        return await self.store.threads(caller.tenant, before=before, limit=limit)

    async def messages(self, caller: Caller, thread_id: str) -> Sequence[Message]:
        return await self.store.messages(caller.tenant, thread_id)

    async def delete_thread(self, caller: Caller, thread_id: str) -> None:
        """
        Delete a thread with its runs, journals and messages. The id may be used anew.

        Raises:
            ThreadNotFound, Forbidden
            ThreadBusy: it has a run that is not finished. Nothing was deleted.
        """
        caller.require("operator")
        if not await self.store.delete_thread(caller.tenant, thread_id):
            raise ThreadNotFound(f"there is no thread {thread_id!r}", thread_id=thread_id)

    async def pending(self, caller: Caller, *, thread_id: str | None = None) -> Sequence[Interrupt]:
        """Pending questions and approvals of the tenant, oldest first."""
        return await self.store.pending(caller.tenant, thread_id=thread_id)

    # Export

    async def export(self, caller: Caller, run_id: str) -> AsyncIterator[bytes]:
        """The stored journal byte for byte, between control lines, as JSON lines; see `holdfast.journal.proof`."""
        run = await self.get(caller, run_id)
        async for piece in export(self.store, run):
            yield piece

    async def verify(self, caller: Caller, run_id: str) -> Verified:
        """Read every byte of a journal and compute its hash chain anew."""
        return await verify(self.store, await self.get(caller, run_id))


def _became(part: Part, data: bytes, is_stored: bool) -> CallAnswer:
    """What an answer to a call came to, by the answer that the call has afterwards."""
    if is_stored:
        return CallAnswer(part.tool_call_id, "accepted")
    if part.answer is None:  # whoever holds it now may still answer; or the run is over
        return CallAnswer(part.tool_call_id, "lost", "claim" if part.claim_number else "answered")
    is_same = part.answer == data and part.by == "caller"
    return CallAnswer(part.tool_call_id, "repeated") if is_same else CallAnswer(part.tool_call_id, "lost", "answered")


async def _until_notable(reader: Reader) -> None:
    """Read on until the journal ends, asks something, or the reader is woken; tokens alone are not worth a look."""
    while True:
        chunk = await reader.next()
        if isinstance(chunk, Signal) or reader.is_finished or "interrupt" in chunk.types:
            return


__all__ = [
    "NO_ROLE",
    "ROLES",
    "CallAnswer",
    "Caller",
    "ForkRequest",
    "GivenOutput",
    "Runs",
    "StartRequest",
    "ToolOutput",
    "Verified",
    "fingerprint",
]
