"""
The contract of a store: where runs, journals and all that hangs on them are kept.

SQLite (one process) and Postgres (any number) keep it alike; one suite in tests/contract proves both.

* Every change that carries events goes through `commit`: a batch of writes, each all or nothing by itself, durable
  together when the call returns. A write that is refused (a lost lease, a taken run id) does not touch the others.
* Writes are data. The store compares what a write expects with what it finds, in the transaction that writes; it
  encodes no event and decides nothing about runs.
* Everything is scoped by tenant, but for calls that take a run's `number`, which only the kernel knows.
* Reads see all finished commits of every process.
* A driver's errors become ours at the store's own edge: StoreUnavailable, StorageFull, JournalCorrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model import ApiKey, Cancel, Failure, File, Interrupt, Message, Run, Segment, Status, Step, Thread
from holdfast.store.memory import MemoryStore
from holdfast.store.records import Records

SCHEMA_VERSION = 6


class OutboxRow(msgspec.Struct, frozen=True):
    """
    A webhook to be sent: the sender builds the body once, from the event that the row points at.

    A write brings it without an endpoint; the store makes a row of it for each endpoint that wants to hear of the run.
    """

    endpoint_id: str
    number: int
    sequence: int
    created_at: int


class IdempotencyRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of a call with an Idempotency-Key, per tenant, method and path.

    A call that starts a run keeps the run's `number` and its answer is made anew from the run; any other keeps its
    status and body. `status` 0: the first call is at work.
    """

    tenant: str
    method: str
    path: str
    key: str
    fingerprint: bytes  # SHA-256 of query and JSON value
    number: int | None = None
    status: int = 0
    body: bytes = b""
    created_at: int
    expires_at: int | None  # None: as long as the run


class InboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A fact from outside, for a run that another process (or another part of this one) is executing.

    Its row being there decides the race: the owner of the lease only still writes it into the journal.
    """

    inbox_id: int = 0
    number: int
    kind: str  # answer, cancel
    interrupt_id: str = ""
    tool_call_id: str = ""
    answer: bytes = b""
    by: str = ""
    caller: str = ""
    reason: str = ""
    created_at: int


# ── writes ──────────────────────────────────────────────────────────────────────────────────────────────────────


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    """
    Insert a run with its first events; the store gives the number.

    Results in `Started`. Refused with RunExists, ThreadBusy (`active_run_id`, `status`), QueueFull, TenantQueueFull,
    or IdempotencyKeyReused; a row of the same idempotency key and fingerprint gives `Started` with `replayed`.
    The idempotency key is looked up before run id and thread.

    `run.lease_owner` set: the run starts leased, unless a limit on what executes is reached, or a run that is as urgent
    waits in the queue for the same limit. Then it is queued without a lease, and the two limits of the queue hold for
    it. `Behind` comes back, and nothing was written, if the first event is not younger than all of its thread.

    `steps` and `interrupts` are what a fork takes over of the run that it comes from; they get the new run's number.
    """

    run: Run  # number is 0
    segment: Segment
    message: Message | None = None
    supersedes: tuple[int, ...] = ()  # numbers of runs whose turns (and messages) no model sees any more
    idempotency: IdempotencyRow | None = None
    queued_max: int | None = 10_000  # queued runs of all tenants,
    tenant_queued_max: int | None = None  # and of this one, from which on no more are taken
    tenant_runs_max: int | None = None  # see `Limits`
    agent_runs_max: int | None = None  # of this run's agent
    lease_seconds: float = 8.0
    outbox: tuple[OutboxRow, ...] = ()
    steps: tuple[Step, ...] = ()
    interrupts: tuple[Interrupt, ...] = ()


class Started(msgspec.Struct, frozen=True):
    run: Run
    replayed: bool = False


class Behind(msgspec.Struct, frozen=True):
    """The stamps of a start are too old for its thread: stamp it anew, behind `newest`."""

    newest: int


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an interrupt gets its answer, if it has none yet."""

    interrupt_id: str
    tool_call_id: str
    answer: bytes
    by: str
    caller: str
    at: int


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """
    Continue a run's journal and change what hangs on it, in one go.

    Refused with LeaseLost when the run's lease epoch is not `lease_epoch` or its journal does not end at `tail`.
    With `unleased` (facts from outside, for a run that nobody executes) the lease must be absent or run out as
    well, and the epoch grows by one, so that a former owner is fenced off. A part in `answers` that has an answer
    refuses the whole with InterruptResolved. None in a field means: as it was.
    """

    number: int
    lease_epoch: int
    tail: int
    unleased: bool = False
    segment: Segment | None = None
    status: Status | None = None
    attempt: int | None = None
    output: bytes | None = None
    error: Failure | None = None
    usage: bytes | None = None
    cancel: Cancel | None = None
    started_at: int | None = None
    ended_at: int | None = None
    executed_seconds: float | None = None
    release: bool = False  # give the lease up
    steps: tuple[Step, ...] = ()  # inserted, or replaced by key
    interrupts: tuple[Interrupt, ...] = ()  # inserted with their parts; of a known one only the head is replaced
    answers: tuple[Answered, ...] = ()
    inbox_done: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()


