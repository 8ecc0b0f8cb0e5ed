"""
Pruning and deleting, in portions that nobody has to wait for.

What goes may have held the newest number or timestamp of the store. Both are written down first, for neither may be
given out a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.errors import ThreadBusy
from holdfast.store.sql import statements
from holdfast.store.sqlite.changes import LOOSE_FILE_SECONDS
from holdfast.store.sqlite.connection import Connection

SQL: Final = statements("sqlite", "upkeep")

# Segments that go in one transaction: some 10 ms, for which commits wait.
SEGMENTS_MAX: Final = 1000

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

_numbers = msgspec.json.Decoder(list[int])

Portion = Callable[[Connection], int | None]
"""Does some of the work; how much went comes back, None when there was nothing left to do."""


def prune_journals(connection: Connection, ended_before: int) -> int | None:
    """Drop up to a thousand of the oldest segments of runs that ended before this time."""
    went = 0
    room = SEGMENTS_MAX
    while room > 0:
        number = connection.execute(SQL["to_prune"], (ended_before,)).get
        if number is None:
            return went if room < SEGMENTS_MAX else None
        going = connection.execute(SQL["prune_facts"], {"number": number, "limit": room}).get
        count, events, last, prior_hash, timestamp = going
        if count:
            connection.execute(SQL["prune_segments"], (number, last))
            connection.execute(SQL["prune_run"], (last + 1, prior_hash, number))
            connection.execute(SQL["note_pruned"], (timestamp, number))
            went += events
        if count < room:
            connection.execute(SQL["pruned"], (number,))
        room -= max(count, 1)
    return went


def prune_runs(connection: Connection, ended_before: int) -> int | None:
    """Delete some runs that ended before this time, with all that hangs on them but their messages."""
    numbers = connection.execute(SQL["ended_runs"], (ended_before,)).get
    if numbers == "[]":
        return None
    connection.execute(SQL["note_gone"], (numbers,))
    return _delete_runs(connection, numbers)


def prune_keys(connection: Connection, now: int) -> int | None:
    """Delete some expired idempotency keys."""
    connection.execute(SQL["delete_idempotency"], (now,))
    return connection.changes() or None


def prune_files(connection: Connection, now: int) -> int:
    """Delete the rows of files that no run took."""
    connection.execute(SQL["delete_files"], (now - LOOSE_FILE_SECONDS * 1_000_000,))
    return connection.changes()


def delete_thread(connection: Connection, tenant: str, thread_id: str) -> bool:
    active = connection.execute(SQL["unfinished_of_thread"], (tenant, thread_id)).fetchone()
    if active is not None:
        run_id, status = active
        raise ThreadBusy(
            f"thread {thread_id} has a run that is not finished: {run_id} is {status}",
            active_run_id=run_id,
            status=status,
        )
    connection.execute(SQL["delete_thread"], (tenant, thread_id))
    if not connection.changes():
        return False
    connection.execute(SQL["delete_messages"], (tenant, thread_id))
    connection.execute(SQL["delete_working_memory"], (tenant, thread_id))
    _delete_runs(connection, connection.execute(SQL["runs_of_thread"], (tenant, thread_id)).get)
    return True


def _delete_runs(connection: Connection, numbers: str) -> int:
    """Events and rows that went; `numbers` is a JSON array."""
    events: int = connection.execute(SQL["count_events"], (numbers,)).get
    for table in TABLES_OF_RUNS:
        connection.execute(SQL["delete_runs"].replace("{table}", table), (numbers,))
    return events + len(_numbers.decode(numbers))


def contents(connection: Connection) -> set[str]:
    """The hashes of all contents that some file has."""
    return {sha256 for (sha256,) in connection.execute(SQL["contents"])}
