"""
Everything of one store into another, empty one: from SQLite to Postgres, back, or to a second one of the same kind.

Rows go over as they are, so a journal is the same byte for byte and every cursor stays valid: numbers, sequences,
timestamps, epochs and the name of the store, from which the ids of agents come, are kept. On the way each segment is
held against its hash. Nobody may use either store meanwhile. The target bears a mark until it is complete, and does not
open with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from holdfast.errors import JournalCorrupt, StoreError
from holdfast.store.base import Store

Row: TypeAlias = tuple[Any, ...]

UNFINISHED: Final = "the store is an unfinished copy; delete it and copy again"


class Table(msgspec.Struct, frozen=True):
    """What is copied of a table, in which order, and so many rows at once."""

    name: str
    key: tuple[str, ...]  # unique; rows are read, and written, in its order
    columns: tuple[str, ...]
    booleans: frozenset[str] = frozenset()
    rows_max: int = 1000


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows beside its rows."""

    store_id: str
    last_number: int
    last_timestamp: int
    span_max: int
    rollbacks: str | None


class End(Protocol):
    """One end of a copy: an open store, and its tables."""

    @property
    def store(self) -> Store: ...

    async def state(self) -> State: ...

    async def check_idle(self) -> None:
        """Raises StoreRefused if another process uses the store."""
        ...

    async def page(self, table: Table, after: Row | None) -> list[Row]:
        """Rows behind the key `after`: their key, then their columns."""
        ...

    async def begin(self) -> None:
        """Mark the store as unfinished; raises StoreRefused unless it is empty."""
        ...

    async def put(self, table: Table, rows: Sequence[Row]) -> None: ...

    async def finish(self, state: State) -> None:
        """Take the mark away. The store has to be opened again before it is used."""
        ...


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


RUNS: Final = Table(
    "runs",
    ("number",),
    _names(
        "number run_id tenant agent agent_id thread_id parent status attempt priority superseded input output error "
        "cancel usage caller role trust metadata timeout_seconds executed_seconds created_at started_at ended_at epoch "
        "epochs first_sequence prior_hash is_pruned"
    ),
    frozenset({"superseded", "is_pruned"}),
)
HEADS: Final = Table(
    "heads",
    ("number",),
    _names("number tenant lease_owner lease_epoch lease_until tail_sequence head_hash last_timestamp is_over"),
    frozenset({"is_over"}),
)
SEGMENTS: Final = Table(
    "segments",
    ("number", "first"),
    _names("number first last first_timestamp last_timestamp tenant hash marks body"),
    rows_max=100,  # of up to a megabyte
)
FILES: Final = Table(
    "files",
    ("tenant", "file_id"),
    _names("tenant file_id number name media_type size sha256 created_at"),
    rows_max=100,
)

# `files` are copied through the contract, with their contents.
TABLES: Final = (
    RUNS,
    HEADS,
    SEGMENTS,
    Table(
        "steps",
        ("id",),
        _names("number key name status attempts at_most_once started_at completed_at output error sequence reused"),
        frozenset({"at_most_once", "reused"}),
    ),
    Table(
        "interrupts",
        ("id",),
        _names(
            "number interrupt_id tenant thread_id kind status step question choices reason tool tool_call_id input rule "
            "input_hash round answer_role created_at resolved_at sequence resolved_sequence"
        ),
    ),
    Table(
        "interrupt_parts",
        ("id",),
        _names(
            "number interrupt_id tool_call_id tool namespace input expires_at on_expiry default answer by caller "
            "answered_at claim_worker claim_number claim_until is_open"
        ),
        frozenset({"is_open"}),
    ),
    Table(
        "inbox",
        ("inbox_id",),
        _names("number kind interrupt_id tool_call_id answer by caller reason created_at"),
    ),
    Table(
        "threads",
        ("tenant", "thread_id"),
        _names("tenant thread_id agent active created_at updated_at last_timestamp pruned_timestamp"),
    ),
    Table(
        "messages",
        ("id",),
        _names("tenant thread_id message_id number role content media detail created_at superseded"),
        frozenset({"superseded"}),
    ),
    Table(
        "idempotency",
        ("tenant", "method", "path", "key"),
        _names("tenant method path key fingerprint number status body created_at expires_at"),
    ),
    Table("api_keys", ("id",), _names("name hash role tenant created_at revoked_at")),
    Table("outbox", ("id",), _names("endpoint_id number sequence created_at")),
    Table("records", ("id",), _names("tenant kind name number body created_at updated_at")),
    Table(
        "deliveries",
        ("id",),
        _names(
            "delivery_id endpoint_id tenant event_id type number sequence status body attempts tries next_attempt_at "
            "locked_until created_at"
        ),
    ),
    Table(
        "memory_items",
        ("id",),
        _names(
            "tenant store item_id fields scope words source confidence created_at updated_at valid_from valid_until "
            "from_id to_id task_id vector vector_bits vector_model"
        ),
    ),
    Table("memory_souls", ("id",), _names("tenant version body caller created_at")),
    Table("working_memory", ("id",), _names("tenant thread_id number key value created_at")),
)

