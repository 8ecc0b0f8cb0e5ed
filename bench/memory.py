"""
Search in an embedded store of 100,000 items. Words are as frequent as in a natural language (the n-th has 1/n of the
first one's share), in the items as in the queries, so that most queries have common words in them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.rows import Row, quantile, row
from holdfast.clock import SystemClock
from holdfast.ids import RandomIds
from holdfast.memory import Draft, Memory
from holdfast.store.sqlite import SQLiteStore

ITEMS = 100_000
PORTION = 1_000
WORDS_OF_ITEM = 20
VOCABULARY = 20_000
SEARCHES = 500
TENANT = "bench"


class Language:
    """Texts of words of such frequencies."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._words = ["".join(self._random.choices(letters, k=self._random.randint(2, 10))) for _ in range(VOCABULARY)]
        self._shares = list(accumulate(1 / (place + 1) for place in range(VOCABULARY)))

    def text(self, words: int) -> str:
        return " ".join(self._random.choices(self._words, cum_weights=self._shares, k=words))


async def m1(directory: Path) -> list[Row]:
    """Search and write in a memory of 100,000 items, one call after the other."""
    language = Language()
    store, clock = SQLiteStore(directory / "m1"), SystemClock()
    await store.open()
    memory = Memory(store.memory, clock, RandomIds(clock))
    for start in range(0, ITEMS, PORTION):
        await memory.merge(TENANT, [_draft(language, start + place) for place in range(PORTION)], source="bench")
    rows: list[Row] = []
    for words, target in ((1, None), (3, 20.0), (10, 20.0)):
        milliseconds = []
        for _ in range(SEARCHES):
            query = language.text(words)
            began = time.perf_counter()
            await memory.search(TENANT, "knowledge", query, limit=20)
            milliseconds.append((time.perf_counter() - began) * 1000)
        for share, bound in ((0.5, None), (0.95, target)):
            value = quantile(milliseconds, share)
            shown, ok = ("–", None) if bound is None else (f"≤ {bound:g}", value <= bound)
            rows.append(
                row("M1", f"search of {words} words, 100,000 items, p{share * 100:g}", value, "ms", None, shown, ok)
            )
    rows.append(await _writes(memory, language))
    await store.close()
    return rows


async def _writes(memory: Memory, language: Language) -> Row:
    milliseconds = []
    for place in range(200):
        began = time.perf_counter()
        await memory.write(TENANT, _draft(language, ITEMS + place), source="bench")
        milliseconds.append((time.perf_counter() - began) * 1000)
    return row("M1", "write into 100,000 items, p95", quantile(milliseconds, 0.95), "ms", None, "–", None)


def _draft(language: Language, place: int) -> Draft:
    fields = {"subject": "", "content": language.text(WORDS_OF_ITEM), "type": "fact"}
    return Draft(store="knowledge", item_id=f"k{place}", fields=fields)


ROWS: dict[str, Callable[[Path], Any]] = {"M1": m1}
