"""Records and deliveries on SQLite. Reads and changes run in the threads of the store, as all others do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from holdfast.model import Delivery, Record
from holdfast.store.base import OutboxRow
from holdfast.store.sql import statements
from holdfast.store.sqlite import changes
from holdfast.store.sqlite.connection import Connection
from holdfast.store.sqlite.rows import json_text

SQL: Final = statements("sqlite", "records")

# Kinds of records that the outbox is filled for.
ENDPOINTS: Final = ("endpoint", "run_endpoint")

T = TypeVar("T")


class SQLiteRecords:
    """The part of `SQLiteStore` that keeps `Records`."""

    _expect_endpoints: Callable[[], None]
    _change: Callable[..., Awaitable[Any]]
    _read: Callable[..., Awaitable[Any]]

    async def put_records(self, records: Sequence[Record]) -> None:
        if any(record.kind in ENDPOINTS for record in records):
            self._expect_endpoints()
        await self._change(_put_records, records)

    async def record(self, tenant: str, kind: str, name: str) -> Record | None:
        found: list[Record] = await self._read(_select, record_of, "record", (kind, tenant, name))
        return found[0] if found else None

    async def records(self, kind: str, *, tenant: str | None = None, number: int | None = None) -> list[Record]:
        given = {"kind": kind, "tenant": tenant, "number": number}
        found: list[Record] = await self._read(_select, record_of, "records", given)
        return found

    async def swap_record(self, record: Record, before: bytes) -> bool:
        given = (record.number, record.body, record.updated_at, record.kind, record.tenant, record.name, before)
        return bool(await self._change(_execute, "swap_record", given))

    async def delete_record(self, tenant: str, kind: str, name: str) -> bool:
        return bool(await self._change(_execute, "delete_record", (kind, tenant, name)))

    async def attach_files(self, tenant: str, file_ids: Sequence[str], number: int) -> None:
        given = {"tenant": tenant, "file_ids": json_text(file_ids), "number": number}
        await self._change(_execute, "attach_files", given)

    async def prune_loose(self, kind: str, before: int) -> int:
        return int(await self._change(_execute, "prune_loose", (kind, before)))

    async def deliver(self, deliveries: Sequence[Delivery], taken: Sequence[OutboxRow]) -> None:
        await self._change(_deliver, deliveries, taken)

    async def take_deliveries(self, *, now: int, until: int, limit: int, endpoint_max: int) -> list[Delivery]:
        # Mostly there is nothing, and a look costs no sync.
        endpoints: list[str] = await self._read(_due_endpoints, now)
        if not endpoints:
            return []
        found: list[Delivery] = await self._change(_take, endpoints, now, until, limit, endpoint_max)
        return sorted(found, key=lambda delivery: (delivery.next_attempt_at or 0, delivery.created_at))

    async def keep_deliveries(self, delivery_ids: Sequence[str], until: int) -> None:
        await self._change(_execute, "keep_deliveries", (until, json_text(delivery_ids)))

    async def put_delivery(self, delivery: Delivery, *, due: int | None = None) -> None:
        names = ("delivery_id", "status", "attempts", "tries", "next_attempt_at")
        given = {name: getattr(delivery, name) for name in names} | {"due": due}
        await self._change(_execute, "put_delivery", given)

    async def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        number: int | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        given = {"endpoint_id": endpoint_id, "status": status, "number": number, "before": before, "limit": limit}
        found: list[Delivery] = await self._read(_select, delivery_of, "deliveries", given)
        return found

    async def replay_deliveries(
        self,
        endpoint_id: str,
        *,
        now: int,
        event_ids: Sequence[str] | None = None,
        status: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> int:
        given = {
            "endpoint_id": endpoint_id,
            "now": now,
            "event_ids": None if event_ids is None else json_text(event_ids),
            "status": status,
            "since": since,
            "until": until,
        }
        return int(await self._change(_execute, "replay_deliveries", given))

    async def hold_deliveries(self, endpoint_id: str) -> int:
        return int(await self._change(_execute, "hold_deliveries", (endpoint_id,)))

    async def prune_deliveries(self, before: int) -> int:
        return int(await self._change(_execute, "prune_deliveries", (before,)))


def record_of(row: Sequence[Any]) -> Record:
    kind, tenant, name, number, body, created_at, updated_at = row
    return Record(
        kind=kind,
        tenant=tenant,
        name=name,
        number=number,
        body=body,
        created_at=created_at,
        updated_at=updated_at,
    )


def delivery_of(row: Sequence[Any]) -> Delivery:
    names = (
        *("delivery_id", "endpoint_id", "tenant", "event_id", "type", "number", "sequence", "status", "body"),
        *("attempts", "tries", "next_attempt_at", "created_at"),
    )
    return Delivery(**dict(zip(names, row, strict=True)))


def _put_records(connection: Connection, records: Sequence[Record]) -> None:
    for record in records:
        connection.execute(
            SQL["put_record"],
            (
                record.kind,
                record.tenant,
                record.name,
                record.number,
                record.body,
                record.created_at,
                record.updated_at,
            ),
        )


def _deliver(connection: Connection, deliveries: Sequence[Delivery], taken: Sequence[OutboxRow]) -> None:
    for delivery in deliveries:
        connection.execute(SQL["put_new_delivery"], msgspec.structs.astuple(delivery))
    changes.outbox_done(connection, taken)


def _due_endpoints(connection: Connection, now: int) -> list[str]:
    return [endpoint_id for (endpoint_id,) in connection.execute(SQL["due_endpoints"], {"now": now})]


def _take(
    connection: Connection, endpoints: Sequence[str], now: int, until: int, limit: int, endpoint_max: int
) -> list[Delivery]:
    taken: list[Delivery] = []
    for endpoint_id in endpoints:
        room = min(limit - len(taken), endpoint_max)
        if room <= 0:
            break
        given = {"endpoint_id": endpoint_id, "now": now, "until": until, "limit": room, "endpoint_max": endpoint_max}
        taken += _select(connection, delivery_of, "take_deliveries", given)
    return taken


def _execute(connection: Connection, name: str, given: Any) -> int:
    """How many rows it changed."""
    connection.execute(SQL[name], given)
    return connection.changes()


def _select(connection: Connection, struct_of: Callable[[Sequence[Any]], T], name: str, given: Any) -> list[T]:
    return [struct_of(row) for row in connection.execute(SQL[name], given)]
