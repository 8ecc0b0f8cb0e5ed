"""The tail of a run in memory, against a naive list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.journal.chunk import Chunk
from holdfast.journal.tail import TAIL_BYTES_MAX, Tail, Tails

SIZES = st.lists(st.integers(1, 4), max_size=12)


def _lines(first: int, count: int) -> list[str]:
    return [f"line {sequence}" for sequence in range(first, first + count)]


@given(sizes=SIZES, start=st.integers(-1, 5), joins=st.integers(0, 12), cursor=st.integers(-1, 60))
def test_memory_gives_the_next_events_behind_a_cursor_or_nothing_at_all(
    sizes: list[int], start: int, joins: int, cursor: int
) -> None:
    """Whoever joins late finds what was kept since, never something that does not follow the cursor."""
    tail, last = Tail(1, start, finished=False), start
    for index, size in enumerate(sizes):
        if index == joins:
            tail.add(lambda: None)
        tail.publish(Chunk(last + 1, _lines(last + 1, size)), finished=False)
        last += size

    chunk = tail.after(cursor)

    assert tail.last == last
    if chunk is not None:
        assert chunk.first == cursor + 1
        assert chunk.lines == _lines(cursor + 1, chunk.last - cursor)
    kept = start + sum(sizes[:joins])
    assert (chunk is not None) == (kept <= cursor < last)


def test_a_tail_keeps_no_more_than_its_limit() -> None:
    tail = Tail(1, -1, finished=False)
    tail.add(lambda: None)
    line = "x" * 100_000

    for sequence in range(50):
        tail.publish(Chunk(sequence, [line]), finished=False)

    kept = sum(tail.after(cursor) is not None for cursor in range(-1, 49))
    assert kept == TAIL_BYTES_MAX // 100_000


def test_events_that_the_store_told_of_first_are_not_shown_twice() -> None:
    """`observe` may run ahead of the commit that is about to be published."""
    tail = Tail(1, 0, finished=False)
    tail.add(lambda: None)

    tail.observe(3, finished=False)
    tail.publish(Chunk(1, _lines(1, 3)), finished=False)
    tail.publish(Chunk(4, _lines(4, 1)), finished=False)

    assert tail.last == 4
    assert tail.after(0) is None  # from the store
    found = tail.after(3)
    assert found is not None
    assert found.lines == ["line 4"]


def test_a_tail_is_forgotten_with_its_last_reader_and_no_other_one() -> None:
    tails = Tails()
    old = tails.open(1, 5, finished=False)
    tails.release(old)
    new = tails.open(1, 5, finished=False)

    tails.release(old)

    assert tails.get(1) is new
