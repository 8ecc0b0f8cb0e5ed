"""
What the assistant remembers, in the embedded store. The contract, and what scores mean, are in store/memory.py.

The index of words (FTS5) chooses candidates by its own BM25; these are scored exactly, from their words. It knows no
tenants: the words of a store are looked up together with its `scope`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from holdfast.errors import MemoryItemNotFound
from holdfast.store.memory import (
    CANDIDATES_MIN,
    RECENT_ITEMS,
    Everything,
    Found,
    MemoryItem,
    Merged,
    Nearest,
    Sizes,
    Soul,
    most_alike,
    scope_of,
    scored,
)
from holdfast.store.sql import statements
from holdfast.store.sqlite.connection import Connection
from holdfast.store.sqlite.readers import one_state
from holdfast.store.sqlite.rows import json_text

T = TypeVar("T")

Do = Callable[[Callable[[Connection], Any]], Awaitable[Any]]

_COLUMNS: Final = (
    "tenant, store, item_id, fields, words, source, confidence, created_at, updated_at, valid_from, valid_until, "
    "from_id, to_id, task_id, vector, vector_bits, vector_model"
)
_NAMES: Final = tuple(_COLUMNS.split(", "))
SQL: Final = {name: text.replace("{columns}", _COLUMNS) for name, text in statements("sqlite", "memory").items()}

# Behind every (created_at, item_id): no text is greater than this one.
_END: Final = (2**63 - 1, "\U0010ffff")


class SQLiteMemory:
    """`read` runs something in a reading thread, `change` in a transaction of the writing one."""

    def __init__(self, read: Do, change: Do) -> None:
        self._read, self._change = read, change

    async def put(self, *items: MemoryItem) -> list[bool]:
        found: list[bool] = await self._change(lambda connection: put(connection, items))
        return found

    async def add(self, item: MemoryItem) -> bool:
        return bool(await self._change(lambda connection: _add(connection, item)))

    async def merge(self, items: Sequence[MemoryItem]) -> list[Merged]:
        found: list[Merged] = await self._change(lambda connection: [_merge(connection, item) for item in items])
        return found

    async def item(self, tenant: str, store: str, item_id: str) -> MemoryItem | None:
        found = await self._items("item", tenant, store, item_id)
        return found[0] if found else None

    async def items(
        self,
        tenant: str,
        store: str,
        *,
        task_id: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> list[MemoryItem]:
        place = (tenant, store, *(before or _END), limit)
        return (
            await self._items("items", *place)
            if task_id is None
            else await self._items("items_of_task", task_id, *place)
        )

    async def delete(self, tenant: str, store: str, item_id: str) -> bool:
        return bool(await self._change(lambda connection: _delete(connection, tenant, store, item_id)))

    async def search(self, tenant: str, store: str, words: Sequence[str], *, now: int, limit: int) -> list[Found]:
        found: list[Found] = await self._read(lambda connection: search(connection, tenant, store, words, now, limit))
        return found

    async def nearest(self, tenant: str, store: str, asked: Nearest, *, now: int, limit: int) -> list[Found]:
        found: list[Found] = await self._read(lambda connection: nearest(connection, tenant, store, asked, now, limit))
        return found

    async def everything(self, tenant: str) -> Everything:
        def read(connection: Connection) -> Everything:
            with one_state(connection):
                items = _items(connection, "everything", (tenant,))
                return Everything(items, _souls(connection, tenant, -1)[::-1])

        found: Everything = await self._read(read)
        return found

    async def souls(self, tenant: str, *, limit: int) -> list[Soul]:
        found: list[Soul] = await self._read(lambda connection: _souls(connection, tenant, limit))
        return found

    async def put_soul(self, soul: Soul) -> bool:
        values = (soul.tenant, soul.version, soul.body, soul.caller, soul.created_at)

        def write(connection: Connection) -> bool:
            connection.execute(SQL["put_soul"], values)
            return connection.changes() == 1

        return bool(await self._change(write))

    async def working(self, tenant: str, thread_id: str) -> Mapping[str, bytes]:
        rows = await self._read(lambda connection: connection.execute(SQL["working"], (tenant, thread_id)).fetchall())
        return {key: value for key, value in rows if value is not None}

    async def put_working(
        self, tenant: str, thread_id: str, *, number: int, key: str, value: bytes | None, now: int
    ) -> None:
        def write(connection: Connection) -> None:
            own = connection.execute(SQL["own_working"], (tenant, thread_id, key, number)).fetchone()
            if own is None or own[0] != value:
                connection.execute(SQL["put_working"], (tenant, thread_id, number, key, value, now))

        await self._change(write)

    async def _items(self, statement: str, *values: Any) -> list[MemoryItem]:
        found: list[MemoryItem] = await self._read(lambda connection: _items(connection, statement, values))
        return found


def put(connection: Connection, items: Sequence[MemoryItem]) -> list[bool]:
    """Keep items; the ends of edges are looked for before anything is written."""
    given = {item.item_id for item in items if item.store == "social" and item.from_id is None}
    for item in items:
        for name, end in (("from", item.from_id), ("to", item.to_id)):
            if end is None or end in given:
                continue
            if not connection.execute(SQL["is_node"], (item.tenant, end)).get:
                raise MemoryItemNotFound(f"{name}: there is no node {end!r}", field=name)
    return [_put(connection, item) for item in items]


def _put(connection: Connection, item: MemoryItem) -> bool:
    key = (item.tenant, item.store, item.item_id)
    known = connection.execute(SQL["known"], key).fetchone()
    if known is not None:
        connection.execute(SQL["delete"], key)
    values = {name: getattr(item, name) for name in _NAMES}
    if known is not None:
        values["created_at"] = known[0]
    fields = list(values.values())
    fields.insert(_NAMES.index("words"), item.scope)
    connection.execute(SQL["put"], fields)
    return known is None


def _add(connection: Connection, item: MemoryItem) -> bool:
    known = connection.execute(SQL["known"], (item.tenant, item.store, item.item_id)).fetchone()
    return known is None and _put(connection, item)


def _merge(connection: Connection, item: MemoryItem) -> Merged:
    known = connection.execute(SQL["known"], (item.tenant, item.store, item.item_id)).fetchone()
    if known is not None and known[1] >= item.updated_at:
        return "unchanged"
    return "added" if _put(connection, item) else "updated"


def _delete(connection: Connection, tenant: str, store: str, item_id: str) -> bool:
    connection.execute(SQL["delete"], (tenant, store, item_id))
    if not connection.changes():
        return False
    if store == "social":
        connection.execute(SQL["delete_edges"], {"tenant": tenant, "node": item_id})
    return True


def search(connection: Connection, tenant: str, store: str, words: Sequence[str], now: int, limit: int) -> list[Found]:
    """The rarer words first, the common ones only where those find too little."""
    if not words:
        return []
    with one_state(connection):
        having = {word: connection.execute(SQL["having"], (word,)).get for word in words}
        items, length, of_all = connection.execute(SQL["size"], (scope_of(tenant, store),)).get
        sizes = Sizes(items, length, having)
        look = _Look(connection, tenant, store, now, limit, is_most=2 * items >= of_all)
        rare = sizes.rare()
        candidates = look.candidates(rare, behind=0) if rare else {}
        if len(candidates) < limit and len(rare) < len(words):
            behind = connection.execute(SQL["recent"], (tenant, store, RECENT_ITEMS)).get
            candidates |= look.candidates(words, behind=behind)
    return scored(list(candidates.values()), words, sizes, limit)


class _Look(msgspec.Struct, frozen=True):
    """One search of the index. `is_most`: most of what is indexed is of this store."""

    connection: Connection
    tenant: str
    store: str
    now: int
    limit: int
    is_most: bool

    def candidates(self, words: Sequence[str], *, behind: int) -> dict[str, MemoryItem]:
        either = " OR ".join(f'"{word}"' for word in words)
        within = f'scope : "{scope_of(self.tenant, self.store)}" AND words : ({either})'
        # To look up the name of a store costs as much as the store is big. Where most is of this one, the best of all
        # are mostly its own, and it need not be looked up.
        queries = [f"words : ({either})", within] if self.is_most else [within]
        size = max(4 * self.limit, CANDIDATES_MIN)
        while True:
            given = {
                "query": queries[0],
                "behind": behind,
                "limit": size,
                "now": self.now,
                "tenant": self.tenant,
                "store": self.store,
            }
            found = {item.item_id: item for item in _items(self.connection, "search", given)}
            # What is out of its time, or another's, was counted among the best; mostly there is none.
            if len(found) >= self.limit or self.connection.execute(SQL["matched"], given).get <= size:
                return found
            if len(queries) > 1:
                queries.pop(0)
            else:
                size *= 10


def nearest(connection: Connection, tenant: str, store: str, asked: Nearest, now: int, limit: int) -> list[Found]:
    """By the signs of the vectors first, which is quick; then the best of these exactly."""
    wanted = int.from_bytes(asked.bits, "big")
    with one_state(connection):
        rows = connection.execute(SQL["nearest"], (tenant, store, asked.model, now, now))
        near = sorted(((int.from_bytes(bits, "big") ^ wanted).bit_count(), row) for row, bits in rows)
        chosen = [row for _, row in near[: max(4 * limit, CANDIDATES_MIN)]]
        found = connection.execute(SQL["items_by_row"], (json_text(chosen),)).fetchall()
    return most_alike([_item(row[1:]) for row in found], asked, limit)


def _items(connection: Connection, statement: str, values: Any) -> list[MemoryItem]:
    return [_item(row) for row in connection.execute(SQL[statement], values)]


def _item(row: Sequence[Any]) -> MemoryItem:
    return MemoryItem(**dict(zip(_NAMES, row, strict=True)))


def _souls(connection: Connection, tenant: str, limit: int) -> list[Soul]:
    rows = connection.execute(SQL["souls"], (tenant, limit))
    return [
        Soul(tenant=str(tenant), version=version, body=body, caller=caller, created_at=created_at)
        for tenant, version, body, caller, created_at in rows
    ]
