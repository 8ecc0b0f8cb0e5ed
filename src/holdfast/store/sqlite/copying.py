"""An embedded store as one end of a copy (store/copy.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from holdfast.errors import StoreRefused
from holdfast.store.copy import TABLES, Row, State, Table
from holdfast.store.sqlite import schema
from holdfast.store.sqlite.connection import Connection
from holdfast.store.sqlite.store import SQLiteStore

T = TypeVar("T")


class SQLiteEnd:
    """Reads and writes the tables of an open store."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store

    async def state(self) -> State:
        info = await self.store.info()

        def look(connection: Connection) -> State:
            number = connection.execute("SELECT max(coalesce(max(number), 0), ?) FROM runs", (_known(connection),)).get
            return State(
                store_id=info.store_id,
                last_number=number,
                last_timestamp=info.last_timestamp,
                span_max=int(schema.get_meta(connection, "span_max") or 0),
                rollbacks=schema.get_meta(connection, "rollbacks"),
            )

        return await self._read(look)

    async def check_idle(self) -> None:
        """An open embedded store is ours alone."""

    async def page(self, table: Table, after: Row | None) -> list[Row]:
        key = ", ".join(f'"{name}"' for name in table.key)
        columns = ", ".join(f'"{name}"' for name in table.columns)
        where = "" if after is None else f"WHERE ({key}) > ({', '.join('?' * len(table.key))})"
        text = f'SELECT {key}, {columns} FROM "{table.name}" {where} ORDER BY {key} LIMIT ?'
        return await self._read(
            lambda connection: connection.execute(text, (*(after or ()), table.rows_max)).fetchall()
        )

    async def begin(self) -> None:
        def begin(connection: Connection) -> None:
            for table in TABLES:
                if connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{table.name}")').get:
                    raise StoreRefused("the target of a copy has to be an empty store; this one is not")
            schema.set_meta(connection, "is_unfinished", 1)

        await self._write(begin)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        columns = ", ".join(f'"{name}"' for name in table.columns)
        text = f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(table.columns))})'

        def put(connection: Connection) -> None:
            connection.executemany(text, rows)

        await self._write(put)

    async def finish(self, state: State) -> None:
        def finish(connection: Connection) -> None:
            for key, value in (
                ("store_id", state.store_id),
                ("last_number", state.last_number),
                ("last_timestamp", state.last_timestamp),
                ("span_max", state.span_max),
                ("rollbacks", state.rollbacks),
                ("is_unfinished", 0),
            ):
                schema.set_meta(connection, key, value)

        await self._write(finish)

    async def _read(self, query: Callable[[Connection], T]) -> T:
        return await self.store._read(query)

    async def _write(self, change: Callable[[Connection], None]) -> None:
        await self.store._change(change)


def _known(connection: Connection) -> int:
    return int(schema.get_meta(connection, "last_number") or 0)
