"""
Who wrote what under which lease, noted by the database itself: a trigger that the product does not know.

Every write to a run changes its head. So a head that changes under a lease that somebody else took is a stale write,
whatever it was: an append, a renewal, a release.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import msgspec

INSTALL = """
CREATE SCHEMA audit;
CREATE TABLE audit.heads (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer text NOT NULL, number bigint NOT NULL,
    old_epoch bigint, old_owner text, new_epoch bigint NOT NULL, new_owner text, tail bigint NOT NULL
);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.heads (writer, number, old_epoch, old_owner, new_epoch, new_owner, tail) VALUES (
        current_setting('application_name'), NEW.number, CASE WHEN TG_OP = 'UPDATE' THEN OLD.lease_epoch END,
        CASE WHEN TG_OP = 'UPDATE' THEN OLD.lease_owner END, NEW.lease_epoch, NEW.lease_owner, NEW.tail_sequence
    );
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON holdfast.heads FOR EACH ROW EXECUTE FUNCTION audit.note();
-- Who holds a run now, by the name of the process.
CREATE TABLE audit.holders (owner text PRIMARY KEY, writer text NOT NULL);
CREATE FUNCTION audit.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.owner IS NOT NULL THEN
        INSERT INTO audit.holders VALUES (NEW.owner, current_setting('application_name')) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hold AFTER INSERT OR UPDATE OF owner ON holdfast.processes FOR EACH ROW EXECUTE FUNCTION audit.hold();
"""

HELD = """
SELECT h.number, h.lease_epoch FROM audit.holders o JOIN holdfast.heads h ON h.lease_owner = o.owner
WHERE o.writer = $1 AND NOT h.is_over AND h.lease_until > holdfast.lease_clock()
"""

HOLDING = """
SELECT DISTINCT o.writer FROM audit.holders o JOIN holdfast.heads h ON h.lease_owner = o.owner
WHERE NOT h.is_over AND h.lease_until > holdfast.lease_clock()
"""

TAKEN_OVER = """
SELECT count(*) FROM holdfast.heads h JOIN unnest($1::bigint[], $2::bigint[]) AS lease (number, epoch) USING (number)
WHERE h.lease_epoch > lease.epoch
"""

WATCH_SECONDS = 0.1


class Eye:
    """Looks into the database past everything that is tested; while that is away, it sees nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.holders: frozenset[str] = frozenset()  # the processes that hold runs, as `watch` saw it last
        self._connection: Any = None
        self._lock = asyncio.Lock()

    async def fetch(self, text: str, *values: Any) -> list[Any]:
        """
        The rows of a query.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: there is no database at the moment.
        """
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self.url, timeout=5, command_timeout=60)
            found: list[Any] = await self._connection.fetch(text, *values)
            return found

    async def try_fetch(self, text: str, *values: Any) -> list[Any]:
        """The same; no rows when there is no database."""
        try:
            return await self.fetch(text, *values)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return []

    async def held(self, writer: str) -> list[tuple[int, int]]:
        """The runs that a process holds, with the epochs of their leases."""
        return [(row[0], row[1]) for row in await self.try_fetch(HELD, writer)]

    async def taken_over(self, leases: list[tuple[int, int]]) -> int:
        """How many of these leases somebody else has taken since."""
        found = await self.try_fetch(TAKEN_OVER, [lease[0] for lease in leases], [lease[1] for lease in leases])
        return int(found[0][0]) if found else 0

    async def watch(self) -> None:
        """Keep an eye on who holds what, until cancelled."""
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # While the database is away, nothing changes in it: what was seen last holds.
                self.holders = frozenset(row[0] for row in await self.fetch(HOLDING))
            await asyncio.sleep(WATCH_SECONDS)

    async def tails(self) -> dict[str, int]:
        """The sequence that every run ends in."""
        rows = await self.fetch(
            "SELECT r.run_id, h.tail_sequence FROM holdfast.runs r JOIN holdfast.heads h USING (number)"
        )
        return {row[0]: row[1] for row in rows}

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


class Note(msgspec.Struct, frozen=True):
    """One change of a head."""

    writer: str
    number: int
    old_epoch: int | None
    old_owner: str | None
    new_epoch: int
    new_owner: str | None
    tail: int


def stale_writes(notes: list[Note]) -> list[str]:
    """What was written under a lease by somebody who did not take it."""
    takers: dict[tuple[int, int], str] = {}
    stale: list[str] = []
    for note in notes:
        if note.new_epoch != note.old_epoch:
            if note.new_owner:
                takers[note.number, note.new_epoch] = note.writer
        elif takers.get((note.number, note.new_epoch)) != note.writer:
            holder = takers.get((note.number, note.new_epoch), "nobody")
            stale.append(
                f"run number {note.number}: {note.writer} wrote up to {note.tail} under lease {note.new_epoch} of {holder}"
            )
    return stale
