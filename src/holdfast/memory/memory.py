"""
The assistant's memory as APIs, tools and the assistant itself use it. Everything is scoped by a tenant.

A write is there for every later search when it returns. With an embedding model an item's meaning is kept as well, and
a search fuses two rankings; whatever is wrong with that model, the full text alone is searched, and nothing is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from holdfast.clock import Clock
from holdfast.errors import MemoryItemNotFound
from holdfast.ids import Ids
from holdfast.memory.items import EXPORTED, Draft, item_of
from holdfast.memory.meaning import LIKENESS_MIN, Embedder, fused, nearest_to, with_meaning
from holdfast.memory.words import query_words
from holdfast.store.memory import Everything, Found, MemoryItem, MemoryStore, Nearest, Soul

# Of an import, so many go into one transaction: some 50 ms, for which other commits wait.
MERGE_ITEMS_MAX: Final = 250

# To make so many items is quicker than to ask a thread to.
MADE_HERE_MAX: Final = 20

# Where two rankings are fused, each has so many items at the least.
FUSED_MIN: Final = 20

# What an embedding model is given at once, and how long it may take: a write or a search waits for it.
EMBEDDED_MAX: Final = 100
EMBEDDED_CHARACTERS_MAX: Final = 8_000
EMBED_SECONDS: Final = 10.0
ASK_SECONDS: Final = 3.0

# Versions that are shown of a soul's history. It is changed by hand.
HISTORY_MAX: Final = 1000

log = structlog.get_logger(__name__)

NO_SOUL: Final[Mapping[str, Any]] = {"identity": "", "values": [], "patterns": []}

Merging = Mapping[str, Mapping[str, int]]
"""What an import came to, by store: how many were added, updated, unchanged."""


class MemoryWrite(NamedTuple):
    """An item that was written, and whether it is a new one."""

    item: MemoryItem
    is_new: bool


class SoulVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A soul with its history; `version` 0 is the one that nobody wrote yet."""

    body: Mapping[str, Any]
    version: int
    created_at: int | None
    updated_at: int | None
    history: Sequence[Mapping[str, Any]]  # newest first: version, at (microseconds), by, before


