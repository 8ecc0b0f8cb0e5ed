"""Queries: each takes a connection, and the names of the contract. They run in the reading threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.model import ApiKey, File, Interrupt, Message, Run, Segment, Status, Step, Thread
from holdfast.store.base import Growth, IdempotencyRow, InboxRow, Limits, Lost, OutboxRow, RunQuery
from holdfast.store.sql import statements
from holdfast.store.sqlite import rows
from holdfast.store.sqlite.connection import Connection

# Short segments are many: a page of them is one row of the driver, but not an endless one.
PAGE_SEGMENTS_MAX: Final = 256


def _with_columns(texts: Mapping[str, str]) -> dict[str, str]:
    filled = {}
    for name, text in texts.items():
        filled[name] = text
        for columns in ("run", "interrupt", "thread"):
            filled[name] = filled[name].replace(f"{{{columns}}}", texts[f"{columns}_columns"])
    return filled


SQL: Final = _with_columns(statements("sqlite", "reads"))


# ── runs and journals ───────────────────────────────────────────────────────────────────────────────────────────


def run(connection: Connection, tenant: str, run_id: str) -> Run | None:
    row = connection.execute(SQL["run_by_id"], (tenant, run_id)).fetchone()
    return None if row is None else rows.run_of(row)


def run_by_number(connection: Connection, number: int) -> Run | None:
    row = connection.execute(SQL["run_by_number"], (number,)).fetchone()
    return None if row is None else rows.run_of(row)


def runs_by_number(connection: Connection, numbers: Sequence[int]) -> list[Run]:
    """In the order of the numbers."""
    return [rows.run_of(row) for row in connection.execute(SQL["runs_by_number"], (rows.json_text(numbers),))]


def runs(connection: Connection, query: RunQuery) -> list[Run]:
    where, values = _where(query)
    text = SQL["runs"].replace("{where}", where)
    return [rows.run_of(row) for row in connection.execute(text, (*values, query.limit, query.offset))]


def count_runs(connection: Connection, query: RunQuery) -> dict[tuple[str, Status], int]:
    where, values = _where(query)
    found = connection.execute(SQL["count_runs"].replace("{where}", where), values)
    return {(agent, Status(status)): count for agent, status, count in found}


def _where(query: RunQuery) -> tuple[str, list[Any]]:
    """The condition of a query, and its parameters."""
    conditions: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("r.tenant = ?", query.tenant),
        ("r.agent = ?", query.agent),
        ("r.thread_id = ?", query.thread_id),
        ("r.parent = ?", query.parent),
        ("r.created_at > ?", query.created_after),
        ("r.created_at < ?", query.created_before),
        ("r.number < ?", query.before),
        ("r.caller = ?", query.caller),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.shown_thread is not None:
        conditions.append("(r.thread_id = ? OR (r.thread_id IS NULL AND r.run_id = ?))")
        values += (query.shown_thread, query.shown_thread)
    if query.statuses:
        # As text: only so can the index of the active runs be used. They are words of ours.
        words = ", ".join(repr(Status(status).value) for status in query.statuses)
        conditions.append(f"r.status IN ({words})")
        if not any(status.is_final for status in query.statuses):
            conditions.append("r.status IN ('queued', 'running', 'waiting')")
    if query.agent_prefixes:
        conditions.append(f"({' OR '.join(['substr(r.agent, 1, length(?)) = ?'] * len(query.agent_prefixes))})")
        values += [prefix for prefix in query.agent_prefixes for _ in range(2)]
    if query.asks_person is not None:
        asking = SQL["asks_person"]
        conditions.append(f"{'' if query.asks_person else 'NOT '}EXISTS ({asking})")
    return " AND ".join(conditions) or "true", values


def counts(connection: Connection) -> dict[Status, int]:
    found = dict.fromkeys((Status.QUEUED, Status.RUNNING, Status.WAITING), 0)
    found |= {Status(status): count for status, count in connection.execute(SQL["counts"])}
    return found


def unserved(connection: Connection, agents: Sequence[str], queued_before: int) -> list[Run]:
    found = connection.execute(SQL["unserved"], (queued_before, rows.json_text(agents)))
    return [rows.run_of(row) for row in found]


def segments(connection: Connection, number: int, after: int, bytes_max: int) -> list[Segment]:
    given = {"number": number, "after": after, "bytes_max": bytes_max, "limit": PAGE_SEGMENTS_MAX}
    return _page(connection, "segments", given)


def segments_by_time(
    connection: Connection, tenant: str, after: int, begun_after: int, bytes_max: int
) -> list[Segment]:
    given = {
        "tenant": tenant,
        "after": after,
        "begun_after": begun_after,
        "bytes_max": bytes_max,
        "limit": PAGE_SEGMENTS_MAX,
    }
    return _page(connection, "segments_by_time", given)


def segments_of_thread(
    connection: Connection, tenant: str, thread_id: str, after: int, bytes_max: int
) -> list[Segment]:
    """The runs of a thread follow each other, so their segments in the order of runs are in the order of time."""
    page: list[Segment] = []
    size = 0
    found: list[tuple[int, int, int]]
    found = connection.execute(SQL["thread_runs_after"], (tenant, thread_id, after)).fetchall()  # type: ignore[assignment]
    for number, first, tail in found:
        start = _last_before(connection, number, first, tail, after)
        while start < tail:
            more = segments(connection, number, start, bytes_max - size)
            if not more or (page and size + len(more[0].body) > bytes_max):
                return page
            page += more
            size += sum(len(segment.body) for segment in more)
            start = more[-1].last
            if size >= bytes_max or len(page) >= PAGE_SEGMENTS_MAX:
                return page
    return page


def _last_before(connection: Connection, number: int, first: int, tail: int, after: int) -> int:
    """The last sequence of the last segment without events younger than `after`; bisects, for segments are many."""
    low, high = first - 1, tail  # everything up to `low` is old, and `high` is younger
    while low < high:
        found = connection.execute(SQL["segment_around"], (number, (low + high + 1) // 2)).fetchone()
        if found is None or found[1] <= low:
            break
        segment_first, segment_last, timestamp = found
        if timestamp <= after:
            low = segment_last
        elif high == segment_first - 1:
            break
        else:
            high = segment_first - 1
    return low


def lost(connection: Connection, tenant: str, thread_id: str | None) -> Lost:
    until = connection.execute(SQL["pruned_until"], {"tenant": tenant, "thread_id": thread_id}).get
    return Lost(until, rows.rollbacks_of(connection.execute(SQL["meta"], ("rollbacks",)).get))


def marks(connection: Connection, number: int) -> list[Segment]:
    facts, _ = connection.execute(SQL["marks"], (number,)).get
    return rows.segments_of(facts, None)


def _page(connection: Connection, name: str, given: dict[str, Any]) -> list[Segment]:
    facts, bodies = connection.execute(SQL[name], given).get
    return rows.segments_of(facts, bodies)


def tails(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[int, Status]]:
    found = connection.execute(SQL["tails"], (rows.json_text(numbers),))
    return {number: (tail, Status(status)) for number, tail, status in found}


def growth(connection: Connection, after: Mapping[int, int], bytes_max: int) -> dict[int, Growth]:
    found: dict[int, Growth] = {}
    for number, (last, status) in tails(connection, list(after)).items():
        if last > after[number] or status.is_final:
            grown = segments(connection, number, after[number], bytes_max) if last > after[number] else []
            if sum(len(segment.body) for segment in grown) > bytes_max:
                grown = []
            bytes_max -= sum(len(segment.body) for segment in grown)
            found[number] = Growth(last, status.is_final, grown)
    return found


def steps(connection: Connection, number: int) -> list[Step]:
    return [rows.step_of(row) for row in connection.execute(SQL["steps"], (number,))]


# ── interrupts and facts from outside ───────────────────────────────────────────────────────────────────────────


def interrupts(connection: Connection, number: int) -> list[Interrupt]:
    return rows.interrupts_of(connection.execute(SQL["interrupts"], (number,)))


def pending(connection: Connection, tenant: str, thread_id: str | None, limit: int) -> list[Interrupt]:
    given = {"tenant": tenant, "thread_id": thread_id, "limit": limit}
    return rows.interrupts_of(connection.execute(SQL["pending"], given))


def last_resolved(connection: Connection, tenant: str, thread_id: str) -> Interrupt | None:
    found = rows.interrupts_of(connection.execute(SQL["last_resolved"], (tenant, thread_id)))
    return found[0] if found else None


def due(connection: Connection, now: int, limit: int) -> list[Interrupt]:
    return rows.interrupts_of(connection.execute(SQL["due"], (now, limit)))


def inbox(connection: Connection, numbers: Sequence[int]) -> list[InboxRow]:
    return [rows.inbox_row_of(row) for row in connection.execute(SQL["inbox"], (rows.json_text(numbers),))]


def claimable(
    connection: Connection, owner: str, agents: Sequence[str], limit: int, clock: float, limits: Limits
) -> list[int]:
    """The numbers of runs that `owner` may take, in the order in which it should."""
    given = {
        "owner": owner,
        # Each once, for a run is found as often as its agent is named.
        "agents": rows.json_text([(name, limits.agent_runs_max.get(name)) for name in dict.fromkeys(agents)]),
        "tenant_most": limits.tenant_runs_max,
        "limit": limit,
        "clock": clock,
    }
    return [number for (number,) in connection.execute(statements("sqlite", "writes")["claimable"], given)]


def disownable(connection: Connection, owner: str, held: Sequence[int], clock: float) -> list[int]:
    """The numbers of runs that are in the name of `owner`, whose lease ran out and of which it does not know."""
    given = {"owner": owner, "held": rows.json_text(held), "clock": clock}
    return [number for (number,) in connection.execute(statements("sqlite", "writes")["disownable"], given)]


# ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def thread(connection: Connection, tenant: str, thread_id: str) -> Thread | None:
    row = connection.execute(SQL["thread"], (tenant, thread_id)).fetchone()
    return None if row is None else rows.thread_of(row)


def threads(connection: Connection, tenant: str, before: tuple[int, str] | None, limit: int) -> list[Thread]:
    updated_at, thread_id = before or (None, None)
    given = {"tenant": tenant, "updated_at": updated_at, "thread_id": thread_id, "limit": limit}
    return [rows.thread_of(row) for row in connection.execute(SQL["threads"], given)]


def messages(
    connection: Connection, tenant: str, thread_id: str, after: int, limit: int | None, superseded: bool
) -> list[Message]:
    given = {
        "tenant": tenant,
        "thread_id": thread_id,
        "superseded": superseded,
        "limit": -1 if limit is None else limit,
        "after": after,
    }
    return [rows.message_of(row) for row in connection.execute(SQL["messages"], given)]


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────


def idempotency(
    connection: Connection, tenant: str, method: str, path: str, key: str, now: int
) -> IdempotencyRow | None:
    row = connection.execute(SQL["idempotency"], (tenant, method, path, key, now)).fetchone()
    return None if row is None else rows.idempotency_of(row)


def keys(connection: Connection) -> list[ApiKey]:
    return [rows.key_of(row) for row in connection.execute(SQL["keys"])]


def file(connection: Connection, tenant: str, file_id: str) -> File | None:
    row = connection.execute(SQL["file"], (tenant, file_id)).fetchone()
    return None if row is None else rows.file_of(row)


def outbox(connection: Connection, limit: int) -> list[OutboxRow]:
    return [rows.outbox_row_of(row) for row in connection.execute(SQL["outbox"], (limit,))]
