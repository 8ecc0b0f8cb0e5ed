"""Words and meaning together: what a search finds with an embedding model, and with one that fails."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pydantic_ai.embeddings import TestEmbeddingModel

from holdfast.agents.models.embedding import ModelEmbedder
from holdfast.agents.models.failures import ModelNotConfigured
from holdfast.clock import HeldClock
from holdfast.ids import SeededIds
from holdfast.memory import Draft, Memory
from holdfast.memory import memory as memory_module
from holdfast.memory.meaning import nearest_to
from holdfast.store.sqlite import SQLiteStore

TENANT = "default"
# A world of two directions: money and weather.
MEANINGS = {"invoice": (1.0, 0.0), "bill": (0.9, 0.1), "rain": (0.0, 1.0), "drizzle": (0.1, 0.9)}


class Understands:
    """Knows what a few words mean; the rest is noise in a direction of its own."""

    name = "fake"

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.hangs = False

    async def documents(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [await self.query(text) for text in texts]

    async def query(self, text: str) -> Sequence[float]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        known = [MEANINGS[word] for word in text.lower().split() if word in MEANINGS]
        return (*known[0], 0.01) if known else (0.0, 0.0, -1.0)


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    store, clock = SQLiteStore(tmp_path), HeldClock()
    await store.open()
    memory = Memory(store.memory, clock, SeededIds(clock))
    memory.embedder = Understands()
    yield memory
    await store.close()


async def know(memory: Memory, *contents: str) -> None:
    drafts = [
        Draft(store="knowledge", item_id=text, fields={"subject": "", "content": text, "type": "fact"})
        for text in contents
    ]
    await memory.write(TENANT, *drafts, source="test")


async def found(memory: Memory, query: str, limit: int = 9) -> list[str]:
    hits = await memory.search(TENANT, "knowledge", query, limit=limit)
    assert all(0 < hit.score <= 1 for hit in hits)
    return [hit.item.item_id for hit in hits]


async def test_meaning_alone_finds_an_item(memory: Memory) -> None:
    await know(memory, "the invoice is here", "the rain is here", "nothing else")

    assert await found(memory, "bill") == ["the invoice is here"]
    assert await found(memory, "drizzle") == ["the rain is here"]


async def test_what_is_found_both_ways_comes_first(memory: Memory) -> None:
    await know(memory, "bill of a bird", "invoice 7", "invoice 8 and a bill")

    hits = await memory.search(TENANT, "knowledge", "invoice 7", limit=9)

    assert (hits[0].item.item_id, hits[0].score) == ("invoice 7", 1.0)
    assert [hit.item.item_id for hit in hits][1:] == ["invoice 8 and a bill", "bill of a bird"]
    assert await found(memory, "invoice 7", limit=1) == ["invoice 7"]


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_without_the_model_words_alone_are_searched(
    memory: Memory, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await know(memory, "the invoice is here")
    embedder = memory.embedder
    assert isinstance(embedder, Understands)
    monkeypatch.setattr(memory_module, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(memory_module, "EMBED_SECONDS", 0.01)
    embedder.fails, embedder.hangs = (RuntimeError("down"), False) if how == "fails" else (None, True)

    await know(memory, "the bill is there")

    assert await found(memory, "bill") == ["the bill is there"]
    embedder.fails, embedder.hangs = None, False
    assert await found(memory, "invoice") == ["the invoice is here"]  # the other was kept without its meaning
    await know(memory, "the bill is there")
    assert await found(memory, "invoice") == ["the invoice is here", "the bill is there"]


async def test_an_empty_text_finds_nothing(memory: Memory) -> None:
    await know(memory, "the invoice is here")

    assert await found(memory, " ") == []


async def test_more_items_than_go_to_the_model_at_once(memory: Memory) -> None:
    await know(memory, *(f"number {n}" for n in range(150)), "the invoice is here")

    assert await found(memory, "bill") == ["the invoice is here"]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1536])
def test_a_vector_has_length_one_and_a_bit_for_each_number(size: int) -> None:
    asked = nearest_to("m", [3.0] * size)

    assert sum(value * value for value in array("f", asked.vector)) == pytest.approx(1, abs=1e-5)
    assert int.from_bytes(asked.bits, "big").bit_count() == size
    assert len(asked.bits) == (size + 7) // 8


async def test_a_model_of_the_library_is_asked() -> None:
    embedder = ModelEmbedder(TestEmbeddingModel(dimensions=4))

    assert len(await embedder.query("x")) == 4
    assert [len(vector) for vector in await embedder.documents(["x", "y"])] == [4, 4]


def test_a_model_without_provider_is_refused() -> None:
    with pytest.raises(ModelNotConfigured):
        ModelEmbedder("text-embedding-3-small")