class PutInbox(msgspec.Struct, frozen=True, kw_only=True):
    """
    Leave a fact for the owner of a live lease; the answer is written to its part in the same transaction.

    Results in the row with its id. Refused with InterruptResolved when the part has an answer, with LeaseLost when
    nobody holds the run (append the fact instead), with RunFinished when it is over.
    """

    row: InboxRow


Write: TypeAlias = StartRun | Append | PutInbox
Outcome: TypeAlias = Started | Behind | InboxRow | HoldfastError | None
"""What one write came to: StartRun gives Started, PutInbox its row, Append None; a refusal is an error, not raised."""


class CallClaim(msgspec.Struct, frozen=True, kw_only=True):
    """
    A worker of the caller's wants to execute these calls, and nobody else shall until then.

    `until` at or before `at` gives back what it has.
    """

    number: int
    worker: str
    call_ids: tuple[str, ...]
    at: int
    until: int


# ── queries ─────────────────────────────────────────────────────────────────────────────────────────────────────


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs of a tenant, newest first by number."""

    tenant: str | None
    statuses: tuple[Status, ...] = ()
    agent: str | None = None
    thread_id: str | None = None
    shown_thread: str | None = None  # the same, where a run without a thread goes by its own id
    parent: int | None = None
    created_after: int | None = None  # exclusive
    created_before: int | None = None  # exclusive
    before: int | None = None  # only numbers below this one
    agent_prefixes: tuple[str, ...] = ()  # only agents whose name begins with one of these
    caller: str | None = None  # only runs that the key of this name started
    asks_person: bool | None = None  # whether a question or an approval of the run waits for its answer
    offset: int = 0  # how many are left out before those that come back
    limit: int = 50


class Lease(msgspec.Struct, frozen=True):
    """A claim on a run, as its holder knows it."""

    number: int
    lease_epoch: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """
    How many runs may execute at once (status `running`) over all processes of the store. Waiting ones do not count.

    A run that another run started is part of its parent's share of the tenant's limit: it neither counts nor is held
    back. It counts for its agent's limit, which holds it back unless its parent is of the same agent: that one waits
    for it, and might wait for ever.
    """

    tenant_runs_max: int | None = None  # of each tenant
    agent_runs_max: Mapping[str, int] = {}  # of these agents, over all tenants

    def __bool__(self) -> bool:
        return self.tenant_runs_max is not None or bool(self.agent_runs_max)


NO_LIMITS: Final = Limits()


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a store says of itself, for `/health`, the CLI and the log."""

    kind: str  # sqlite, postgres
    location: str  # without secrets
    schema_version: int
    store_id: str  # a random UUID, the namespace of agent ids
    last_timestamp: int  # the newest event's; new stamps must lie behind it
    secret: str = ""  # random, the same in all processes of the store: what a server hands out signed is signed with it
    restored: bool = False  # a restored backup was found at opening, and all journals got a new epoch
    notices: tuple[str, ...] = ()


