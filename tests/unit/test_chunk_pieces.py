"""Chunks in pieces, and the pages that readers share."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StoreUnavailable
from holdfast.journal.chunk import PIECE_BYTES_MAX, Chunk
from holdfast.journal.pages import Pages


def lines(sizes: list[int]) -> list[str]:
    return [f'{{"id":"evt_{place}","type":"token"{"x" * size}}}' for place, size in enumerate(sizes)]


SIZES = st.lists(st.integers(0, 3) | st.integers(0, 2 * PIECE_BYTES_MAX), min_size=1, max_size=30)


@given(SIZES, st.integers(0, 5))
def test_pieces_are_the_same_events_in_small(sizes: list[int], first: int) -> None:
    chunk = Chunk(first, lines(sizes))

    pieces = chunk.pieces

    assert [line for piece in pieces for line in piece.lines] == chunk.lines
    assert [piece.first for piece in pieces] == [first, *(piece.last + 1 for piece in pieces[:-1])]
    assert all(piece.size <= PIECE_BYTES_MAX or len(piece.lines) == 1 for piece in pieces)


@given(SIZES, st.data())
def test_from_any_cursor_pieces_lead_to_the_end(sizes: list[int], data: st.DataObject) -> None:
    chunk = Chunk(0, lines(sizes))
    cursor = start = data.draw(st.integers(-1, chunk.last - 1))

    found: list[str] = []
    while cursor < chunk.last:
        piece = chunk.piece_after(cursor)
        found += piece.lines
        cursor = piece.last

    assert found == chunk.lines[start + 1 :]


def test_readers_at_the_same_place_share_a_piece() -> None:
    chunk = Chunk(0, lines([PIECE_BYTES_MAX] * 3))

    assert chunk.piece_after(0) is chunk.piece_after(0)


async def test_readers_at_the_same_place_share_one_read() -> None:
    pages, chunk, reads = Pages(), Chunk(0, lines([10, 10])), 0
    gate = asyncio.Event()

    async def load() -> Chunk:
        nonlocal reads
        reads += 1
        await gate.wait()
        return chunk

    readers = [asyncio.create_task(pages.get(1, 0, load)) for _ in range(5)]
    await asyncio.sleep(0)
    readers[0].cancel()
    gate.set()
    found = await asyncio.gather(*readers, return_exceptions=True)

    assert reads == 1
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(item is chunk for item in found[1:])


async def test_pages_hold_no_more_than_they_may() -> None:
    pages, reads = Pages(bytes_max=3 * PIECE_BYTES_MAX), 0

    async def load() -> Chunk:
        nonlocal reads
        reads += 1
        return Chunk(5, lines([PIECE_BYTES_MAX // 2] * 4))

    for number in range(10):
        await pages.get(number, 5, load)
    assert reads == 10
    for first in (5, 6, 7):
        await pages.get(9, first, load)
    assert reads == 10
    await pages.get(0, 5, load)

    assert reads == 11


async def test_a_failed_read_is_told_to_all_and_not_kept() -> None:
    pages = Pages()

    async def fail() -> Chunk:
        raise StoreUnavailable("no answer")

    async def load() -> Chunk:
        return Chunk(0, lines([1]))

    with pytest.raises(StoreUnavailable):
        await pages.get(1, 0, fail)

    assert (await pages.get(1, 0, load)).last == 0
