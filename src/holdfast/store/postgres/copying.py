"""A store on Postgres as one end of a copy (store/copy.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from holdfast.errors import StoreRefused
from holdfast.store.copy import TABLES, Row, State, Table
from holdfast.store.postgres import schema
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.store import PostgresStore
from holdfast.store.sql import statements

SQL: Final = statements("postgres", "copying")
READS: Final = statements("postgres", "reads")
CHANGES: Final = statements("postgres", "changes")

PAGE_SECONDS: Final = 120.0


class PostgresEnd:
    """Reads and writes the tables of an open store."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store

    async def state(self) -> State:
        info = await self.store.info()
        row = await self._fetch_row(SQL["state"])
        return State(store_id=info.store_id, last_timestamp=info.last_timestamp, **dict(zip(_STATE, row, strict=True)))

    async def check_idle(self) -> None:
        (others,) = await self._fetch_row(SQL["others"], self.store.process)
        if others:
            raise StoreRefused(
                f"{others} other processes have the database open; stop them first, or wait 10 s after a crash"
            )

    async def page(self, table: Table, after: Row | None) -> list[Row]:
        key = ", ".join(f'"{name}"' for name in table.key)
        columns = ", ".join(f'"{name}"' for name in table.columns)
        places = ", ".join(f"${place}" for place in range(2, 2 + len(table.key)))
        where = "" if after is None else f"WHERE ({key}) > ({places})"
        text = f'SELECT {key}, {columns} FROM holdfast."{table.name}" {where} ORDER BY {key} LIMIT $1'

        async def page(connection: Connection) -> list[Row]:
            async with connection.transaction(readonly=True):
                found = await connection.fetch(text, table.rows_max, *(after or ()), timeout=PAGE_SECONDS)
            return [tuple(row) for row in found]

        return await self.store.on_connection(page)

    async def begin(self) -> None:
        for table in TABLES:
            (has_rows,) = await self._fetch_row(f'SELECT EXISTS (SELECT 1 FROM holdfast."{table.name}")')
            if has_rows:
                raise StoreRefused("the target of a copy has to be an empty store; this one is not")
        await self._set_meta({schema.UNFINISHED_KEY: "1"})

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        columns = ", ".join(f'"{name}"' for name in table.columns)
        values = ", ".join(
            f"${place}::integer::boolean" if name in table.booleans else f"${place}"
            for place, name in enumerate(table.columns, 1)
        )
        text = f'INSERT INTO holdfast."{table.name}" ({columns}) VALUES ({values})'
        tries = 0

        async def put(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            if tries > 1:  # they may be there already; nobody can tell
                raise StoreRefused("the connection was lost; delete the target and copy again")
            async with connection.transaction():
                await connection.executemany(text, rows, timeout=PAGE_SECONDS)

        await self.store.on_connection(put)

    async def finish(self, state: State) -> None:
        if state.last_number:
            await self._fetch_row(SQL["set_number"], state.last_number)
        known = {
            "store_id": state.store_id,
            "newest": str(state.last_timestamp),
            "span_max": str(state.span_max),
        }
        if state.rollbacks is not None:
            known["rollbacks"] = state.rollbacks
        await self._set_meta(known)
        await self._fetch_row(SQL["finished"], schema.UNFINISHED_KEY)

    async def _fetch_row(self, text: str, *values: object) -> Row:
        async def fetch(connection: Connection) -> Row:
            async with connection.transaction():
                row = await connection.fetchrow(text, *values)
            return () if row is None else tuple(row)

        return await self.store.on_connection(fetch)

    async def _set_meta(self, values: dict[str, str]) -> None:
        async def set_meta(connection: Connection) -> None:
            async with connection.transaction():
                for key, value in values.items():
                    await connection.execute(CHANGES["set_meta"], key, value)

        await self.store.on_connection(set_meta)


_STATE: Final = ("last_number", "span_max", "rollbacks")
