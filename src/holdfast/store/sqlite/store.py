"""
The embedded store: one directory, one process, SQLite.

    event loops ── commit ──► writer (one thread, one connection, one sync for all that is queued)
                ── reads ───► readers (up to four threads, connections that cannot write)

It is fast because everything that waits while the disk syncs goes into the next sync together, and safe because a
result is told only after it. Its statements are in store/sql/sqlite/.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import StorageFull, StoreRefused, StoreUnavailable
from holdfast.model import ApiKey, File, Interrupt, Message, Run, Segment, Status, Step, Thread
from holdfast.store.base import (
    NO_LIMITS,
    SCHEMA_VERSION,
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
    StoreInfo,
    Write,
)
from holdfast.store.sqlite import changes, reads, schema, upkeep
from holdfast.store.sqlite.connection import Connection, connect_reader, connect_writer, copy, free_bytes, translated
from holdfast.store.sqlite.contents import Contents
from holdfast.store.sqlite.memory import SQLiteMemory
from holdfast.store.sqlite.place import Place, sync_directory
from holdfast.store.sqlite.readers import Readers
from holdfast.store.sqlite.records import SQLiteRecords
from holdfast.store.sqlite.writer import Writer
from holdfast.store.sqlite.writes import Writes

FREE_BYTES_MIN: Final = 256 << 20
FREE_CHECKED_SECONDS: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class SQLiteStore(SQLiteRecords):
    """
    A store in a directory of this machine; the contract is that of `Store`.

    Args:
        directory: made if it is not there.
        clock: whose monotonic time leases are measured with, and whose wall time tells what has expired.
        free_bytes_min: with less free space no run is started.
        free_bytes: how free space is found out.
        mounts: the table of mounted file systems, in the format of /proc/mounts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock | None = None,
        free_bytes_min: int = FREE_BYTES_MIN,
        free_bytes: Callable[[Path], int] = free_bytes,
        mounts: Callable[[], str] | None = None,
    ) -> None:
        self._place = Place(Path(directory), mounts)
        self._clock = clock or SystemClock()
        self._free_bytes_min = free_bytes_min
        self._free_bytes = free_bytes
        self._room: tuple[float, bool] | None = None
        self._contents = Contents(self._place.files)
        self._files_lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._writes: Writes | None = None
        self._info: StoreInfo | None = None
        self.memory = SQLiteMemory(self._read, self._change)

    # Opening and closing

    async def open(self) -> StoreInfo:
        await asyncio.to_thread(self._open)
        return await self.info()

    def _open(self) -> None:
        self._place.take()
        try:
            schema.prepare(self._place)
            self._place.make_files_directory()
            with translated(self._place.database):
                self._connection = connect_writer(self._place.database)
                schema.migrate(self._connection)
                opened = schema.take_over(self._connection, self._place, self._clock.now())
                schema.add_procedures(self._connection)
        except BaseException:
            self._release()
            raise
        self._writes = Writes(
            self._connection,
            self._clock,
            last_number=opened.last_number,
            span_max=opened.span_max,
            has_room=self._has_room,
        )
        self._info = StoreInfo(
            kind="sqlite",
            location=str(self._place.directory),
            schema_version=SCHEMA_VERSION,
            store_id=opened.store_id,
            last_timestamp=opened.last_timestamp,
            secret=opened.secret,
            restored=opened.restored,
        )
        self._readers = Readers(self._place.database)
        self._writer = Writer(
            self._connection,
            self._writes,
            self._place.database,
            newest=opened.last_timestamp,
            on_newest=partial(self._place.note_newest, opened.store_id),
        )
        self._writer.start()

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        if self._readers is not None:
            await self._readers.close()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._writer = self._readers = None
        self._place.release()

    async def info(self) -> StoreInfo:
        await self._read(lambda _: None)
        assert self._info is not None
        return msgspec.structs.replace(self._info, last_timestamp=self._the_writer.newest)

    # Writing

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if not writes:
            return []
        return await self._the_writer.commit(writes)

    async def claim(
        self, owner: str, agents: Sequence[str], *, limit: int, lease_seconds: float, limits: Limits = NO_LIMITS
    ) -> list[Run]:
        clock = self._clock.monotonic()
        # Mostly there is nothing, and a look costs no sync.
        if not await self._read(reads.claimable, owner, agents, 1, clock, limits):
            return []
        return await self._change(changes.claim, owner, agents, limit, clock, lease_seconds, limits)

    async def renew(self, owner: str, leases: Sequence[Lease], *, lease_seconds: float) -> set[int]:
        if not leases:
            return set()
        return await self._change(changes.renew, owner, leases, self._clock.monotonic(), lease_seconds)

    async def disown(self, owner: str, held: Sequence[int]) -> list[int]:
        clock = self._clock.monotonic()
        # As for claims: mostly there is nothing, and a look costs no sync.
        if not await self._read(reads.disownable, owner, held, clock):
            return []
        return await self._change(changes.disown, owner, held, clock)

    # Other processes: there are none

    async def announce(self, owner: str, agents: Sequence[str], *, floor: int) -> int:
        return floor

    async def notices(self, callback: Callable[[Notice], None]) -> None:
        return

    def on_rolled_back(self, callback: Callable[[], None]) -> None:
        pass

    # Runs and journals

    async def run(self, tenant: str, run_id: str) -> Run | None:
        return await self._read(reads.run, tenant, run_id)

    async def run_by_number(self, number: int) -> Run | None:
        return await self._read(reads.run_by_number, number)

    async def runs(self, query: RunQuery) -> list[Run]:
        return await self._read(reads.runs, query)

    async def count_runs(self, query: RunQuery) -> Mapping[tuple[str, Status], int]:
        return await self._read(reads.count_runs, query)

    async def counts(self) -> Mapping[Status, int]:
        return await self._read(reads.counts)

    async def unserved(self, agents: Sequence[str], *, queued_before: int) -> list[Run]:
        return await self._read(reads.unserved, agents, queued_before)

    async def segments(self, number: int, *, after: int, bytes_max: int) -> list[Segment]:
        return await self._read(reads.segments, number, after, bytes_max)

    async def segments_by_time(
        self,
        tenant: str,
        *,
        after: int,
        begun_after: int | None = None,
        thread_id: str | None = None,
        bytes_max: int,
    ) -> list[Segment]:
        assert self._writes is not None
        if thread_id is not None:
            return await self._read(reads.segments_of_thread, tenant, thread_id, after, bytes_max)
        # A segment with an event younger than `after` began at most the longest span before it.
        begun_after = max(begun_after or 0, after - self._writes.span_max)
        return await self._read(reads.segments_by_time, tenant, after, begun_after, bytes_max)

    async def common_floor(self) -> int | None:
        return None

    async def lost(self, tenant: str, *, thread_id: str | None = None) -> Lost:
        return await self._read(reads.lost, tenant, thread_id)

    async def marks(self, number: int) -> list[Segment]:
        return await self._read(reads.marks, number)

    async def tails(self, numbers: Sequence[int]) -> Mapping[int, tuple[int, Status]]:
        return await self._read(reads.tails, numbers)

    async def growth(self, after: Mapping[int, int], *, bytes_max: int) -> Mapping[int, Growth]:
        return await self._read(reads.growth, after, bytes_max)

    async def steps(self, number: int) -> list[Step]:
        return await self._read(reads.steps, number)

    async def interrupts(self, number: int) -> list[Interrupt]:
        return await self._read(reads.interrupts, number)

    async def pending(self, tenant: str, *, thread_id: str | None = None, limit: int = 1000) -> list[Interrupt]:
        return await self._read(reads.pending, tenant, thread_id, limit)

    async def last_resolved(self, tenant: str, thread_id: str) -> Interrupt | None:
        return await self._read(reads.last_resolved, tenant, thread_id)

    async def due(self, now: int, *, limit: int) -> list[Interrupt]:
        return await self._read(reads.due, now, limit)

    async def inbox(self, numbers: Sequence[int]) -> list[InboxRow]:
        return await self._read(reads.inbox, numbers)

    # Threads

    async def thread(self, tenant: str, thread_id: str) -> Thread | None:
        return await self._read(reads.thread, tenant, thread_id)

    async def threads(self, tenant: str, *, before: tuple[int, str] | None = None, limit: int = 50) -> list[Thread]:
        return await self._read(reads.threads, tenant, before, limit)

    async def messages(
        self, tenant: str, thread_id: str, *, after: int = 0, limit: int | None = None, superseded: bool = False
    ) -> list[Message]:
        return await self._read(reads.messages, tenant, thread_id, after, limit, superseded)

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        deleted = await self._change(self._remembering(upkeep.delete_thread), tenant, thread_id)
        if deleted:
            await self._sweep()
        return deleted

    # Idempotency of calls that start no run

    async def idempotency(self, tenant: str, method: str, path: str, key: str) -> IdempotencyRow | None:
        return await self._read(reads.idempotency, tenant, method, path, key, self._clock.now())

    async def begin_idempotent(self, row: IdempotencyRow) -> IdempotencyRow | None:
        return await self._change(changes.begin_idempotent, row, self._clock.now())

    async def finish_idempotent(self, row: IdempotencyRow) -> None:
        await self._change(changes.finish_idempotent, row)

    # Keys

    async def add_key(self, key: ApiKey) -> bool:
        return await self._change(changes.add_key, key)

    async def keys(self) -> list[ApiKey]:
        return await self._read(reads.keys)

    async def revoke_key(self, name: str, at: int) -> bool:
        return await self._change(changes.revoke_key, name, at)

    # Tool calls

    async def claim_calls(self, claim: CallClaim) -> set[str]:
        return await self._change(changes.claim_calls, claim)

    # Files

    async def put_file(self, file: File, content: bytes) -> None:
        with self._contents.arriving(file.sha256):
            await self._the_readers.run(partial(self._contents.put, file.sha256, content))
            await self._change(changes.put_file, file)

    async def file(self, tenant: str, file_id: str) -> tuple[File, bytes] | None:
        file = await self._read(reads.file, tenant, file_id)
        if file is None:
            return None
        return file, await self._the_readers.run(partial(self._contents.get, file.sha256))

    # Webhooks

    async def outbox(self, *, limit: int) -> list[OutboxRow]:
        return await self._read(reads.outbox, limit)

    async def outbox_done(self, rows: Sequence[OutboxRow]) -> None:
        if rows:
            await self._change(changes.outbox_done, rows)

    # Upkeep

    async def prune(self, *, ended_before: int, rows_before: int, now: int) -> int:
        went = 0
        for portion, before in (
            (upkeep.prune_journals, ended_before),
            (upkeep.prune_runs, rows_before),
            (upkeep.prune_keys, now),
        ):
            act = self._remembering(portion)
            while (some := await self._change(act, before)) is not None:
                went += some
        went += await self._change(upkeep.prune_files, now)
        await self._sweep()
        return went

    async def backup(self, target: str) -> None:
        async with self._files_lock:  # what the copy of the database names may not be swept away
            await self._the_readers.run(partial(self._backup, Path(target)))

    def _backup(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise StoreRefused(f"{directory} is not empty; a backup goes into a new directory")
        except OSError as error:
            raise StoreRefused(f"{directory} cannot be used: {error.strerror}") from error
        place = Place(directory)
        try:
            with translated(place.database):
                source = connect_reader(self._place.database)
                try:
                    copy(source, place.database)
                finally:
                    source.close()
            place.make_files_directory()
            self._contents.copy(place.files)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        mark_restored(directory)
        sync_directory(directory)
        sync_directory(directory.parent)

    async def ping(self) -> None:
        writer = self._the_writer
        if not self._has_room():
            raise StorageFull(f"{self._place.directory}: less than {self._free_bytes_min >> 20} MiB are free")
        if writer.is_full:
            await self._change(schema.set_meta, "last_ping", self._clock.now())
        await self._read(lambda _: None)

    # Helpers

    @property
    def _the_writer(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable(f"{self._place.directory} is not open")
        return self._writer

    @property
    def _the_readers(self) -> Readers:
        if self._readers is None:
            raise StoreUnavailable(f"{self._place.directory} is not open")
        return self._readers

    async def _read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._the_readers.read(query, *args, **kwargs)

    async def _change(self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._the_writer.call(lambda connection: change(connection, *args, **kwargs))
        return result

    def _expect_endpoints(self) -> None:
        """Writes from now on may be for somebody."""
        if self._writes is not None:
            self._writes.has_endpoints = True

    def _remembering(self, change: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Connection, P], T]:
        """Before a change that deletes: write down the newest number and timestamp, which may go with it."""

        def remember(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
            result = change(connection, *args, **kwargs)
            if result:
                assert self._writes is not None
                schema.set_meta(connection, "last_number", self._writes.last_number)
                newest = max(self._the_writer.newest, self._writes.last_timestamp)
                schema.set_meta(connection, "last_timestamp", newest)
            return result

        return remember

    async def _sweep(self) -> None:
        def sweep(connection: Connection) -> None:
            self._contents.sweep(lambda: upkeep.contents(connection))

        async with self._files_lock:
            await self._read(sweep)

    def _has_room(self) -> bool:
        """Whether new runs may be started; the disk is asked at most once a second."""
        now = self._clock.monotonic()
        if self._room is None or now - self._room[0] >= FREE_CHECKED_SECONDS:
            self._room = (now, self._free_bytes(self._place.directory) >= self._free_bytes_min)
        return self._room[1]


def mark_restored(directory: Path) -> None:
    """
    Let the next opening treat the store in `directory` as a restored backup, whatever it finds.

    Raises:
        StoreLocked: a process has it open.
        StoreRefused, StoreTooNew: there is none that this version can open.
    """
    place = Place(Path(directory))
    if not place.database.exists():
        raise StoreRefused(f"there is no store in {directory}")
    place.take()
    try:
        schema.prepare(place)
        with translated(place.database):
            connection = connect_writer(place.database)
            try:
                schema.migrate(connection)
                schema.set_meta(connection, "is_restored", 1)
            finally:
                connection.close()
    finally:
        place.release()
