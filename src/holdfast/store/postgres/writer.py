"""
The one connection that changes runs, and what keeps a change from being lost or done twice.

Every change has a number, which the database notes in the same transaction together with what the change came to. So
after a lost reply the same call is made again under the same number: it either happens now, or its outcome is told.
When the database stays away, the change stays unknown, and whatever comes next settles it first. From then on it is
certain that it did or did not happen; the writes of it that are handed in again are answered, not written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
import structlog

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, JournalCorrupt, StorageFull, StoreError, StoreUnavailable
from holdfast.store.base import NO_LIMITS, Limits, Outcome, Write
from holdfast.store.postgres import documents
from holdfast.store.postgres.connection import (
    Backoff,
    Connection,
    Connector,
    DriverError,
    is_lost,
    is_raced,
    is_unknown_process,
    persist,
    translate,
)
from holdfast.store.postgres.documents import Item
from holdfast.store.postgres.verdicts import Replay, Verdict, claimed_of, outcome_of, verdicts_of
from holdfast.store.sql import statements

SQL: Final = statements("postgres", "changes")

# What one call carries at most. More would hold locks, and the memory of a message, for too long.
ITEMS_MAX: Final = 1000
BYTES_MAX: Final = 16 << 20

# Rows of processes that were not heard of for so long are of no use any more.
AWAY_SECONDS_MAX: Final = 3600.0

# Changes are numbered with a gap, which `settle_1` takes.
STEP: Final = 2

# Each time, somebody else was at the same place at the same moment and went on.
RACES_MAX: Final = 20

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Unknown(msgspec.Struct, frozen=True):
    """A change of which nobody knows whether it happened: the writes of a commit, or None for a claim."""

    change: int
    writes: Sequence[Write] | None


class Writer:
    """
    Carries out commits and claims, one at a time.

    Args:
        process: the name of this opening of the store; unique for ever.
        on_connect: called with each new connection before it is used.
    """

    def __init__(
        self,
        connector: Connector,
        clock: Clock,
        process: str,
        *,
        retry_seconds: float,
        on_connect: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._process = process
        self._retry_seconds = retry_seconds
        self._on_connect = on_connect
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._change = 0
        self._unknown: Unknown | None = None
        self._known: dict[int, tuple[Write, Outcome | Replay]] = {}
        self._found: list[tuple[int, str]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self.is_full = False  # the last commit found no space

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Replay]:
        """Carry out the writes. Cancelling the caller cancels nothing of that."""
        return await self._shielded(self._commit(writes))

    async def claim(
        self, owner: str, agents: Sequence[str], *, limit: int, lease_seconds: float, limits: Limits = NO_LIMITS
    ) -> list[tuple[int, str]]:
        """Take runs; their numbers, and their statuses as they were found."""
        return await self._shielded(self._claim(owner, agents, limit, lease_seconds, limits))

    @property
    def is_claim_open(self) -> bool:
        """Whether an earlier claim has taken runs, or may have, of which nobody was told."""
        return bool(self._found) or (self._unknown is not None and self._unknown.writes is None)

    async def enter(self) -> None:
        """Make ourselves known to the other processes."""
        async with self._lock:
            await persist(self._enter, seconds_max=self._retry_seconds, location=self._connector.location)

    async def close(self) -> None:
        """Finish what was begun, and let go of the connection."""
        self._is_closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, *DriverError):
                await connection.execute(SQL["leave"], self._process, AWAY_SECONDS_MAX)
                await connection.close()
            connection.terminate()

    # One at a time.

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        if self._is_closed:
            work.close()
            raise StoreUnavailable(f"{self._connector.location} is not open")
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _commit(self, writes: Sequence[Write]) -> list[Outcome | Replay]:
        async with self._lock:
            await self._settle()
            done: dict[int, Outcome | Replay] = {
                place: self._known[id(write)][1] for place, write in enumerate(writes) if id(write) in self._known
            }
            try:
                await self._write(writes, done)
            except BaseException:
                # Whoever hands them in again learns what became of them.
                self._known |= {id(writes[place]): (writes[place], outcome) for place, outcome in done.items()}
                raise
            self._known.clear()
            self.is_full = False
            return [done[place] for place in range(len(writes))]

    async def _write(self, writes: Sequence[Write], done: dict[int, Outcome | Replay]) -> None:
        now = self._clock.now()
        items: list[tuple[int, Item]] = []
        for place, write in enumerate(writes):
            if place in done:
                continue
            try:
                items.append((place, documents.item_of(write, now)))
            except Exception as error:  # noqa: BLE001  a bug in one write must not take the others along
                done[place] = _cannot(error)
        newest = max((item.segment.last_timestamp for _, item in items if item.segment is not None), default=0)
        portions = list(_portions(_in_order(items)))
        for portion in portions:
            await self._write_portion(writes, portion, done, floor=newest if portion is portions[-1] else None)

    async def _write_portion(
        self,
        writes: Sequence[Write],
        portion: Sequence[tuple[int, Item]],
        done: dict[int, Outcome | Replay],
        floor: int | None,
    ) -> None:
        items = [item for _, item in portion]
        given = [writes[place] for place, _ in portion]
        try:
            text = await self._call(SQL["commit"], *_parameters(items, floor), writes=given)
        except (OSError, *DriverError) as error:
            ours = translate(error, self._connector.location)
            self.is_full = isinstance(ours, StorageFull)
            if isinstance(ours, StorageFull | StoreUnavailable | JournalCorrupt):
                raise ours from error
            log.error("write_failed", error=repr(error), writes=len(items))
            if len(items) == 1:
                done[portion[0][0]] = _cannot(error)
                return
            for single in portion:
                await self._write_portion(writes, [single], done, floor if single is portion[-1] else None)
            return
        for (place, _), outcome in zip(portion, _outcomes(given, verdicts_of(text)), strict=True):
            done[place] = outcome

    async def _claim(
        self, owner: str, agents: Sequence[str], limit: int, lease_seconds: float, limits: Limits
    ) -> list[tuple[int, str]]:
        async with self._lock:
            await self._settle()
            if self._found:  # of a claim whose reply was lost
                found, self._found = self._found, []
                return found
            try:
                given = (owner, *limits_of(agents, limits), limit, lease_seconds)
                text = await self._call(SQL["claim"], *given, writes=None)
            except (OSError, *DriverError) as error:
                raise translate(error, self._connector.location) from error
            return claimed_of(text)

    # Changes

    async def _call(self, text: str, *parameters: Any, writes: Sequence[Write] | None) -> str | None:
        """
        Make a change, and make sure of it. The driver's error is raised where the database refused it.

        Raises:
            StoreUnavailable: it is unknown, until `_settle`, whether it happened.
        """
        self._change += STEP
        change = self._change
        backoff = Backoff(self._retry_seconds)
        races = 0
        was_sent = False
        while True:
            try:
                connection = await self._connected()
                was_sent = True
                async with self._connector.in_one_place(connection):
                    if self._connector.is_pooled:  # behind it, the database may be exchanged without our noticing
                        await self._on_connect(connection)
                    outcome: str | None = await connection.fetchval(text, self._process, change, *parameters)
                return outcome
            except (OSError, *DriverError) as error:
                if is_unknown_process(error) and races < RACES_MAX:
                    races += 1
                    await self._enter()
                elif is_raced(error) and races < RACES_MAX:
                    races += 1
                    await asyncio.sleep(0)
                elif is_lost(error):
                    self._drop()
                    if not await backoff.pause():
                        if was_sent:
                            self._unknown = Unknown(change, writes)
                        raise translate(error, self._connector.location) from error
                else:
                    raise

    async def _settle(self) -> None:
        """Find out what became of the last change, if that is unknown."""
        unknown = self._unknown
        if unknown is None:
            return
        row = await persist(
            lambda: self._ask(unknown.change), seconds_max=self._retry_seconds, location=self._connector.location
        )
        self._unknown = None
        log.info("change_settled", was_done=row[0], writes=None if unknown.writes is None else len(unknown.writes))
        if not row[0]:
            return
        if unknown.writes is None:
            self._found += claimed_of(row[1])
            return
        outcomes = _outcomes(unknown.writes, verdicts_of(row[1]))
        self._known |= {id(write): (write, outcome) for write, outcome in zip(unknown.writes, outcomes, strict=True)}

    async def _ask(self, change: int) -> tuple[bool, str | None]:
        connection = await self._connected()
        try:
            async with self._connector.in_one_place(connection):
                row = await connection.fetchrow(SQL["settle"], self._process, change)
        except (OSError, *DriverError) as error:
            if is_lost(error):
                self._drop()
            raise
        assert row is not None
        return row[0], row[1]

    async def _enter(self) -> None:
        connection = await self._connected()
        try:
            async with self._connector.in_one_place(connection):
                await connection.execute(SQL["enter"], self._process)
        except (OSError, *DriverError) as error:
            if is_lost(error):
                self._drop()
            raise

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = await self._connector.prepared()
            try:
                await self._on_connect(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def limits_of(agents: Sequence[str], limits: Limits) -> tuple[list[str], list[int | None], int | None]:
    """Agents, the limit of each of them, and that of each tenant, as the procedures take them."""
    return list(agents), [limits.agent_runs_max.get(name) for name in agents], limits.tenant_runs_max


def _in_order(items: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """
    Plain appends first, by number: they touch nothing but their own run, and one that comes after another write to
    its run stays behind that.
    """
    plain, others = [], []
    touched: set[int] = set()
    for place, item in items:
        if item.kind == documents.PLAIN and item.number not in touched:
            plain.append((place, item))
        else:
            touched.add(item.number)
            others.append((place, item))
    plain.sort(key=lambda pair: pair[1].number)  # stable: of one run they stay in order
    return plain + others


def _portions(items: Sequence[tuple[int, Item]]) -> Iterator[Sequence[tuple[int, Item]]]:
    start, size = 0, 0
    for end, (_, item) in enumerate(items):
        if end > start and (end - start >= ITEMS_MAX or size + item.size > BYTES_MAX):
            yield items[start:end]
            start, size = end, 0
        size += item.size
    if start < len(items):
        yield items[start:]


def _parameters(items: Sequence[Item], floor: int | None) -> tuple[Any, ...]:
    segments = [item.segment for item in items if item.segment is not None]
    newest = max((segment.last_timestamp for segment in segments), default=0)
    span = max((segment.last_timestamp - segment.first_timestamp for segment in segments), default=0)
    return (newest, floor, span, *documents.arrays_of(items))


def _outcomes(writes: Sequence[Write], verdicts: dict[int, Verdict]) -> list[Outcome | Replay]:
    return [outcome_of(write, verdicts.get(place)) for place, write in enumerate(writes)]


def _cannot(error: Exception) -> HoldfastError:
    return error if isinstance(error, HoldfastError) else StoreError(f"the write cannot be kept: {error}")
