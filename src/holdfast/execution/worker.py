"""
The worker of a process: takes runs, executes them, keeps their leases, sees to deadlines, and hands over at a stop.

One loop a second looks for what nobody told it about: queued runs, runs whose holder died, overdue interrupts. What
this process itself causes wakes it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from holdfast.clock import Clock
from holdfast.errors import AgentMissing, HoldfastError, LeaseLost, StorageFull, StoreError, StoreUnavailable
from holdfast.execution.carrying import carry_contexts
from holdfast.execution.client_tools import ClientTools
from holdfast.execution.context import get_current_context
from holdfast.execution.execution import Ending, Execution
from holdfast.execution.facts import Facts
from holdfast.execution.given import Definitions
from holdfast.execution.program import Program, Programs, spec_of
from holdfast.execution.record import Record
from holdfast.execution.recovery import Recovery
from holdfast.execution.steps import failure_of
from holdfast.execution.tally import Tally
from holdfast.ids import Ids
from holdfast.journal import Journal
from holdfast.journal.writer import PENDING_BYTES_MAX
from holdfast.model import File, Run
from holdfast.store.base import Lease, Limits

if TYPE_CHECKING:
    from holdfast.execution.tracing import Tracing

log = structlog.get_logger(__name__)

T = TypeVar("T")

UNSERVED_SECONDS = 600


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. Tests shorten them; users have no reason to."""

    runs_max: int = 1000  # executed at once in this process; 0: none, what it accepts is queued for others
    threads_max: int = 100  # sync functions and steps at once
    tenant_runs_max: int | None = None  # executed at once of one tenant, over all processes of the store
    agent_runs_max: int | None = None  # the same, of one agent that declares no limit of its own
    lease_seconds: float = 8.0
    renew_seconds: float = 2.0
    scan_seconds: float = 1.0
    grace_seconds: float = 0.25  # a waiting run is kept in memory so long: the answer often comes at once
    cancel_seconds: float = 4.5  # after this, a run is cancelled whether or not its code has returned
    tool_expires_seconds: float = 86_400.0  # of a tool call whose asker sets no deadline
    drain_seconds: float = 8.0
    holder_seconds: float = 5.0
    pending_bytes_max: int = PENDING_BYTES_MAX
    events_allowed: tuple[str, ...] | None = None  # the types that readers are shown; None: all
    recorded_only: bool = False  # a step that is not on record fails its run, for replays of recorded runs


