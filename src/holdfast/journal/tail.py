"""
The newest committed events of a run, in memory, shared by all its readers in this process.

Readers pull by cursor; there is no queue per reader. A tail holds events only while somebody reads, and no more than
TAIL_BYTES_MAX of them: what is older comes from the store.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator

from holdfast.journal.chunk import Chunk

# A reader this far behind is served from the store, a page at a time.
TAIL_BYTES_MAX = 1024 * 1024


class Tail:
    """
    What is committed of one run, as far as this process knows: `last` is the newest sequence, `finished` tells that
    nothing follows it.

    `is_current` tells that nothing was missed before the tail was there: it was opened by whoever holds the run's
    lease, or a reader asked the store after it had subscribed. `is_void` tells that history was rolled back since:
    what it knows may never have happened, and nothing may be shown to its readers any more.
    """

    __slots__ = ("_chunks", "_firsts", "_size", "_wakers", "finished", "is_current", "is_void", "last", "number")

    def __init__(self, number: int, last: int, *, finished: bool) -> None:
        self.number = number
        self.last = last
        self.finished = finished
        self.is_current = finished
        self.is_void = False
        self._chunks: deque[Chunk] = deque()
        self._firsts: deque[int] = deque()  # of each chunk, for finding a reader's place
        self._size = 0
        self._wakers: set[Callable[[], None]] = set()

    @property
    def has_readers(self) -> bool:
        return bool(self._wakers)

    def add(self, waker: Callable[[], None]) -> None:
        """Wake this reader at every change."""
        self._wakers.add(waker)

    def remove(self, waker: Callable[[], None]) -> None:
        self._wakers.discard(waker)
        if not self._wakers:
            self._clear()

    def hold(self, chunk: Chunk) -> None:
        """Keep a chunk for the reader that is about to come: whoever starts a run mostly reads it too."""
        self._add(chunk)
        self.last = max(self.last, chunk.last)

    def publish(self, chunk: Chunk, *, finished: bool) -> None:
        """Show what was just committed; events that are known already are dropped."""
        if chunk.last > self.last:
            self._keep(chunk)
            self.last = chunk.last
        self.finished = self.finished or finished
        self._wake()

    def observe(self, last: int, *, finished: bool) -> None:
        """Note what the store holds, where its events were not seen: readers get them from there."""
        if last <= self.last and finished <= self.finished:
            return
        if last > self.last:
            self._clear()
            self.last = last
        self.finished = self.finished or finished
        self._wake()

    def void(self) -> None:
        """Let all readers go."""
        self.is_void = True
        self._clear()
        self._wake()

    def after(self, cursor: int) -> Chunk | None:
        """The next events behind a cursor, or None where memory does not hold them."""
        place = bisect_right(self._firsts, cursor + 1) - 1
        if place < 0 or self._chunks[place].last <= cursor:
            return None
        return self._chunks[place].piece_after(cursor)

    def _keep(self, chunk: Chunk) -> None:
        if not self._wakers:
            return
        if chunk.first != self.last + 1:
            self._clear()
        self._add(chunk)
        while self._size > TAIL_BYTES_MAX and len(self._chunks) > 1:
            self._firsts.popleft()
            self._size -= self._chunks.popleft().size

    def _add(self, chunk: Chunk) -> None:
        self._firsts.append(chunk.first)
        self._chunks.append(chunk)
        self._size += chunk.size

    def _clear(self) -> None:
        self._chunks.clear()
        self._firsts.clear()
        self._size = 0

    def _wake(self) -> None:
        for waker in tuple(self._wakers):
            waker()


class Tails:
    """The tails of all runs that are executed or read in this process. Used on the event loop alone."""

    def __init__(self) -> None:
        self._tails: dict[int, Tail] = {}
        self._listeners: set[Callable[[str], None]] = set()

    def get(self, number: int) -> Tail | None:
        return self._tails.get(number)

    def open(self, number: int, last: int, *, finished: bool, is_current: bool = False) -> Tail:
        """The tail of a run; made here for the first one that asks. `is_current`: the caller holds the run's lease."""
        tail = self._tails.get(number)
        if tail is None or tail.is_void:
            tail = self._tails[number] = Tail(number, last, finished=finished)
        else:
            tail.observe(last, finished=finished)
        tail.is_current = tail.is_current or is_current
        return tail

    def void(self) -> None:
        """History was rolled back: whoever comes from now on gets a new tail."""
        tails, self._tails = self._tails, {}
        for tail in tails.values():
            tail.void()
        self.wake_listeners()

    def release(self, tail: Tail) -> None:
        """Forget a tail that nobody reads."""
        if not tail.has_readers and self._tails.get(tail.number) is tail:
            del self._tails[tail.number]

    def followed(self) -> Iterator[Tail]:
        """The tails that somebody reads and that can still grow."""
        return (tail for tail in tuple(self._tails.values()) if not tail.finished)

    def publish(self, number: int, tenant: str, chunk: Chunk, *, finished: bool) -> None:
        """Show a committed chunk to the readers of the run and to those of its tenant."""
        tail = self._tails.get(number)
        if tail is not None:
            tail.publish(chunk, finished=finished)
        for listener in tuple(self._listeners):
            listener(tenant)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Tell this listener the tenant of every commit."""
        self._listeners.add(listener)

    def wake_listeners(self) -> None:
        """Another process may have committed something, of whatever tenant."""
        for listener in tuple(self._listeners):
            listener("")

    def unlisten(self, listener: Callable[[str], None]) -> None:
        self._listeners.discard(listener)