class SchemaStatus(msgspec.Struct, frozen=True):
    """How far the schema of a store is, and what lies in it; found without changing anything."""

    found: int  # 0: there is none yet
    known: int
    pending: tuple[str, ...]  # names of the migrations that would run
    store_id: str = ""
    runs: Mapping[str, int] = {}  # by status


class Lost(msgspec.Struct, frozen=True):
    """What is gone of the history of a tenant, or of one of its threads, by time in microseconds."""

    pruned_until: int  # the newest event that retention dropped; 0: none
    rolled_back: tuple[tuple[int, int], ...]  # of each restored backup: its newest event, the moment of the restore


class Growth(msgspec.Struct, frozen=True):
    """What came to a journal behind a given sequence."""

    last: int
    is_over: bool  # nothing follows `last`
    segments: Sequence[Segment]  # adjacent, from the given sequence on; the later ones may be missing, or all


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """
    A hint that another process committed something; what it was, the store tells.

    Hints come late, twice or not at all. Whoever follows polls too, at least once a second.
    """

    journals: tuple[int, ...] = ()  # runs whose journals grew
    inbox: tuple[int, ...] = ()  # runs with a new fact for their holder
    queued: bool = False  # some run waits to be claimed
    everything: bool = False  # hints were missed, or were too many: look at all that is followed


