"""
The scale-out store: one database, any number of processes, Postgres.

    commit, claim ──► writer (one connection, one call and one sync for each batch)      ┐
    reads, renewals, small changes ──► pool (up to ten connections)                      ├──► Postgres
    hints to other processes ──► notices (a connection that tells, another that hears)   ┘

What it promises does not depend on who else is there: every change of a run is checked against the run's lease epoch
under a lock, leases are measured by the database's clock, and a lost connection never leaves a change both unanswered
and forgotten. Its statements and procedures are in store/sql/postgres/.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import structlog

from holdfast.clock import Clock, SystemClock
from holdfast.errors import StorageFull, StoreRefused, StoreUnavailable
from holdfast.model import ApiKey, File, Interrupt, Message, Run, Segment, Status, Step, Thread
from holdfast.store.base import (
    NO_LIMITS,
    CallClaim,
    Growth,
    IdempotencyRow,
    InboxRow,
    Lease,
    Limits,
    Lost,
    Notice,
    OutboxRow,
    Outcome,
    RunQuery,
    Started,
    StoreInfo,
    Write,
)
from holdfast.store.postgres import contents, reads, rows, schema, upkeep
from holdfast.store.postgres.connection import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    BrokenConnection,
    Connection,
    Connector,
    Record,
    persist,
)
from holdfast.store.postgres.memory import PostgresMemory
from holdfast.store.postgres.notices import Notices
from holdfast.store.postgres.reads import PAGE_SEGMENTS_MAX, count_query, runs_query
from holdfast.store.postgres.records import PostgresRecords
from holdfast.store.postgres.verdicts import Replay, in_progress
from holdfast.store.postgres.writer import Writer, limits_of
from holdfast.store.sql import statements

READ: Final = reads.SQL
CHANGE: Final = statements("postgres", "changes")
UPKEEP: Final = statements("postgres", "upkeep")

CONNECTIONS_MAX: Final = 10

# How long a call goes on trying when the database is away.
RETRY_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)

T = TypeVar("T")


class PostgresStore(PostgresRecords):
    """
    A store in a Postgres database; the contract is that of `Store`.

    Args:
        url: postgresql://user:password@host:port/database.
        clock: whose wall time tells what has expired. Leases go by the database's.
        allow_unsafe: open it although its settings may lose what was acknowledged; `StoreInfo.notices` says so.
        is_pooled: the URL is that of a pooler in transaction mode; then there are no hints, only polls.
        connections_max: for reads; three more are used for writing and hints.
        retry_seconds: how long a call tries to reach the database before it raises StoreUnavailable.
        call_seconds: an answer that takes longer is not waited for; the connection is taken for dead.
        notify: tell other processes of commits; without it they find them at their next poll.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        allow_unsafe: bool = False,
        is_pooled: bool = False,
        connections_max: int = CONNECTIONS_MAX,
        retry_seconds: float = RETRY_SECONDS,
        call_seconds: float = CALL_SECONDS,
        notify: bool = True,
    ) -> None:
        self._connector = Connector(url, is_pooled=is_pooled, call_seconds=call_seconds)
        self._clock = clock or SystemClock()
        self._allow_unsafe = allow_unsafe
        self._connections_max = connections_max
        self._retry_seconds = retry_seconds
        self._tells = notify and not is_pooled
        self.process = ""
        self._pool: Any = None
        self._writer: Writer | None = None
        self._notices: Notices | None = None
        self._info: StoreInfo | None = None
        self.memory = PostgresMemory(self.on_connection, self._once)
        self._rollbacks: int | None = None
        self._on_rolled_back: Callable[[], None] | None = None

    # Opening and closing

    async def open(self) -> StoreInfo:
        opened = await schema.open_database(
            self._connector, allow_unsafe=self._allow_unsafe, retry_seconds=self._retry_seconds
        )
        self.process = f"process_{secrets.token_hex(8)}"
        self._info = StoreInfo(
            kind="postgres",
            location=self._connector.location,
            schema_version=schema.KNOWN_VERSION,
            store_id=opened.store_id,
            last_timestamp=opened.newest,
            secret=opened.secret,
            notices=opened.notices,
        )
        self._pool = await self._connector.pool(self._connections_max, on_connect=self._look_around)
        self._notices = Notices(self._connector, self.process)
        self._writer = Writer(
            self._connector,
            self._clock,
            self.process,
            retry_seconds=self._retry_seconds,
            on_connect=self._look_around,
        )
        try:
            await self._writer.enter()
        except BaseException:
            await self.close()
            raise
        return await self.info()

    async def _look_around(self, connection: Connection) -> None:
        """
        Whenever we connect, the database may be another one than before: a restored or a promoted one.

        Perhaps another process was here first and saw to the journals; then the number of rollbacks tells it.
        """
        assert self._info is not None
        if await schema.check_place(connection, self._clock):
            self._info = msgspec.structs.replace(self._info, restored=True)
        before, self._rollbacks = self._rollbacks, await schema.count_rollbacks(connection)
        if before is not None and self._rollbacks != before and self._on_rolled_back is not None:
            self._on_rolled_back()

    async def close(self) -> None:
        if self._notices is not None:
            await self._notices.close()
        if self._writer is not None:
            await self._writer.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()
        self._writer = self._notices = None

    async def info(self) -> StoreInfo:
        newest = await self._value(READ["newest"])
        assert self._info is not None
        return msgspec.structs.replace(self._info, last_timestamp=newest)

    # Writing

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if not writes:
            return []
        found = await self._the_writer.commit(writes)
        outcomes = [await self._replayed(item) if isinstance(item, Replay) else item for item in found]
        if self._tells and self._notices is not None:
            self._notices.note(writes, outcomes)
        return outcomes

    async def _replayed(self, replay: Replay) -> Outcome:
        run = await self.run_by_number(replay.number)
        return in_progress(replay.key) if run is None else Started(run, replayed=True)

    async def claim(
        self, owner: str, agents: Sequence[str], *, limit: int, lease_seconds: float, limits: Limits = NO_LIMITS
    ) -> list[Run]:
        # Mostly there is nothing, and a look does not hold up the commits.
        is_open = was_open = self._the_writer.is_claim_open
        if limits:
            is_open = is_open or await self._value(READ["is_claimable_within"], owner, *limits_of(agents, limits))
        else:
            is_open = is_open or await self._value(READ["is_claimable"], owner, list(agents))
        if not is_open:
            return []
        found = dict(
            await self._the_writer.claim(owner, agents, limit=limit, lease_seconds=lease_seconds, limits=limits)
        )
        taken = [rows.run_of(row) for row in await self._fetch(READ["runs_by_number"], list(found))]
        if was_open:  # taken by an earlier claim: who holds them now counts the lease from this one
            leases = [Lease(run.number, run.lease_epoch) for run in taken if run.lease_owner == owner]
            lost = await self.renew(owner, leases, lease_seconds=lease_seconds)
            taken = [run for run in taken if run.number not in lost]
        return [
            msgspec.structs.replace(run, status=Status(found[run.number])) for run in taken if run.lease_owner == owner
        ]

    async def renew(self, owner: str, leases: Sequence[Lease], *, lease_seconds: float) -> set[int]:
        if not leases:
            return set()
        numbers = [lease.number for lease in leases]
        kept = await self._fetch(
            CHANGE["renew"], numbers, [lease.lease_epoch for lease in leases], owner, float(lease_seconds)
        )
        return set(numbers) - {row[0] for row in kept}

    async def disown(self, owner: str, held: Sequence[int]) -> list[int]:
        return sorted(row[0] for row in await self._fetch(CHANGE["disown"], owner, list(held)))

    # Other processes

    async def announce(self, owner: str, agents: Sequence[str], *, floor: int) -> int:
        new_floor, has_joined = await self._announced(owner, agents, floor, is_second=False)
        if has_joined:
            new_floor, _ = await self._announced(owner, agents, new_floor, is_second=True)
        return new_floor

    async def _announced(self, owner: str, agents: Sequence[str], floor: int, *, is_second: bool) -> tuple[int, bool]:
        (row,) = await self._fetch(CHANGE["announce"], self.process, owner, list(agents), floor, is_second)
        return row[0], row[1]

    def on_rolled_back(self, callback: Callable[[], None]) -> None:
        self._on_rolled_back = callback

    async def notices(self, callback: Callable[[Notice], None]) -> None:
        if self._notices is None:
            raise StoreUnavailable(f"{self._connector.location} is not open")
        await self._notices.listen(callback)

    # Runs and journals

    async def run(self, tenant: str, run_id: str) -> Run | None:
        return await self._one(rows.run_of, READ["run_by_id"], tenant, run_id)

    async def run_by_number(self, number: int) -> Run | None:
        return await self._one(rows.run_of, READ["run_by_number"], number)

    async def runs(self, query: RunQuery) -> list[Run]:
        text, values = runs_query(query)
        return [rows.run_of(row) for row in await self._fetch(text, *values)]

    async def count_runs(self, query: RunQuery) -> Mapping[tuple[str, Status], int]:
        text, values = count_query(query)
        return {(row[0], Status(row[1])): row[2] for row in await self._fetch(text, *values)}

    async def counts(self) -> Mapping[Status, int]:
        counts = dict.fromkeys((Status.QUEUED, Status.RUNNING, Status.WAITING), 0)
        return counts | {Status(row[0]): row[1] for row in await self._fetch(READ["counts"])}

    async def unserved(self, agents: Sequence[str], *, queued_before: int) -> list[Run]:
        return [rows.run_of(row) for row in await self._fetch(READ["unserved"], queued_before, list(agents))]

    async def segments(self, number: int, *, after: int, bytes_max: int) -> list[Segment]:
        return await self._page(READ["segments"], number, after, bytes_max, PAGE_SEGMENTS_MAX)

    async def segments_by_time(
        self,
        tenant: str,
        *,
        after: int,
        begun_after: int | None = None,
        thread_id: str | None = None,
        bytes_max: int,
    ) -> list[Segment]:
        if thread_id is not None:
            text = READ["segments_of_thread"]
            return await self._page(text, tenant, thread_id, after, bytes_max, PAGE_SEGMENTS_MAX)
        text = READ["segments_by_time"]
        return await self._page(text, tenant, after, begun_after or 0, bytes_max, PAGE_SEGMENTS_MAX)

    async def common_floor(self) -> int | None:
        floor: int | None = await self._value(READ["common_floor"])
        return floor

    async def lost(self, tenant: str, *, thread_id: str | None = None) -> Lost:
        until = await self._value(READ["pruned_until"], tenant, thread_id)
        return Lost(until, rows.rollbacks_of(await self._value(READ["meta"], "rollbacks")))

    async def marks(self, number: int) -> list[Segment]:
        return await self._page(READ["marks"], number)

    async def tails(self, numbers: Sequence[int]) -> Mapping[int, tuple[int, Status]]:
        found = await self._fetch(READ["tails"], list(numbers))
        return {number: (tail, Status(status)) for number, tail, status in found}

    async def growth(self, after: Mapping[int, int], *, bytes_max: int) -> Mapping[int, Growth]:
        found = await self._fetch(READ["growth"], list(after), list(after.values()), bytes_max, PAGE_SEGMENTS_MAX)
        return rows.growth_of(found)

    async def steps(self, number: int) -> list[Step]:
        return [rows.step_of(row) for row in await self._fetch(READ["steps"], number)]

    async def interrupts(self, number: int) -> list[Interrupt]:
        return rows.interrupts_of(await self._fetch(READ["interrupts"], number))

    async def pending(self, tenant: str, *, thread_id: str | None = None, limit: int = 1000) -> list[Interrupt]:
        return rows.interrupts_of(await self._fetch(READ["pending"], tenant, thread_id, limit))

    async def last_resolved(self, tenant: str, thread_id: str) -> Interrupt | None:
        found = rows.interrupts_of(await self._fetch(READ["last_resolved"], tenant, thread_id))
        return found[0] if found else None

    async def due(self, now: int, *, limit: int) -> list[Interrupt]:
        return rows.interrupts_of(await self._fetch(READ["due"], now, limit))

    async def inbox(self, numbers: Sequence[int]) -> list[InboxRow]:
        return [rows.inbox_row_of(row) for row in await self._fetch(READ["inbox"], list(numbers))]

    # Threads

    async def thread(self, tenant: str, thread_id: str) -> Thread | None:
        return await self._one(rows.thread_of, READ["thread"], tenant, thread_id)

    async def threads(self, tenant: str, *, before: tuple[int, str] | None = None, limit: int = 50) -> list[Thread]:
        updated_at, thread_id = before or (None, None)
        found = await self._fetch(READ["threads"], tenant, updated_at, thread_id, limit)
        return [rows.thread_of(row) for row in found]

    async def messages(
        self, tenant: str, thread_id: str, *, after: int = 0, limit: int | None = None, superseded: bool = False
    ) -> list[Message]:
        found = await self._fetch(READ["messages"], tenant, thread_id, superseded, after, limit)
        return [rows.message_of(row) for row in found]

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        tries = 0

        async def delete(connection: Connection) -> bool:
            nonlocal tries
            tries += 1
            async with connection.transaction():
                # Not there at a second try: the first one deleted it, and its reply was lost.
                return await upkeep.delete_thread(connection, tenant, thread_id) or tries > 1

        deleted = await self.on_connection(delete)
        if deleted:
            await self._in_portions(upkeep.sweep, 0)
        return deleted

    # Idempotency of calls that start no run

    async def idempotency(self, tenant: str, method: str, path: str, key: str) -> IdempotencyRow | None:
        return await self._one(rows.idempotency_of, READ["idempotency"], tenant, method, path, key, self._clock.now())

    async def begin_idempotent(self, row: IdempotencyRow) -> IdempotencyRow | None:
        now = self._clock.now()
        tries = 0
        call = (row.tenant, row.method, row.path, row.key)

        async def begin(connection: Connection) -> IdempotencyRow | None:
            nonlocal tries
            tries += 1
            async with connection.transaction():
                while True:
                    await connection.execute(CHANGE["idempotency_expired"], *call, now)
                    if await connection.fetchval(CHANGE["idempotency_begin"], *_idempotency_columns(row)) is not None:
                        return None
                    found = await connection.fetchrow(READ["idempotency"], *call, now)
                    if found is not None:  # else it was forgotten at this moment
                        known = rows.idempotency_of(found)
                        # At a second try it may be our own, whose reply was lost.
                        return None if tries > 1 and known == row else known

        return await self.on_connection(begin)

    async def finish_idempotent(self, row: IdempotencyRow) -> None:
        if row.status == 0:
            await self._fetch(CHANGE["idempotency_forget"], row.tenant, row.method, row.path, row.key)
        else:
            await self._fetch(CHANGE["idempotency_finish"], *_idempotency_columns(row))

    # Keys

    async def add_key(self, key: ApiKey) -> bool:
        values = (key.name, key.hash, key.role, key.tenant, key.created_at, key.revoked_at)

        async def add(connection: Connection, is_repeated: bool) -> bool:
            if await connection.fetchval(CHANGE["add_key"], *values) is not None:
                return True
            return is_repeated and bool(await connection.fetchval(CHANGE["has_key"], key.name, key.hash))

        return await self._once(add)

    async def keys(self) -> list[ApiKey]:
        return [rows.key_of(row) for row in await self._fetch(READ["keys"])]

    async def revoke_key(self, name: str, at: int) -> bool:
        async def revoke(connection: Connection, is_repeated: bool) -> bool:
            if await connection.fetchval(CHANGE["revoke_key"], at, name) is not None:
                return True
            return is_repeated and bool(await connection.fetchval(CHANGE["was_revoked"], at, name))

        return await self._once(revoke)

    # Tool calls

    async def claim_calls(self, claim: CallClaim) -> set[str]:
        call_ids = list(claim.call_ids)
        found = await self._fetch(CHANGE["claim_calls"], claim.number, claim.worker, call_ids, claim.at, claim.until)
        return {row[0] for row in found}

    # Files

    async def put_file(self, file: File, content: bytes) -> None:
        async def put(connection: Connection) -> None:
            async with connection.transaction():
                await contents.put(connection, file, content)

        await self.on_connection(put)

    async def file(self, tenant: str, file_id: str) -> tuple[File, bytes] | None:
        async def get(connection: Connection) -> tuple[File, bytes] | None:
            # One state: between two statements a sweep could take the content away.
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                row = await connection.fetchrow(READ["file"], tenant, file_id)
                if row is None:
                    return None
                file = rows.file_of(row)
                return file, await contents.get(connection, file.sha256)

        return await self.on_connection(get)

    # Webhooks

    async def outbox(self, *, limit: int) -> list[OutboxRow]:
        return [rows.outbox_row_of(row) for row in await self._fetch(READ["outbox"], limit)]

    async def outbox_done(self, taken: Sequence[OutboxRow]) -> None:
        if taken:
            numbers, sequences = [row.number for row in taken], [row.sequence for row in taken]
            await self._fetch(CHANGE["outbox_done"], numbers, sequences, [row.endpoint_id for row in taken])

    # Upkeep

    async def prune(self, *, ended_before: int, rows_before: int, now: int) -> int:
        went = await self._in_portions(upkeep.prune_journals, ended_before)
        went += await self._in_portions(upkeep.prune_runs, rows_before)
        went += await self._in_portions(upkeep.prune_keys, now)
        went += await self._in_transaction(upkeep.prune_files, now)
        await self._in_portions(upkeep.sweep, 0)
        return went

    async def backup(self, target: str) -> None:
        raise StoreRefused(
            "a store on Postgres is backed up with the tools of Postgres, such as pg_dump or pg_basebackup; a restored "
            "backup is noticed when the store is opened"
        )

    async def ping(self) -> None:
        if not self._the_writer.is_full:
            await self._value("SELECT pg_is_in_recovery()")
            return
        try:
            await self._fetch(CHANGE["set_meta"], "last_ping", str(self._clock.now()))
        except StorageFull:
            raise
        self._the_writer.is_full = False

    # Helpers

    @property
    def _the_writer(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable(f"{self._connector.location} is not open")
        return self._writer

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """One of the pool. When it does not answer in time, it and its like are given up."""
        if self._pool is None:
            raise StoreUnavailable(f"{self._connector.location} is not open")
        async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
            try:
                yield connection
            except BrokenConnection:
                connection.terminate()
                raise
            except TimeoutError:
                connection.terminate()
                if self._pool is not None:
                    await self._pool.expire_connections()
                raise

    async def on_connection(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something that may be done twice, on a connection of the pool."""

        async def once() -> T:
            async with self._connection() as connection:
                return await work(connection)

        return await persist(once, seconds_max=self._retry_seconds, location=self._connector.location)

    async def _once(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Do something in one transaction; `work` is told whether it may have happened before."""
        tries = 0

        async def once(connection: Connection) -> T:
            nonlocal tries
            tries += 1
            async with connection.transaction():
                return await work(connection, tries > 1)

        return await self.on_connection(once)

    async def _fetch(self, text: str, *values: Any) -> list[Record]:
        async def fetch(connection: Connection) -> list[Record]:
            async with self._connector.in_one_place(connection):
                if self._connector.is_pooled:  # its connection to the database is another one each time
                    await self._look_around(connection)
                return await connection.fetch(text, *values)

        return await self.on_connection(fetch)

    async def _value(self, text: str, *values: Any) -> Any:
        found = await self._fetch(text, *values)
        return found[0][0] if found else None

    async def _one(self, struct_of: Callable[[Record], T], text: str, *values: Any) -> T | None:
        found = await self._fetch(text, *values)
        return struct_of(found[0]) if found else None

    async def _page(self, text: str, *values: Any) -> list[Segment]:
        return [rows.segment_of(row) for row in await self._fetch(text, *values)]

    async def _in_transaction(self, portion: Callable[[Connection, int], Awaitable[T]], value: int) -> T:
        async def work(connection: Connection) -> T:
            async with connection.transaction():
                return await portion(connection, value)

        return await self.on_connection(work)

    async def _in_portions(self, portion: upkeep.Portion, value: int) -> int:
        went = 0
        while (some := await self._in_transaction(portion, value)) is not None:
            went += some
        return went


def _idempotency_columns(row: IdempotencyRow) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__struct_fields__)
