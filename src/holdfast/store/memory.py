"""
The contract of the part of a store that keeps what the assistant remembers: `Store.memory`.

An item is a row with JSON fields, found by its folded words. What the fields mean, how text is folded and how old
confidence fades is the business of `holdfast.memory`; here nothing is interpreted but the ends of edges.

Found is what shares a word with the query. The order is by BM25, over words and not over syntax, then newest, then id;
a score is s/(1+s). Words that stand in more than COMMON_ITEMS items are looked up only where the rarer ones find too
few, and then among the newest RECENT_ITEMS of the store: whatever the size, a search stays short.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

COMMON_ITEMS: Final = 3_000
RECENT_ITEMS: Final = 5_000

# Of the candidates that an index gives, so many at the least are scored exactly.
CANDIDATES_MIN: Final = 100

# The usual parameters of BM25.
_K1: Final = 1.2
_B: Final = 0.75

Merged = Literal["added", "updated", "unchanged"]


class MemoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is remembered. Times are microseconds since 1970."""

    tenant: str
    store: str  # episodes, knowledge, social, feedback, skills
    item_id: str  # unique in (tenant, store)
    fields: bytes  # JSON of what is the store's own
    words: str = ""  # folded, a space between words; '' is never found by a search
    source: str
    confidence: float = 1.0
    created_at: int
    updated_at: int
    valid_from: int | None = None
    valid_until: int | None = None
    from_id: str | None = None  # the ends of an edge
    to_id: str | None = None
    task_id: str | None = None
    vector: bytes | None = None
    vector_bits: bytes | None = None
    vector_model: str | None = None

    @property
    def scope(self) -> str:
        return scope_of(self.tenant, self.store)


class Found(msgspec.Struct, frozen=True):
    """An item that a search found; the score of a search by words is above 0 and below 1."""

    item: MemoryItem
    score: float


class Nearest(msgspec.Struct, frozen=True):
    """How the search by meaning asks: for items whose vector of this model is most like this one."""

    model: str
    vector: bytes
    bits: bytes


class Soul(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a tenant's soul; the first is 1."""

    tenant: str
    version: int
    body: bytes  # JSON
    caller: str
    created_at: int


class Everything(msgspec.Struct, frozen=True):
    """All items and versions of the soul of a tenant at one moment."""

    items: Sequence[MemoryItem]  # by store, oldest first
    souls: Sequence[Soul]  # oldest first


class MemoryStore(Protocol):
    """What is written is durable, and seen by every later read and search, when a call returns."""

    async def put(self, *items: MemoryItem) -> list[bool]:
        """
        Keep items, all or none; whether each is new comes back. One that is there is replaced, but for `created_at`.

        Raises:
            MemoryItemNotFound: the end of an edge is no node. Nothing was written.
        """
        ...

    async def add(self, item: MemoryItem) -> bool:
        """Keep an item that is no edge, unless there is one of its id; whether it was kept, by whoever is the first."""
        ...

    async def merge(self, items: Sequence[MemoryItem]) -> list[Merged]:
        """Keep, in one transaction, those that are new or have a newer `updated_at` than what is there."""
        ...

    async def item(self, tenant: str, store: str, item_id: str) -> MemoryItem | None: ...

    async def items(
        self,
        tenant: str,
        store: str,
        *,
        task_id: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> list[MemoryItem]:
        """Newest first; `before` is (created_at, item_id) of the last one seen."""
        ...

    async def delete(self, tenant: str, store: str, item_id: str) -> bool:
        """Forget an item, and the edges of a node with it; False if there is none."""
        ...

    async def search(self, tenant: str, store: str, words: Sequence[str], *, now: int, limit: int) -> list[Found]:
        """The best items that share a word (folded) and are valid now."""
        ...

    async def nearest(self, tenant: str, store: str, asked: Nearest, *, now: int, limit: int) -> list[Found]:
        """Items valid now whose meaning is most like the one asked for; the score is their likeness, from -1 to 1."""
        ...

    async def everything(self, tenant: str) -> Everything: ...

    async def souls(self, tenant: str, *, limit: int) -> list[Soul]:
        """The newest versions, newest first."""
        ...

    async def put_soul(self, soul: Soul) -> bool:
        """Keep the next version; False if this or a newer version is there already."""
        ...

    async def working(self, tenant: str, thread_id: str) -> Mapping[str, bytes]:
        """The working memory of a thread, by key: what turns wrote that are not superseded."""
        ...

    async def put_working(
        self, tenant: str, thread_id: str, *, number: int, key: str, value: bytes | None, now: int
    ) -> None:
        """Let the turn of this number set a key, or with None remove it. Writing the same again changes nothing."""
        ...


def scope_of(tenant: str, store: str) -> str:
    """How tenant and store are named inside of an index of words."""
    return hashlib.sha256(f"{tenant}\0{store}".encode()).hexdigest()[:20]


class Sizes(msgspec.Struct, frozen=True):
    """What scores are relative to: how many items are indexed, of how many words, and how many have which word."""

    items: int
    words: int
    having: Mapping[str, int]

    def weight(self, word: str) -> float:
        """How much a word tells: the fewer items have it, the more."""
        count = self.having.get(word, 0)
        return math.log(1 + (max(self.items, count) - count + 0.5) / (count + 0.5))

    @property
    def mean(self) -> float:
        """Words of an item, on average."""
        return max(self.words, 1) / max(self.items, 1)

    def rare(self) -> list[str]:
        return [word for word, count in self.having.items() if count <= COMMON_ITEMS]


def scored(items: Sequence[MemoryItem], words: Sequence[str], sizes: Sizes, limit: int) -> list[Found]:
    """The best of these, in order."""
    weights = {word: sizes.weight(word) for word in words}
    found = [Found(item, _score(item, weights, sizes.mean)) for item in items]
    found.sort(key=lambda each: (-each.score, -each.item.updated_at, each.item.item_id))
    return found[:limit]


def _score(item: MemoryItem, weights: Mapping[str, float], mean: float) -> float:
    split = item.words.split(" ")
    length = _K1 * (1 - _B + _B * len(split) / mean)
    total = 0.0
    for word, count in Counter(split).items():
        weight = weights.get(word)
        if weight is not None:
            total += weight * count * (_K1 + 1) / (count + length)
    return total / (1 + total)


def most_alike(items: Sequence[MemoryItem], asked: Nearest, limit: int) -> list[Found]:
    """These by the product of their vectors with the one asked for, which all have the length 1."""
    wanted = array("f", asked.vector)
    found = [
        Found(item, sum(a * b for a, b in zip(array("f", item.vector or b""), wanted, strict=False))) for item in items
    ]
    found.sort(key=lambda each: (-each.score, -each.item.updated_at, each.item.item_id))
    return found[:limit]