Progress: TypeAlias = Callable[[str, int], None]
"""Told the name of a table, and how many of its rows are there."""


async def copy(source: End, target: End, *, on_progress: Progress = lambda _, __: None) -> dict[str, int]:
    """
    Copy everything; the number of rows of each table comes back.

    If it does not come to its end, the target stays marked and has to be deleted.

    Raises:
        StoreRefused: a process uses the source, or the target is not empty. Nothing was written.
        JournalCorrupt: a journal of the source does not give its recorded hash.
    """
    await source.check_idle()
    await target.check_idle()
    state = await source.state()
    await target.begin()
    counts: dict[str, int] = {}
    for table in TABLES:
        counts[table.name] = 0
        chain = _Chain()
        async for rows in _pages(source, table):
            if table is SEGMENTS:
                await chain.check(source, rows)
            await target.put(table, [_without_lease(row) for row in rows] if table is HEADS else rows)
            counts[table.name] += len(rows)
            on_progress(table.name, counts[table.name])
    counts["files"] = await _copy_files(source, target, on_progress)
    await _compare(target, counts)
    await target.finish(state)
    return counts


async def _pages(end: End, table: Table) -> AsyncIterator[list[Row]]:
    """The columns of all rows, a page at a time."""
    after: Row | None = None
    width = len(table.key)
    while page := await end.page(table, after):
        after = page[-1][:width]
        yield [row[width:] for row in page]


async def _copy_files(source: End, target: End, on_progress: Progress) -> int:
    count = 0
    async for rows in _pages(source, FILES):
        for tenant, file_id, *_ in rows:
            found = await source.store.file(tenant, file_id)
            if found is None:
                raise StoreError(f"the file {file_id} vanished while it was copied")
            await target.store.put_file(*found)
            count += 1
        on_progress("files", count)
    return count


async def _compare(target: End, counts: dict[str, int]) -> None:
    for table in (*TABLES, FILES):
        found = 0
        async for rows in _pages(target, msgspec.structs.replace(table, columns=table.key)):
            found += len(rows)
        if found != counts[table.name]:
            raise StoreError(f"{counts[table.name]} rows of {table.name} were copied, {found} are there")


def _without_lease(row: Row) -> Row:
    """Whoever held a run is not there any more; where leases are measured by another clock, that must not look alive."""
    fields = dict(zip(HEADS.columns, row, strict=True))
    if fields["lease_owner"] is not None:
        fields |= {"lease_owner": "", "lease_until": 0.0}
    return tuple(fields.values())


class _Chain:
    """The hash chains of journals that come in order, one after the other."""

    def __init__(self) -> None:
        self.number = 0
        self.hash = b""

    async def check(self, source: End, rows: Sequence[Row]) -> None:
        for row in rows:
            segment = dict(zip(SEGMENTS.columns, row, strict=True))
            number, first = segment["number"], segment["first"]
            if number != self.number:
                run = await source.store.run_by_number(number)
                self.number, self.hash = number, b"" if run is None else run.prior_hash
            self.hash = hashlib.sha256(self.hash + segment["body"]).digest()
            if self.hash != segment["hash"]:
                raise JournalCorrupt(
                    f"the journal of run {number} does not give its recorded hash from event {first} on; restore a "
                    "backup",
                    first_bad_sequence=first,
                )
