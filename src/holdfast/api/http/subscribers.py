"""How many streams of each run this process serves, so that there is a limit to it. No I/O."""

from __future__ import annotations

from holdfast.api.http.errors import TooManySubscribers
from holdfast.api.http.sse import Source


class Subscribers:
    """
    Counts the streams of each run, whatever carries them. `limit` is that of one run.

    Every `enter` has its `leave`; `Subscribed` sees to that for the streams of server-sent events.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[int, int] = {}
        self.total = 0

    def enter(self, number: int, run_id: str) -> None:
        """
        Count one more stream of a run.

        Raises:
            TooManySubscribers: nothing was counted.
        """
        count = self._counts.get(number, 0)
        if count >= self._limit:
            raise TooManySubscribers(
                f"run {run_id} has {count} readers here already, which is the limit", run_id=run_id, limit=self._limit
            )
        self._counts[number] = count + 1
        self.total += 1

    def leave(self, number: int) -> None:
        """Count one less."""
        count = self._counts[number] - 1
        self.total -= 1
        if count:
            self._counts[number] = count
        else:
            del self._counts[number]


class Subscribed:
    """A source that is counted from now until it is closed."""

    def __init__(self, source: Source, subscribers: Subscribers, number: int, run_id: str) -> None:
        subscribers.enter(number, run_id)
        self._source = source
        self._subscribers: Subscribers | None = subscribers
        self._number = number
        self.next = source.next
        self.wake = source.wake

    def close(self) -> None:
        if self._subscribers is not None:
            self._subscribers.leave(self._number)
            self._subscribers = None
        self._source.close()