class Worker:
    """Executes runs of the agents in `programs`."""

    def __init__(
        self,
        journal: Journal,
        programs: Programs,
        clock: Clock,
        ids: Ids,
        settings: WorkerSettings | None = None,
    ) -> None:
        self.journal = journal
        self.programs = programs
        self.clock = clock
        self.ids = ids
        self.settings = settings or WorkerSettings()
        self.owner = ids.short("process")
        self.facts = Facts(journal, self)
        self.threads = asyncio.Semaphore(self.settings.threads_max)
        self.tally = Tally()
        self.client_tools = ClientTools(journal.store, clock)
        self.definitions = Definitions(journal.store, clock)
        self.tracing: Tracing | None = None
        self.is_stopping = False
        self.start_child: Callable[[Run, str, Any, int], Awaitable[Any]] | None = None
        self._store = journal.store
        self._recovery = Recovery(self._store)
        self._executions: dict[int, Execution] = {}
        # Claimed by us (and when), but the store was away before they could be taken up.
        self._left: list[tuple[Run, float]] = []
        self._disowned_at = clock.monotonic()
        self._starting = 0  # runs that are being inserted under our lease
        self._parents: Counter[int] = Counter()  # runs that wait for children here, and for how many
        self._has_queue = False  # runs may wait for a place here, so that a new one has to stand behind them
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._scan_at: asyncio.TimerHandle | None = None
        self._loops: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """Begin to claim and execute, on the running event loop."""
        carry_contexts(lambda: get_current_context() is not None)
        await self.renew_leases()
        self._loops = [
            asyncio.create_task(self._scan_forever(), name="worker scan"),
            asyncio.create_task(self._renew_forever(), name="worker renew"),
        ]
        for loop in self._loops:
            self.journal.guard(loop)

    async def stop(self) -> None:
        """
        Take nothing more; give what executes `drain_seconds` to finish or to reach a step; then hand over what may
        be executed again, and end the rest as interrupted.
        """
        self.is_stopping = True
        self._wake.set()
        running = list(self._executions.values())
        for execution in running:
            if execution.may_park:
                execution.end(Ending.PARK)
        await _settled(running, self.settings.drain_seconds)
        left = list(self._executions.values())
        for execution in left:
            execution.end(Ending.PARK if execution.may_park else Ending.STOP)
        await _settled(left, 1.0)
        for execution in list(self._executions.values()):
            execution.abandon()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def die(self) -> None:
        """
        End as a process ends that is killed: nothing is handed over, nothing more is written, and the leases stay. Async
        code is cancelled; to the store and to others it looks as if it had just stopped.
        """
        self.is_stopping = True
        executions = list(self._executions.values())
        for execution in executions:
            execution.is_over = True
            execution.writer.close()
        tasks = [*self._loops, *(execution.task for execution in executions if execution.task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # a thread goes on until it looks

    @property
    def has_room(self) -> bool:
        """Whether this process can execute one more run."""
        return not self.is_stopping and self._room > 0

    @property
    def _room(self) -> int:
        """
        How many more runs have a place here. One that waits for a child lends it its own: else parents could hold all
        places while their children wait for one, for ever.
        """
        return self.settings.runs_max - len(self._executions) - self._starting + len(self._parents)

    @contextlib.contextmanager
    def place(self, *, is_child: bool = False) -> Iterator[bool]:
        """
        Hold a place for a run that is about to be started, if there is one: whether it may begin at once. While runs
        wait for a place here, it may not: a place that gets free is for the queue, where tenants take turns. A child
        goes ahead of them, for its parent has a place and waits.
        """
        if not self.has_room or (self._has_queue and not is_child):
            yield False
            return
        self._starting += 1
        try:
            yield True
        finally:
            self._starting -= 1

    @property
    def executing(self) -> int:
        """How many runs are in memory here."""
        return len(self._executions)

    @property
    def _served(self) -> list[str]:
        """The agents whose runs are executed here."""
        return sorted(self.programs.names()) if self.settings.runs_max else []

    def serves(self, agent: str) -> bool:
        return self.programs.get(agent) is not None

    # Executing

    def begin(self, run: Run, record: Record | None = None) -> None:
        """Execute a run that was just started under our lease; a fork begins with a record."""
        program = self.programs.get(run.agent)
        if program is None or run.number in self._executions:
            return
        self._execute(run, program, record or Record())

    def execution(self, number: int) -> Execution | None:
        """The run, if it is executed here."""
        return self._executions.get(number)

    @property
    def held(self) -> list[int]:
        """The numbers of the runs that are in memory here."""
        return list(self._executions)

    def wake(self) -> None:
        """Something may be there to be claimed."""
        self._wake.set()

    def queued(self) -> None:
        """A run was queued because there was no place for it here."""
        self._has_queue = True
        self._wake.set()

    def limits(self) -> Limits:
        """How many runs may execute at once in the whole store, as far as this process knows."""
        most = {}
        for name in self.programs.names():
            limit = self.agent_runs_max(name)
            if limit is not None:
                most[name] = limit
        return Limits(tenant_runs_max=self.settings.tenant_runs_max, agent_runs_max=most)

    def agent_runs_max(self, name: str) -> int | None:
        """How many runs of an agent may execute at once in the whole store; what it declares itself goes first."""
        program = self.programs.get(name)
        declared = None if program is None else spec_of(program).runs_max
        return self.settings.agent_runs_max if declared is None else declared

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something go on by itself; a stop waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, execution: Execution) -> None:
        """An execution is over: nothing of it is left here."""
        if self._executions.get(execution.run.number) is execution:
            del self._executions[execution.run.number]
            tail = self.journal.tails.get(execution.run.number)
            if tail is not None:
                self.journal.tails.release(tail)
            self._wake.set()

    async def let_go(self, number: int) -> None:
        """The lease of a run was given up: facts that came for its holder are written by whoever is next."""
        run = await self._store.run_by_number(number)
        if run is not None and not run.status.is_final:
            await self.facts.apply_inbox(run)

    async def keep(self, run: Run, data: bytes) -> File:
        """Keep a large value as a file of the run."""
        import hashlib

        file = File(
            file_id=self.ids.short("file"),
            tenant=run.tenant,
            number=run.number,
            name="value.json",
            media_type="application/json",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=self.clock.now(),
        )
        await self.insist(lambda: self._store.put_file(file, data))
        return file

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """
        What a call to the store gives, once the store is there and has room: a run waits for it here, as it does where
        it appends. For what may be done twice.
        """
        while True:
            try:
                return await call()
            except (StorageFull, StoreUnavailable) as error:
                log.warning("run_waits", reason=error.code, message=str(error))
            await asyncio.sleep(self.settings.scan_seconds)

    async def run_child(self, parent: Run, agent: str, input: Any, occurrence: int) -> Any:
        """Start (or find) the child of a run and wait for its output."""
        if self.start_child is None:
            raise RuntimeError("this worker cannot start children")
        self._parents[parent.number] += 1
        try:
            return await self.start_child(parent, agent, input, occurrence)
        finally:
            self._parents[parent.number] -= 1
            if not self._parents[parent.number]:
                del self._parents[parent.number]

    def _execute(self, run: Run, program: Program, record: Record) -> Execution:
        # The run may have been there for long before we heard of it: the reply to its start came late.
        seconds = max(self.clock.now() - run.created_at, 0) / 1_000_000
        execution = Execution(self, run, program, record, leased_at=self.clock.monotonic() - seconds)
        self._executions[run.number] = execution
        self.journal.tails.open(run.number, run.tail_sequence, finished=False, is_current=True)
        execution.start()
        return execution

    # Facts for runs that are executed here

    async def look_at_inbox(self, numbers: Sequence[int]) -> None:
        """Deliver what waits for runs that are executed here."""
        mine = [number for number in numbers if number in self._executions]
        if not mine:
            return
        for row in await self._store.inbox(mine):
            execution = self._executions.get(row.number)
            if execution is not None and not execution.is_over:
                try:
                    execution.deliver(row)
                except LeaseLost:
                    continue  # it is just being let go; whoever is next finds the row

    async def changed(self, number: int) -> None:
        """Wait until the run's journal was written to, or a short time is over."""
        execution = self._executions.get(number)
        if execution is not None and not (execution.is_over or execution.is_ending):
            try:
                await execution.writer.durable()
                return
            except LeaseLost:
                pass
        await asyncio.sleep(0.02)

    def expect_deadline(self, at: int) -> None:
        """Look at deadlines right at this time, if the next look would be later."""
        seconds = max((at - self.clock.now()) / 1_000_000, 0.0)
        if seconds < self.settings.scan_seconds:
            asyncio.get_running_loop().call_later(seconds, self._wake.set)

    # The loops

    async def _scan_forever(self) -> None:
        while True:
            # Cleared before looking: what comes during the look sets it again.
            self._wake.clear()
            try:
                await self._scan()
            except StoreError as error:
                log.warning("scan_failed", reason=error.code, message=str(error))
            except Exception:  # a defect met in one look must not end all later ones
                log.exception("scan_failed")
            with contextlib.suppress(TimeoutError):
                # Not wait_for: when woken and cancelled at once, it would drop the cancellation (Python 3.11).
                async with asyncio.timeout(self.settings.scan_seconds):
                    await self._wake.wait()

    async def _scan(self) -> None:
        await self._expire()
        if self.is_stopping:
            return
        left, self._left = self._left, []
        await asyncio.gather(*(self._take_up_or_leave(run, leased_at) for run, leased_at in left))
        await self._disown()
        await self._claim()
        await self._fail_unserved()

    async def _claim(self) -> None:
        limits = self.limits()
        while self.has_room:
            room = min(self._room, 100)
            self._has_queue = False  # one that is queued from here on sets it again
            leased_at = self.clock.monotonic()
            try:
                found = await self._store.claim(
                    self.owner, self._served, limit=room, lease_seconds=self.settings.lease_seconds, limits=limits
                )
            except StoreError:
                self._has_queue = True  # nobody knows
                raise
            await asyncio.gather(*(self._take_up_or_leave(run, leased_at) for run in found))
            # Where something is limited, a claim may leave what the next one takes.
            if not found or (len(found) < room and not limits):
                return
            self._has_queue = True  # there may be more

    async def _disown(self) -> None:
        """
        Let runs be claimed again that are in our name though nothing of them is here: their last words were refused,
        they could not be taken up, the reply to their claim was lost. Between two claims, so that none of them is on
        its way to us.
        """
        now = self.clock.monotonic()
        if now - self._disowned_at < self.settings.renew_seconds:
            return
        self._disowned_at = now
        held = [*self._executions, *(run.number for run, _ in self._left)]
        for number in await self._store.disown(self.owner, held):
            log.warning("run_disowned", number=number)

    async def _take_up_or_leave(self, run: Run, leased_at: float) -> None:
        """One run that cannot be taken up hinders no other; it is tried again, by us unless others were first."""
        try:
            await self._take_up(run, leased_at)
        except HoldfastError as error:
            log.error("not_taken_up", run_id=run.run_id, reason=error.code, message=str(error))
            self._executions.pop(run.number, None)
            if isinstance(error, StoreUnavailable):
                # No claim gives us what is ours already, and there may be no other process.
                self._left.append((run, leased_at))

    async def _take_up(self, run: Run, leased_at: float) -> None:
        program = self.programs.get(run.agent)
        if program is None:
            return
        taken = await self._recovery.take_up(run, program)
        execution = Execution(self, taken.run, program, taken.record, leased_at=leased_at)
        self._executions[run.number] = execution
        self.journal.tails.open(run.number, run.tail_sequence, finished=False, is_current=True)
        try:
            await taken.begin(execution)
        except LeaseLost:
            self.forget(execution)
            return
        await self.look_at_inbox([run.number])

    async def _expire(self) -> None:
        for interrupt in await self._store.due(self.clock.now(), limit=1000):
            try:
                await self.facts.expire(interrupt)
            except HoldfastError as error:
                log.warning("expiry_failed", interrupt_id=interrupt.interrupt_id, message=str(error))

    async def _fail_unserved(self) -> None:
        before = self.clock.now() - UNSERVED_SECONDS * 1_000_000
        for run in await self._store.unserved(self._served, queued_before=before):
            failure = failure_of(AgentMissing(f"no process served agent {run.agent!r} for {UNSERVED_SECONDS} s"))
            try:
                await self.facts.fail(run, failure)
            except LeaseLost:
                continue

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.renew_seconds)
            try:
                await self.renew_leases()
                await self.look_at_inbox(list(self._executions))
            except StoreError as error:
                log.warning("renewal_failed", reason=error.code, message=str(error))

    async def renew_leases(self) -> None:
        """
        Prolong the leases of all that is executed here, and stop what was lost.

        Raises:
            StoreUnavailable: nobody knows; they may run out.
        """
        began = self.clock.monotonic()
        floor = self.journal.floor()
        self.journal.raise_floor(await self._store.announce(self.owner, self._served, floor=floor))
        executions = [item for item in self._executions.values() if not item.is_over]
        leases = [Lease(item.run.number, item.run.lease_epoch) for item in executions]
        lost = (
            await self._store.renew(self.owner, leases, lease_seconds=self.settings.lease_seconds) if leases else set()
        )
        for execution in executions:
            if execution.run.number not in lost:
                execution.leased_at = began
            elif not execution.is_over:
                execution.end(Ending.LOST)


async def _settled(executions: Sequence[Execution], seconds: float) -> None:
    tasks = [execution.task for execution in executions if execution.task is not None and not execution.task.done()]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
