"""
Reading a stream through whatever happens to the connection: what to do next, and when to give up. No I/O.

A `Source` knows one API: how its stream is opened at the place where the reader stands, and what its frames mean. A
`Resumption` asks it for the request, is told what came of it, and says how long to wait before the next one. A stream
that ends without its last event is opened again; the end of a stream is what the source says, never that of a
connection.

    the connection brings bytes     the server is there: patience begins anew
    it brings an event              delays begin anew
    it ends, or breaks              open it again, after `retry:` or longer
    429, 502, 503, 504, no answer   again, after Retry-After or longer, as long as patience lasts
    any other answer                that is the caller's
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from holdfast.client.backoff import SECONDS_MAX, Backoff
from holdfast.client.errors import ClientError, ForeignAnswer, StreamInterrupted
from holdfast.client.http import Request, is_passing, retry_after_of
from holdfast.client.sse import EventTooLarge, ServerSentEvent, SSEDecoder

# So long a server may be away, or refuse for now, before the caller is told.
RECONNECT_SECONDS: Final = 60.0
# The protocol's: a comment is sent after so long without a byte.
HEARTBEAT_SECONDS: Final = 15.0
# A connection on which two heartbeats are due and none came is gone, whatever the socket believes.
SILENT_HEARTBEATS: Final = 1.8

OnDiscard = Callable[[str, int, int], None]
"""Is told that the events of a run from a first to a last sequence are void: (run_id, first, last)."""

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

Void = tuple[str, int, int]
"""Events of a run from a first to a last sequence that are void."""


class Discards:
    """What a source finds to be void. It is kept in `new` until the caller is about to see the event that makes it so."""

    def __init__(self, on_discard: OnDiscard | None) -> None:
        self.is_wanted = on_discard is not None
        self.new: list[Void] = []
        self._on_discard = on_discard

    def add(self, run_id: str | None, first: int, last: int) -> None:
        if self.is_wanted and first <= last:
            self.new.append((run_id or "", first, last))

    def tell(self, voids: list[Void]) -> None:
        for void in voids:
            if self._on_discard is not None:
                self._on_discard(*void)


@dataclass(frozen=True, slots=True)
class Batch(Generic[E]):
    """Events that came together. Of what is `void` the caller is told before it sees them."""

    events: list[E]
    void: list[Void]


class Source(Protocol[E_co]):
    """A stream of one API, and where its reader stands."""

    @property
    def is_over(self) -> bool:
        """Whether the last event came, or the server said that none follows."""
        ...

    @property
    def is_confirming(self) -> bool:
        """Whether the next request only asks if it is over, and so is not waited for."""
        ...

    @property
    def run_id(self) -> str | None:
        """The run that is read, once it is known."""
        ...

    @property
    def cursor(self) -> str | None:
        """The place behind the last event, as the API takes it. None before the first."""
        ...

    @property
    def discards(self) -> Discards:
        """What the events that were taken make void."""
        ...

    def request(self) -> Request:
        """What opens the stream behind the last event."""
        ...

    def opened(self, status_code: int, headers: Mapping[str, str]) -> None:
        """The stream was opened."""
        ...

    def take(self, frame: ServerSentEvent) -> E_co | None:
        """The event of a frame. None if there is nothing to show: a repeat, or no event."""
        ...

    def ended(self) -> None:
        """A connection ended properly."""
        ...

    def result(self) -> object:
        """What the run came to, once it is over. Raises RunFailed if it failed."""
        ...


class Patience:
    """How long to wait before the next attempt, and how long a server may be away."""

    def __init__(self, backoff: Backoff, seconds: float, clock: Callable[[], float]) -> None:
        self.backoff = backoff
        self._seconds = seconds
        self._clock = clock
        self._failing_since: float | None = None

    def answered(self) -> None:
        """The server is there."""
        self._failing_since = None

    def failed(self, error: ClientError) -> float:
        """
        The seconds to wait before the next attempt.

        Raises:
            ClientError: this error: it will not pass, or did not for too long.
        """
        if not is_passing(error):
            raise error
        now = self._clock()
        self._failing_since = now if self._failing_since is None else self._failing_since
        delay = self.backoff.next_seconds(retry_after_of(error))
        if now + delay - self._failing_since > self._seconds:
            raise error
        return delay


class Resumption(Generic[E]):
    """Where the reading of a source stands. With `is_once`, every end before the last event is an error."""

    def __init__(
        self,
        source: Source[E],
        *,
        patience: Patience,
        is_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.delay_seconds = 0.0
        self._patience = patience
        self._is_once = is_once
        self._clock = clock
        self._decoder = SSEDecoder()
        self._opened_at = 0.0
        self._retry_seconds = 0.0  # what the stream asked for last, on whatever connection

    def is_over(self) -> bool:
        return self.source.is_over

    def begin(self) -> Request:
        """The next request. What the last connection left unfinished is void."""
        self._retry_seconds = self._asked_seconds()
        self._decoder = SSEDecoder()
        return self.source.request()

    def opened(self, status_code: int, headers: Mapping[str, str]) -> None:
        self._opened_at = self._clock()
        self._patience.answered()
        self.source.opened(status_code, headers)

    def feed(self, piece: bytes) -> list[Batch[E]]:
        """
        The events that are complete with these bytes. One that makes others void begins a batch.

        Raises:
            ForeignAnswer: this is no such stream.
        """
        try:
            frames = self._decoder.feed(piece)
        except EventTooLarge as exc:
            raise ForeignAnswer(str(exc)) from None
        take, discards = self.source.take, self.source.discards
        batches: list[Batch[E]] = []
        for frame in frames:
            event = take(frame)
            if event is None:
                continue
            if discards.new or not batches:
                batches.append(Batch([], discards.new))
                discards.new = []
            batches[-1].events.append(event)
        if batches or self._clock() - self._opened_at > SECONDS_MAX:
            self._patience.backoff.reset()
        return batches

    def ended(self) -> None:
        """
        The connection ended properly.

        Raises:
            StreamInterrupted: the last event did not come, and it is not to be opened again.
        """
        self.source.ended()
        if self.is_over():
            return
        if self._is_once:
            raise StreamInterrupted("the stream ended before its last event; the run goes on")
        if self.source.is_confirming:
            self.delay_seconds = 0.0
        else:
            self._wait(self._patience.backoff.next_seconds())

    def failed(self, error: ClientError) -> None:
        """
        The connection broke, or could not be opened.

        Raises:
            ClientError: it is not to be opened again: this error.
        """
        if self._is_once:
            raise error
        self._wait(self._patience.failed(error))

    def _wait(self, seconds: float) -> None:
        self.delay_seconds = max(seconds, self._asked_seconds())

    def _asked_seconds(self) -> float:
        retry_ms = self._decoder.retry_ms
        return self._retry_seconds if retry_ms is None else retry_ms / 1000
