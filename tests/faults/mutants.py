"""
Holdfast with one line wrong: what the checker has to catch. Some are lines of the procedures in the database, the others
are patched into each server process by the launcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from holdfast.execution.neighbours import Neighbours
from holdfast.journal import Journal
from holdfast.journal.writer import Taken, Writer, is_end
from holdfast.store.postgres import PostgresStore, store

NO_EPOCH: Final = "no epoch check on append"
NO_RENEWAL: Final = "no check on renewal"
SERIAL: Final = "serial id as cursor"
NO_POLLING: Final = "no polling"
EARLY: Final = "publish before commit"
NO_COMPARE: Final = "answer without compare-and-set"

# By mutant: procedure, what stands there, what stands there instead.
_PROCEDURES: Final = {
    NO_EPOCH: (
        ("commit_2", "h.lease_epoch = lease_epochs[i] AND", ""),
        ("append_1", "head.lease_epoch <> own_epoch OR", ""),
    ),
    NO_COMPARE: (("refused_answer_1", "part.answer IS NULL AND part.status = 'pending'", "true"),),
}

_UP_TO_FLOOR: Final = "AND first_timestamp <= (SELECT floor FROM common)"

_RENEWS_ANYTHING: Final = """
UPDATE holdfast.heads h SET lease_until = holdfast.lease_clock() + $4
FROM unnest($1::bigint[], $2::bigint[]) AS lease (number, epoch)
WHERE h.number = lease.number AND $3::text IS NOT NULL AND NOT h.is_over RETURNING h.number
"""


async def change_procedures(url: str, mutant: str) -> None:
    """The part of a mutant that is in the database."""
    connection = await asyncpg.connect(url)
    try:
        for name, old, new in _PROCEDURES.get(mutant, ()):
            text = await connection.fetchval(
                "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
                "WHERE n.nspname = 'holdfast' AND p.proname = $1",
                name,
            )
            await connection.execute("SET search_path = holdfast, pg_catalog, pg_temp")
            assert old in text, f"{name} does not say {old!r} any more: this mutant has to be written anew"
            await connection.execute(text.replace(old, new))
    finally:
        await connection.close()


def install(mutant: str) -> None:
    """The part of a mutant that is in the process."""
    if mutant == NO_RENEWAL:
        assert isinstance(store.CHANGE, dict)
        store.CHANGE["renew"] = _RENEWS_ANYTHING
    elif mutant == SERIAL:
        PostgresStore.common_floor = _no_floor  # type: ignore[method-assign]  # that is the point
        assert isinstance(store.READ, dict)
        text = store.READ["segments_by_time"]
        assert _UP_TO_FLOOR in text, "segments_by_time has changed: this mutant has to be written anew"
        store.READ["segments_by_time"] = text.replace(_UP_TO_FLOOR, "")
    elif mutant == NO_POLLING:
        defaults = Neighbours.__init__.__kwdefaults__
        assert defaults is not None
        defaults["poll_seconds"] = 1e6
    elif mutant == EARLY:
        _publish_early()


async def _no_floor(self: PostgresStore) -> None:
    """
    Who reads everything follows by what is there: by the stamps, which are given in another order than the commits
    come, as the numbers of a serial are.
    """


def _publish_early() -> None:
    commit = Journal._commit

    async def early(self: Journal, writers: Sequence[Writer], taken: Sequence[Taken], submitted: Any) -> None:
        for writer, item in zip(writers, taken, strict=True):
            if item.chunk is not None:
                self.tails.publish(writer.number, writer.tenant, item.chunk, finished=is_end(item.chunk))
        await commit(self, writers, [Taken(item.write, None) for item in taken], submitted)

    Journal._commit = early  # type: ignore[method-assign]  # that is the point