class Memory:
    """Made once per server; used on its event loop."""

    def __init__(self, store: MemoryStore, clock: Clock, ids: Ids) -> None:
        self.store = store
        self.embedder: Embedder | None = None
        self.first_soul: Mapping[str, Any] = NO_SOUL  # of a tenant that never changed it
        self._clock = clock
        self._ids = ids

    def now(self) -> int:
        return self._clock.now()

    # Items

    async def write(self, tenant: str, *drafts: Draft, source: str) -> list[MemoryWrite]:
        """
        Remember, all or nothing; one whose id exists is replaced.

        Raises:
            MemoryItemNotFound: the end of an edge is no node (`field`).
        """
        items = await self._items(tenant, drafts, source)
        are_new = await self.store.put(*items)
        return [MemoryWrite(item, is_new) for item, is_new in zip(items, are_new, strict=True)]

    async def add(self, tenant: str, draft: Draft, *, source: str) -> bool:
        """Remember something that is no edge, unless its id exists, also if two do so at once; whether it was remembered."""
        (item,) = await self._items(tenant, [draft], source)
        return await self.store.add(item)

    async def read(self, tenant: str, store: str, item_id: str) -> MemoryItem:
        """
        Raises:
            MemoryItemNotFound
        """
        item = await self.store.item(tenant, store, item_id)
        if item is None:
            raise MemoryItemNotFound(f"{store} has no item {item_id!r}")
        return item

    async def forget(self, tenant: str, store: str, item_id: str) -> None:
        """
        Forget an item; with a node go its edges.

        Raises:
            MemoryItemNotFound
        """
        if not await self.store.delete(tenant, store, item_id):
            raise MemoryItemNotFound(f"{store} has no item {item_id!r}")

    async def search(self, tenant: str, store: str, query: str, *, limit: int) -> Sequence[Found]:
        """
        The best items that share a word with the query, best first; no character of it has a meaning of its own. With
        an embedding model also those that mean something like it.
        """
        now = self.now()
        size = limit if self.embedder is None else max(limit, FUSED_MIN)
        by_words = await self.store.search(tenant, store, query_words(query), now=now, limit=size)
        asked = await self._asked(query)
        if asked is None:
            return by_words[:limit]
        near = await self.store.nearest(tenant, store, asked, now=now, limit=size)
        return fused(by_words, [found for found in near if found.score >= LIKENESS_MIN], limit)

    async def _items(self, tenant: str, drafts: Sequence[Draft], source: str) -> list[MemoryItem]:
        now = self.now()

        def make() -> list[MemoryItem]:
            return [item_of(draft, tenant, new_id=self._ids.short("mem"), source=source, now=now) for draft in drafts]

        items = make() if len(drafts) <= MADE_HERE_MAX else await asyncio.to_thread(make)
        places = [place for place, item in enumerate(items) if item.words]
        for start in range(0, len(places) if self.embedder is not None else 0, EMBEDDED_MAX):
            portion = places[start : start + EMBEDDED_MAX]
            vectors = await self._vectors([drafts[place].searched for place in portion])
            for place, vector in zip(portion, vectors, strict=False):
                assert self.embedder is not None
                items[place] = with_meaning(items[place], self.embedder.name, vector)
        return items

    async def _vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Of each text, or of none."""
        assert self.embedder is not None
        try:
            async with asyncio.timeout(EMBED_SECONDS):
                return await self.embedder.documents([text[:EMBEDDED_CHARACTERS_MAX] for text in texts])
        except Exception as error:  # noqa: BLE001  whatever a provider raises, words are found without it
            log.warning("meaning_not_kept", items=len(texts), reason=repr(error))
            return []

    async def _asked(self, query: str) -> Nearest | None:
        if self.embedder is None or not query.strip():
            return None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return nearest_to(self.embedder.name, await self.embedder.query(query))
        except Exception as error:  # noqa: BLE001  as above
            log.warning("searched_by_words_alone", reason=repr(error))
            return None

    # Soul

    async def soul(self, tenant: str) -> SoulVersion:
        return self.version_of(await self.store.souls(tenant, limit=HISTORY_MAX + 1))

    async def change_soul(
        self, tenant: str, changes: Mapping[str, Any], *, by: str, at: int | None = None
    ) -> SoulVersion:
        """
        Replace fields of the soul; of changes at the same moment each is a version of its own, and one that changes
        nothing is none. `at` is when it was changed, where that was elsewhere.
        """
        while True:
            newest = await self.store.souls(tenant, limit=1)
            before = _body(newest[0]) if newest else self.first_soul
            body = {**before, **changes}
            if newest and body == before:
                return await self.soul(tenant)
            version = newest[0].version + 1 if newest else 1
            soul = Soul(
                tenant=tenant,
                version=version,
                body=msgspec.json.encode(body),
                caller=by,
                created_at=self.now() if at is None else at,
            )
            if await self.store.put_soul(soul):
                return await self.soul(tenant)

    def version_of(self, versions: Sequence[Soul]) -> SoulVersion:
        """The soul that these versions, newest first, have made."""
        if not versions:
            return SoulVersion(body=self.first_soul, version=0, created_at=None, updated_at=None, history=())
        bodies = [_body(item) for item in versions]
        history = [
            {"version": item.version, "at": item.created_at, "by": item.caller, "before": before}
            for item, before in zip(versions, [*bodies[1:], self.first_soul], strict=True)
        ]
        return SoulVersion(
            body=bodies[0],
            version=versions[0].version,
            created_at=versions[-1].created_at,
            updated_at=versions[0].created_at,
            history=history[:HISTORY_MAX],
        )

    # Working memory

    async def working(self, tenant: str, thread_id: str) -> dict[str, Any]:
        """The working memory of a thread, without what superseded turns wrote."""
        kept = await self.store.working(tenant, thread_id)
        return {key: msgspec.json.decode(value) for key, value in kept.items()}

    # Moving

    async def everything(self, tenant: str) -> Everything:
        """All that is kept of a tenant, at one moment."""
        return await self.store.everything(tenant)

    async def merge(self, tenant: str, drafts: Sequence[Draft], *, source: str) -> dict[str, dict[str, int]]:
        """
        Keep those that are new, or newer than what is there under their id. In small transactions, nodes
        before edges: after a crash in the middle the same call again finishes it.
        """
        counts = {store: Counter(added=0, updated=0, unchanged=0) for store in EXPORTED}
        for start in range(0, len(drafts), MERGE_ITEMS_MAX):
            portion = await self._items(tenant, drafts[start : start + MERGE_ITEMS_MAX], source)
            for item, outcome in zip(portion, await self.store.merge(portion), strict=True):
                counts[item.store][outcome] += 1
        return {store: dict(found) for store, found in counts.items()}


def _body(soul: Soul) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(soul.body)
    return body