class Store(Records, Protocol):
    """The contract. Every method may raise StoreUnavailable; every write StorageFull."""

    @property
    def memory(self) -> MemoryStore:
        """The part that keeps what the assistant remembers."""
        ...

    async def open(self) -> StoreInfo:
        """
        Open, migrate and check the store.

        An embedded store now belongs to this process alone, and all leases in it have run out, because whoever
        held them is dead.

        Raises:
            StoreLocked: another process has it open.
            StoreTooNew: a newer version wrote it; untouched.
            StoreRefused: place or settings cannot keep what was promised; untouched.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""
        ...

    async def info(self) -> StoreInfo:
        """What the store says of itself now; raises StoreUnavailable where it does not answer."""
        ...

    # Writing

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """
        Carry out the writes, in order, and return what each came to.

        Each is all or nothing; a refused one leaves the others alone. When this returns, everything that was not
        refused is on disk. If the caller is cancelled, any of them may have happened.

        Raises:
            StorageFull: nothing of the batch was written.
        """
        ...

    async def claim(
        self, owner: str, agents: Sequence[str], *, limit: int, lease_seconds: float, limits: Limits = NO_LIMITS
    ) -> list[Run]:
        """
        Take queued runs, runs that execute but whose lease ran out or was given up, waiting runs whose lease ran out,
        and waiting runs that nobody holds although facts wait in their inbox, of these agents.

        Tenants take turns: each run goes to the tenant that executes the fewest, those taken here counted. Of one
        tenant, and between tenants that execute as many, the most urgent comes first, then the oldest.

        A queued run is left where `limits` are reached; however many processes claim or start under the same limits,
        together they take no more. What was taken already is not held back by them. A claim may take fewer than
        there are, but not none.

        The rows are as they were found (a status `running` or `waiting` tells of a holder that died) but for the
        lease, which is ours with a grown epoch. In the store a queued run is `running` now.
        """
        ...

    async def renew(self, owner: str, leases: Sequence[Lease], *, lease_seconds: float) -> set[int]:
        """Prolong leases; the numbers of those that are lost come back."""
        ...

    async def disown(self, owner: str, held: Sequence[int]) -> list[int]:
        """
        Give up the leases of the owner that ran out, but for those of the runs in `held`: what is in its name and
        unknown to it. Whoever claims next may take these runs, the owner too. Their numbers come back.
        """
        ...

    # Other processes; an embedded store knows none

    async def announce(self, owner: str, agents: Sequence[str], *, floor: int) -> int:
        """
        Tell the other processes that this one is alive, which agents it serves, and that it will commit no event
        stamped at or before `floor` any more. Called with every renewal of leases; 10 s after the last call a process
        does not count any more. Each commit raises the floor to its newest timestamp by itself, so the batches of a
        process have to be younger one by one.

        The floor that holds now comes back, and is at times higher: new stamps must lie behind it, because readers by
        time may have been shown everything up to there.
        """
        ...

    async def notices(self, callback: Callable[[Notice], None]) -> None:
        """
        Call back, on this event loop, for what other processes commit, until cancelled; reconnects by itself.

        Returns at once where there is nobody to hear: an embedded store, or one behind a pooler.
        """
        ...

    def on_rolled_back(self, callback: Callable[[], None]) -> None:
        """
        Call back, on the event loop, when a restored backup or a promoted standby has taken the place of the database
        that was read before: what was read may never have happened. Nothing is read from it before that call.

        An embedded store is exchanged only while it is closed.
        """
        ...

    # Runs and journals

    async def run(self, tenant: str, run_id: str) -> Run | None: ...

    async def run_by_number(self, number: int) -> Run | None: ...

    async def runs(self, query: RunQuery) -> list[Run]: ...

    async def count_runs(self, query: RunQuery) -> Mapping[tuple[str, Status], int]:
        """How many runs fit, by agent and status; offset and limit do not count."""
        ...

    async def counts(self) -> Mapping[Status, int]:
        """How many runs are queued, running and waiting, over all tenants."""
        ...

    async def unserved(self, agents: Sequence[str], *, queued_before: int) -> list[Run]:
        """Queued runs, at most 100, older than this, whose agent neither `agents` nor another live process serves."""
        ...

    async def segments(self, number: int, *, after: int, bytes_max: int) -> list[Segment]:
        """
        The segments with events behind `after`, from the oldest on; at least one if there is any, then as many as
        fit into `bytes_max`. The first may begin with events up to `after`.
        """
        ...

    async def segments_by_time(
        self,
        tenant: str,
        *,
        after: int,
        begun_after: int | None = None,
        thread_id: str | None = None,
        bytes_max: int,
    ) -> list[Segment]:
        """
        Segments of a tenant with events younger than `after`, ordered by first timestamp; sizes as in `segments`.

        Without a thread, only such that begin at or before the common floor, so that none is committed any more that
        begins earlier. Their events may be younger than the floor, and others may still be committed between those.

        Segments of different runs overlap in time. `begun_after` goes on behind a page: only segments that begin later
        than this, which is the first timestamp of the page's last segment. Those of a thread do not overlap, and there
        `after` alone goes on.
        """
        ...

    async def common_floor(self) -> int | None:
        """
        The timestamp up to which every event is committed, whichever process stamped it; None: there is no bound, as
        in an embedded store, where what is committed is complete.
        """
        ...

    async def lost(self, tenant: str, *, thread_id: str | None = None) -> Lost:
        """What a reader by time may miss; runs without a thread are not looked at, nor threads that were deleted."""
        ...

    async def marks(self, number: int) -> list[Segment]:
        """All kept segments of a run without their bodies, for recovery."""
        ...

    async def tails(self, numbers: Sequence[int]) -> Mapping[int, tuple[int, Status]]:
        """Tail sequence and status of runs, in one query; what another process wrote shows here."""
        ...

    async def growth(self, after: Mapping[int, int], *, bytes_max: int) -> Mapping[int, Growth]:
        """
        What came to these runs behind the sequence given for each, in one query: only the runs that grew, or that are
        over. Segments of more than `bytes_max` in all are left out.
        """
        ...

    async def steps(self, number: int) -> list[Step]:
        """By start."""
        ...

    async def interrupts(self, number: int) -> list[Interrupt]:
        """Of a run, oldest first, whatever their status."""
        ...

    async def pending(self, tenant: str, *, thread_id: str | None = None, limit: int = 1000) -> list[Interrupt]:
        """Pending questions and approvals of a tenant, oldest first."""
        ...

    async def last_resolved(self, tenant: str, thread_id: str) -> Interrupt | None:
        """The question or approval of a thread that was answered last."""
        ...

    async def due(self, now: int, *, limit: int) -> list[Interrupt]:
        """Pending interrupts with an open part whose deadline is `now` or before, most overdue first."""
        ...

    async def inbox(self, numbers: Sequence[int]) -> list[InboxRow]:
        """Facts that wait for the owners of these runs, oldest first."""
        ...

    # Threads

    async def thread(self, tenant: str, thread_id: str) -> Thread | None: ...

    async def threads(self, tenant: str, *, before: tuple[int, str] | None = None, limit: int = 50) -> list[Thread]:
        """Last changed first; `before` is (updated_at, thread_id) of the last one seen."""
        ...

    async def messages(
        self, tenant: str, thread_id: str, *, after: int = 0, limit: int | None = None, superseded: bool = False
    ) -> list[Message]:
        """Oldest first, behind the first `after` ones."""
        ...

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        """
        Delete a thread with its runs and journals; False if there is none.

        Raises:
            ThreadBusy: it has a run that is not finished. Nothing was deleted.
        """
        ...

    # Idempotency of calls that start no run

    async def idempotency(self, tenant: str, method: str, path: str, key: str) -> IdempotencyRow | None: ...

    async def begin_idempotent(self, row: IdempotencyRow) -> IdempotencyRow | None:
        """Insert the row of a call that is at work, or give back the one that is there."""
        ...

    async def finish_idempotent(self, row: IdempotencyRow) -> None:
        """Keep the answer; a row with status 0 is forgotten instead, so that the call may be repeated."""
        ...

    # Keys

    async def add_key(self, key: ApiKey) -> bool:
        """Keep a key; False if its name is taken by one that is not revoked."""
        ...

    async def keys(self) -> list[ApiKey]:
        """All keys, revoked ones too, by name."""
        ...

    async def revoke_key(self, name: str, at: int) -> bool:
        """False if no such key is in force."""
        ...

    # Tool calls

    async def claim_calls(self, claim: CallClaim) -> set[str]:
        """
        Note the claim with each of the calls that waits for its answer and that no other worker has at this time; their ids
        come back. Whoever had a call last keeps its claim number, another worker gets the next one.
        """
        ...

    # Files

    async def put_file(self, file: File, content: bytes) -> None:
        """Keep a file; its bytes are durable before its row is."""
        ...

    async def file(self, tenant: str, file_id: str) -> tuple[File, bytes] | None: ...

    # Webhooks

    async def outbox(self, *, limit: int) -> list[OutboxRow]:
        """Rows not taken yet, oldest first."""
        ...

    async def outbox_done(self, rows: Sequence[OutboxRow]) -> None: ...

    # Upkeep

    async def prune(self, *, ended_before: int, rows_before: int, now: int) -> int:
        """
        Drop the journals of runs that ended before this time, whole segments, the last one stays; rows of runs
        that ended before `rows_before` go altogether; so do expired idempotency keys and files. The number of
        events and rows that went is returned; pruned runs show it by their `first_sequence`.
        """
        ...

    async def backup(self, target: str) -> None:
        """A consistent copy of an embedded store at `target`, taken while it is in use."""
        ...

    async def ping(self) -> None:
        """Raises StoreUnavailable or StorageFull where writing is not possible now."""
        ...


def json_bytes(value: Any) -> bytes:
    """How stores write small structured columns."""
    return msgspec.json.encode(value)
