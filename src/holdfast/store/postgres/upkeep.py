"""
Pruning and deleting, in portions that nobody has to wait for, each a transaction.

Many processes do this at once; each portion is done by one of them, the others go on without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from holdfast.errors import ThreadBusy
from holdfast.store.postgres.connection import Connection
from holdfast.store.sql import statements

SQL: Final = statements("postgres", "upkeep")

# Segments that go in one transaction: some 10 ms.
SEGMENTS_MAX: Final = 1000

# An upload that no run has taken is kept so long.
LOOSE_FILE_SECONDS: Final = 24 * 3600

PORTION_SECONDS: Final = 60.0

TABLES_OF_RUNS: Final = (
    "segments",
    "steps",
    "interrupts",
    "interrupt_parts",
    "inbox",
    "outbox",
    "deliveries",
    "records",
    "idempotency",
    "files",
    "heads",
    "runs",
)

Portion = Callable[[Connection, int], Awaitable[int | None]]
"""Does some of the work; how much went comes back, None when there was nothing left to do, or another is at it."""


async def prune_journals(connection: Connection, ended_before: int) -> int | None:
    """Drop up to a thousand of the oldest segments of runs that ended before this time."""
    if not await connection.fetchval(SQL["prune_lock"]):
        return None
    went = 0
    room = SEGMENTS_MAX
    while room > 0:
        number = await connection.fetchval(SQL["to_prune"], ended_before, timeout=PORTION_SECONDS)
        if number is None:
            return went if room < SEGMENTS_MAX else None
        going = await connection.fetchrow(SQL["prune_facts"], number, room, timeout=PORTION_SECONDS)
        assert going is not None
        if going["segments"]:
            await connection.execute(SQL["prune_segments"], number, going["last"], timeout=PORTION_SECONDS)
            await connection.execute(SQL["prune_run"], going["last"] + 1, going["hash"], number)
            await connection.execute(SQL["note_pruned"], going["last_timestamp"], number)
            went += going["events"]
        if going["segments"] < room:
            await connection.execute(SQL["pruned"], number)
        room -= max(going["segments"], 1)
    return went


async def prune_runs(connection: Connection, ended_before: int) -> int | None:
    """Delete some runs that ended before this time, with all that hangs on them but their messages."""
    if not await connection.fetchval(SQL["prune_lock"]):
        return None
    numbers = await connection.fetchval(SQL["ended_runs"], ended_before)
    if numbers is None:
        return None
    await connection.execute(SQL["note_gone"], numbers)
    return await _delete_runs(connection, numbers)


async def prune_keys(connection: Connection, now: int) -> int | None:
    """Delete some expired idempotency keys."""
    return await connection.fetchval(SQL["delete_idempotency"], now, timeout=PORTION_SECONDS) or None


async def prune_files(connection: Connection, now: int) -> int:
    """Delete the rows of files that no run took."""
    before = now - LOOSE_FILE_SECONDS * 1_000_000
    went: int = await connection.fetchval(SQL["delete_files"], before, timeout=PORTION_SECONDS)
    return went


async def sweep(connection: Connection, _: int) -> int | None:
    """Delete some contents that no file has any more."""
    unnamed = [row[0] for row in await connection.fetch(SQL["unnamed_contents"], timeout=PORTION_SECONDS)]
    if not unnamed:
        return None
    await connection.execute(SQL["delete_contents"], unnamed, timeout=PORTION_SECONDS)
    return 0


async def delete_thread(connection: Connection, tenant: str, thread_id: str) -> bool:
    """
    Delete a thread with all that hangs on it.

    Raises:
        ThreadBusy
    """
    # No run can begin in the thread while we hold this.
    exists = await connection.fetchval(SQL["thread_lock"], tenant, thread_id)
    active = await connection.fetchrow(SQL["unfinished_of_thread"], tenant, thread_id)
    if active is not None:
        raise ThreadBusy(
            f"thread {thread_id} has a run that is not finished: {active['run_id']} is {active['status']}",
            active_run_id=active["run_id"],
            status=active["status"],
        )
    if exists is None:
        return False
    await connection.execute(SQL["delete_thread"], tenant, thread_id)
    await connection.execute(SQL["delete_messages"], tenant, thread_id)
    await connection.execute(SQL["delete_working_memory"], tenant, thread_id)
    numbers = await connection.fetchval(SQL["runs_of_thread"], tenant, thread_id)
    await _delete_runs(connection, numbers)
    return True


async def _delete_runs(connection: Connection, numbers: Sequence[int]) -> int:
    """Events and rows that went."""
    events: int = await connection.fetchval(SQL["count_events"], numbers, timeout=PORTION_SECONDS)
    for table in TABLES_OF_RUNS:
        text = SQL["delete_runs"].replace("{table}", table)
        await connection.execute(text, numbers, timeout=PORTION_SECONDS)
    return events + len(numbers)
