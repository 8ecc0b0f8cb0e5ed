"""
What the assistant remembers, on Postgres. The contract, and what scores mean, are in store/memory.py.

The index of words (GIN) chooses candidates by which words they have; these are scored exactly, from their words. The
name of the store is a word of each item, so that the index looks at no other tenant's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from holdfast.errors import MemoryItemNotFound
from holdfast.store.memory import (
    CANDIDATES_MIN,
    COMMON_ITEMS,
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
from holdfast.store.postgres.connection import Connection, Record
from holdfast.store.sql import statements

Work = Callable[[Connection], Awaitable[Any]]
WorkOnce = Callable[[Connection, bool], Awaitable[Any]]

_NAMES: Final = tuple(name for name in MemoryItem.__struct_fields__)
_COLUMNS: Final = ", ".join(_NAMES)
SQL: Final = {name: text.replace("{columns}", _COLUMNS) for name, text in statements("postgres", "memory").items()}

# Of the newest items, so many tell which words are common.
SAMPLE_ITEMS: Final = 500

# All of a tenant may be hundreds of megabytes.
EVERYTHING_SECONDS: Final = 300.0


class PostgresMemory:
    """
    `on_connection` does something that may be done twice; `once` does it in one transaction, told whether it may have
    happened before.
    """

    def __init__(
        self, on_connection: Callable[[Work], Awaitable[Any]], once: Callable[[WorkOnce], Awaitable[Any]]
    ) -> None:
        self._on_connection, self._once = on_connection, once

    async def put(self, *items: MemoryItem) -> list[bool]:
        first: list[bool] | None = None

        async def put(connection: Connection, _: bool) -> list[bool]:
            nonlocal first
            found = await _put(connection, items)
            first = first or found  # at a second try they may be there, put by the first one
            return first

        found: list[bool] = await self._once(put)
        return found

    async def add(self, item: MemoryItem) -> bool:
        async def add(connection: Connection, is_repeated: bool) -> bool:
            if await connection.fetchval(SQL["add"], *_values(item)) is not None:
                return True
            known = await connection.fetchrow(SQL["item"], item.tenant, item.store, item.item_id)
            return is_repeated and known is not None and _item(known) == item

        return bool(await self._once(add))

    async def merge(self, items: Sequence[MemoryItem]) -> list[Merged]:
        async def merge(connection: Connection, _: bool) -> list[Merged]:
            # In one order, so that two who merge the same do not wait for each other.
            order = sorted(range(len(items)), key=lambda place: (items[place].store, items[place].item_id))
            found: dict[int, Merged] = {}
            for place in order:
                is_new = await connection.fetchval(SQL["merge"], *_values(items[place]))
                found[place] = "unchanged" if is_new is None else "added" if is_new else "updated"
            return [found[place] for place in range(len(items))]

        merged: list[Merged] = await self._once(merge)
        return merged

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
        place = (tenant, store, *(before or (None, None)), limit)
        if task_id is None:
            return await self._items("items", *place)
        return await self._items("items_of_task", *place, task_id)

    async def delete(self, tenant: str, store: str, item_id: str) -> bool:
        async def delete(connection: Connection, is_repeated: bool) -> bool:
            if await connection.fetchval(SQL["delete"], tenant, store, item_id) is None:
                return is_repeated
            if store == "social":
                await connection.execute(SQL["delete_edges"], tenant, item_id)
            return True

        return bool(await self._once(delete))

    async def search(self, tenant: str, store: str, words: Sequence[str], *, now: int, limit: int) -> list[Found]:
        if not words:
            return []

        async def look(connection: Connection) -> list[Found]:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await _search(connection, tenant, store, words, now, limit)

        found: list[Found] = await self._on_connection(look)
        return found

    async def nearest(self, tenant: str, store: str, asked: Nearest, *, now: int, limit: int) -> list[Found]:
        size = max(4 * limit, CANDIDATES_MIN)
        near = await self._items("nearest", tenant, store, asked.model, asked.bits, now, size)
        return most_alike(near, asked, limit)

    async def everything(self, tenant: str) -> Everything:
        async def read(connection: Connection) -> Everything:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                items = await connection.fetch(SQL["everything"], tenant, timeout=EVERYTHING_SECONDS)
                souls = await connection.fetch(SQL["souls"], tenant, None)
            return Everything([_item(row) for row in items], [_soul(row) for row in reversed(souls)])

        found: Everything = await self._on_connection(read)
        return found

    async def souls(self, tenant: str, *, limit: int) -> list[Soul]:
        return [_soul(row) for row in await self._fetch(SQL["souls"], tenant, limit)]

    async def put_soul(self, soul: Soul) -> bool:
        values = (soul.tenant, soul.version, soul.body, soul.caller, soul.created_at)

        async def put(connection: Connection, is_repeated: bool) -> bool:
            if await connection.fetchval(SQL["put_soul"], *values) is not None:
                return True
            newest = await connection.fetchrow(SQL["souls"], soul.tenant, 1)
            return is_repeated and newest is not None and _soul(newest) == soul

        return bool(await self._once(put))

    async def working(self, tenant: str, thread_id: str) -> Mapping[str, bytes]:
        rows = await self._fetch(SQL["working"], tenant, thread_id)
        return {row[0]: row[1] for row in rows if row[1] is not None}

    async def put_working(
        self, tenant: str, thread_id: str, *, number: int, key: str, value: bytes | None, now: int
    ) -> None:
        async def put(connection: Connection, _: bool) -> None:
            own = await connection.fetchrow(SQL["own_working"], tenant, thread_id, key, number)
            if own is None or own[0] != value:
                await connection.execute(SQL["put_working"], tenant, thread_id, number, key, value, now)

        await self._once(put)

    async def _items(self, statement: str, *values: Any) -> list[MemoryItem]:
        return [_item(row) for row in await self._fetch(SQL[statement], *values)]

    async def _fetch(self, text: str, *values: Any) -> list[Record]:
        async def fetch(connection: Connection) -> list[Record]:
            async with connection.transaction(readonly=True):
                return await connection.fetch(text, *values)

        found: list[Record] = await self._on_connection(fetch)
        return found


async def _put(connection: Connection, items: Sequence[MemoryItem]) -> list[bool]:
    """Keep items; the ends of edges are looked for before anything is written."""
    given = {item.item_id for item in items if item.store == "social" and item.from_id is None}
    for item in items:
        for name, end in (("from", item.from_id), ("to", item.to_id)):
            if end is None or end in given:
                continue
            if await connection.fetchval(SQL["node"], item.tenant, end) is None:
                raise MemoryItemNotFound(f"{name}: there is no node {end!r}", field=name)
    return [bool(await connection.fetchval(SQL["put"], *_values(item))) for item in items]


async def _search(
    connection: Connection, tenant: str, store: str, words: Sequence[str], now: int, limit: int
) -> list[Found]:
    """The rarer words first, the common ones only where those find too little."""
    scope = scope_of(tenant, store)
    size = await connection.fetchrow(SQL["size"], scope)
    if size is None or not size[0]:
        return []
    having = await _having(connection, tenant, store, words, size[0])
    sizes = Sizes(size[0], size[1], having)
    rare = sizes.rare()
    most = max(4 * limit, CANDIDATES_MIN)
    found: dict[str, MemoryItem] = {}
    if rare:
        terms, weights = [_term(word) for word in rare], [sizes.weight(word) for word in rare]
        query = f"{_within(scope)} & ({' | '.join(terms)})"
        rows = await connection.fetch(SQL["search"], query, terms, weights, now, sizes.mean, most)
        found = {item.item_id: item for item in map(_item, rows)}
    if len(found) < limit and len(rare) < len(words):
        terms, weights = [_term(word) for word in words], [sizes.weight(word) for word in words]
        query = " | ".join(terms)
        values = (tenant, store, terms, weights, now, sizes.mean, query, RECENT_ITEMS, most)
        rows = await connection.fetch(SQL["search_recent"], *values)
        found |= {item.item_id: item for item in map(_item, rows)}
    return scored(list(found.values()), words, sizes, limit)


async def _having(connection: Connection, tenant: str, store: str, words: Sequence[str], items: int) -> dict[str, int]:
    """How many items have which word; of the common ones, of which to count all would be dear, a sample tells."""
    having: dict[str, int] = {}
    if items > COMMON_ITEMS:
        terms = [_term(word) for word in words]
        for place, count in await connection.fetch(SQL["sample"], tenant, store, terms, SAMPLE_ITEMS):
            estimated = count * items // min(SAMPLE_ITEMS, items)
            if estimated > COMMON_ITEMS:
                having[words[place - 1]] = estimated
    within = _within(scope_of(tenant, store))
    for word in words:
        if word not in having:
            having[word] = await connection.fetchval(SQL["having"], f"{within} & {_term(word)}")
    return having


def _term(word: str) -> str:
    """A word as a query: letters and digits alone, so it needs no more quoting."""
    return f"'{word}'"


def _within(scope: str) -> str:
    return f"'#{scope}'"


def _values(item: MemoryItem) -> list[Any]:
    values = [getattr(item, name) for name in _NAMES]
    values.insert(_NAMES.index("words"), item.scope)
    return values


def _item(row: Record) -> MemoryItem:
    return MemoryItem(**dict(row.items()))


def _soul(row: Record) -> Soul:
    return Soul(**dict(row.items()))
