"""
Events that were read from the store ahead of their readers, for all readers together, and no more than a few MiB.

Readers that want the same page at the same time wait for one read. A page of the store is read at once and given out
in pieces. Were the rest of it kept by each reader, one that takes nothing would hold a page for as long; here it goes
when others need the room, and is read again if it is needed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from holdfast.journal.chunk import Chunk

# Of canonical lines; the frames that were made of them come on top.
PAGES_BYTES_MAX = 4 * 1024 * 1024


class Pages:
    """Pieces of journals by run number and first sequence; the one that was used longest ago goes first."""

    def __init__(self, bytes_max: int = PAGES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: OrderedDict[tuple[int, int], Chunk] = OrderedDict()
        self._size = 0
        self._loading: dict[tuple[int, int], asyncio.Future[Chunk]] = {}

    async def get(self, number: int, first: int, load: Callable[[], Coroutine[Any, Any, Chunk]]) -> Chunk:
        """
        The piece of a run's journal that begins with `first`, or behind it where that was pruned.

        `load` reads a page that begins there, if no piece is kept and nobody else is just reading it. Cancelling the
        caller cancels the read for nobody.
        """
        place = (number, first)
        piece = self._pieces.get(place)
        if piece is not None:
            self._pieces.move_to_end(place)
            return piece
        loading = self._loading.get(place)
        if loading is None:
            loading = self._loading[place] = asyncio.ensure_future(self._load(number, place, load))
        return await asyncio.shield(loading)

    async def _load(self, number: int, place: tuple[int, int], load: Callable[[], Coroutine[Any, Any, Chunk]]) -> Chunk:
        try:
            chunk = await load()
        finally:
            is_kept = self._loading.pop(place, None) is not None
        if is_kept and len(chunk.pieces) > 1:
            self._keep(number, chunk)
        return chunk.pieces[0]

    def clear(self) -> None:
        """Keep nothing, nor what is just being read: history was rolled back."""
        self._pieces.clear()
        self._loading.clear()
        self._size = 0

    def _keep(self, number: int, chunk: Chunk) -> None:
        for piece in chunk.pieces:
            known = self._pieces.pop((number, piece.first), None)
            self._size += piece.size - (0 if known is None else known.size)
            self._pieces[number, piece.first] = piece
        while self._size > self._bytes_max and self._pieces:
            self._size -= self._pieces.popitem(last=False)[1].size
