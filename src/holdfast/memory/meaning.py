"""
The meaning of texts as vectors, beside their words: what an embedding model gives, how it is kept, how two rankings
become one. No I/O.

A vector is kept with length 1, so that likeness is a product, and with the signs of its numbers, by which a store
chooses candidates quickly.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from holdfast.store.memory import Found, MemoryItem, Nearest

# Less alike than this counts as not found. Models differ in how alike they find what has nothing in common; this is low,
# so that it rather lets something pass.
LIKENESS_MIN: Final = 0.3

# The usual constant of reciprocal rank fusion: how much the first ranks stand out.
RANK_OFFSET: Final = 60


class Embedder(Protocol):
    """An embedding model. Whatever it raises only takes the meaning away."""

    @property
    def name(self) -> str:
        """Vectors of different models cannot be compared."""
        ...

    async def documents(self, texts: Sequence[str]) -> Sequence[Sequence[float]]: ...

    async def query(self, text: str) -> Sequence[float]: ...


def nearest_to(model: str, values: Sequence[float]) -> Nearest:
    """A vector as a store takes it."""
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    vector = array("f", [value / length for value in values])
    bits = int("".join("1" if value > 0 else "0" for value in values) or "0", 2)
    # Filled up at the end, so that vectors of one model have their bits in the same places.
    size = (len(values) + 7) // 8
    return Nearest(model, vector.tobytes(), (bits << (size * 8 - len(values))).to_bytes(size, "big"))


def with_meaning(item: MemoryItem, model: str, values: Sequence[float]) -> MemoryItem:
    """An item with its meaning."""
    found = nearest_to(model, values)
    return msgspec.structs.replace(item, vector=found.vector, vector_bits=found.bits, vector_model=model)


def fused(by_words: Sequence[Found], by_meaning: Sequence[Found], limit: int) -> list[Found]:
    """Two rankings as one; 1 is the score of what is the first in both."""
    items: dict[str, MemoryItem] = {}
    scores: dict[str, float] = {}
    for ranking in (by_words, by_meaning):
        for rank, found in enumerate(ranking, 1):
            item_id = found.item.item_id
            items[item_id] = found.item
            scores[item_id] = scores.get(item_id, 0.0) + (RANK_OFFSET + 1) / (2 * (RANK_OFFSET + rank))
    hits = [Found(items[item_id], score) for item_id, score in scores.items()]
    hits.sort(key=lambda hit: (-hit.score, -hit.item.updated_at, hit.item.item_id))
    return hits[:limit]
