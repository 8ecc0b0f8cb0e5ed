"""Records and deliveries on Postgres."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from holdfast.model import Delivery, Record
from holdfast.store.base import OutboxRow
from holdfast.store.postgres.connection import Connection
from holdfast.store.sql import statements

SQL: Final = statements("postgres", "records")
CHANGE: Final = statements("postgres", "changes")


class PostgresRecords:
    """The part of `PostgresStore` that keeps `Records`."""

    _fetch: Callable[..., Awaitable[list[Any]]]
    on_connection: Callable[..., Awaitable[Any]]

    async def put_records(self, records: Sequence[Record]) -> None:
        if not records:
            return
        names = ("kind", "tenant", "name", "number", "body", "created_at", "updated_at")
        await self._fetch(SQL["put_records"], *([getattr(record, name) for record in records] for name in names))

    async def record(self, tenant: str, kind: str, name: str) -> Record | None:
        found = await self._fetch(SQL["record"], kind, tenant, name)
        return Record(**found[0]) if found else None

    async def records(self, kind: str, *, tenant: str | None = None, number: int | None = None) -> list[Record]:
        return [Record(**row) for row in await self._fetch(SQL["records"], kind, tenant, number)]

    async def swap_record(self, record: Record, before: bytes) -> bool:
        given = (record.number, record.body, record.updated_at, record.kind, record.tenant, record.name)
        tries = 0

        async def swap(connection: Connection) -> bool:
            nonlocal tries
            tries += 1
            if await connection.fetch(SQL["swap_record"], *given, before):
                return True
            # At a second try the first one may have done it, and its reply was lost.
            found = await connection.fetch(SQL["record"], record.kind, record.tenant, record.name)
            return tries > 1 and bool(found) and found[0]["body"] == record.body

        return bool(await self.on_connection(swap))

    async def delete_record(self, tenant: str, kind: str, name: str) -> bool:
        tries = 0

        async def delete(connection: Connection) -> bool:
            nonlocal tries
            tries += 1
            # Not there at a second try: the first one deleted it, and its reply was lost.
            return bool(await connection.fetch(SQL["delete_record"], kind, tenant, name)) or tries > 1

        return bool(await self.on_connection(delete))

    async def attach_files(self, tenant: str, file_ids: Sequence[str], number: int) -> None:
        await self._fetch(SQL["attach_files"], tenant, list(file_ids), number)

    async def prune_loose(self, kind: str, before: int) -> int:
        return len(await self._fetch(SQL["prune_loose"], kind, before))

    async def deliver(self, deliveries: Sequence[Delivery], taken: Sequence[OutboxRow]) -> None:
        columns = [msgspec.structs.astuple(delivery) for delivery in deliveries]
        rows = [[row[place] for row in columns] for place in range(len(Delivery.__struct_fields__))]
        done = ([row.number for row in taken], [row.sequence for row in taken], [row.endpoint_id for row in taken])

        async def deliver(connection: Connection) -> None:
            async with connection.transaction():
                if deliveries:
                    await connection.execute(SQL["put_new_deliveries"], *rows)
                await connection.execute(CHANGE["outbox_done"], *done)

        await self.on_connection(deliver)

    async def take_deliveries(self, *, now: int, until: int, limit: int, endpoint_max: int) -> list[Delivery]:
        # Mostly there is nothing, and nobody waits for a look.
        if not (await self._fetch(SQL["is_due"], now))[0][0]:
            return []

        async def take(connection: Connection) -> list[Any]:
            async with connection.transaction():
                await connection.execute(SQL["take_lock"])
                return list(await connection.fetch(SQL["take_deliveries"], now, until, limit, endpoint_max))

        found = [Delivery(**row) for row in await self.on_connection(take)]
        return sorted(found, key=lambda delivery: (delivery.next_attempt_at or 0, delivery.created_at))

    async def keep_deliveries(self, delivery_ids: Sequence[str], until: int) -> None:
        await self._fetch(SQL["keep_deliveries"], until, list(delivery_ids))

    async def put_delivery(self, delivery: Delivery, *, due: int | None = None) -> None:
        names = ("delivery_id", "status", "attempts", "tries", "next_attempt_at")
        await self._fetch(SQL["put_delivery"], *(getattr(delivery, name) for name in names), due)

    async def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        number: int | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        found = await self._fetch(SQL["deliveries"], endpoint_id, status, number, before, limit)
        return [Delivery(**row) for row in found]

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
        given = None if event_ids is None else list(event_ids)
        return len(await self._fetch(SQL["replay_deliveries"], endpoint_id, now, given, status, since, until))

    async def hold_deliveries(self, endpoint_id: str) -> int:
        return len(await self._fetch(SQL["hold_deliveries"], endpoint_id))

    async def prune_deliveries(self, before: int) -> int:
        found = await self._fetch(SQL["prune_deliveries"], before)
        return int(found[0][0])
