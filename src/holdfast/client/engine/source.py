"""The frames of one turn, or of tasks: how the stream is opened where the reader stands, and what frames mean. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.client.answers import failure_of
from holdfast.client.engine.events import (
    EngineError,
    EngineEvent,
    ReplayGap,
    Restarted,
    ThreadLifecycle,
    UnknownEvent,
    decoder,
)
from holdfast.client.errors import ForeignAnswer, RunCancelled, StreamInterrupted
from holdfast.client.http import Request
from holdfast.client.resuming import Discards, OnDiscard
from holdfast.client.sse import ServerSentEvent

# A stream over all tasks: of so many turns it is known where their reader stands.
TURNS_MAX: Final = 10_000
# Asked again at once, a stream that ends without having brought anything so often is over.
EMPTY_CHECKS: Final = 2


class Places:
    """Where a reader stands in each turn: timestamp and sequence of its newest frame."""

    def __init__(self, discards: Discards) -> None:
        self._newest: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._behind_gap: set[str] = set()
        self._discards = discards

    def is_new(self, turn_id: str, timestamp: float, sequence: int) -> bool:
        """
        Whether a frame was not seen before; it is now.

        `error` shares its sequence with the frame behind it, so only timestamps tell frames apart.
        """
        before = self._newest.get(turn_id)
        if before is not None:
            if timestamp <= before[0]:
                return False
            if turn_id in self._behind_gap:  # what was rolled back is written anew
                self._behind_gap.discard(turn_id)
                self._discards.add(turn_id, sequence, before[1])
        elif len(self._newest) >= TURNS_MAX:
            self._newest.popitem(last=False)
        self._newest[turn_id] = (timestamp, sequence)
        return True

    def go_back(self, timestamp: float) -> None:
        """Nothing behind this time counts as seen."""
        for turn_id, (newest, sequence) in self._newest.items():
            self._newest[turn_id] = min(newest, timestamp), sequence
        self._behind_gap = set(self._newest)


class EngineSource:
    """
    Frames behind a cursor: of one turn, of a task, or of all tasks.

    Args:
        start: the request that starts the turn; its repeats are the same request. None reads what exists.
        after: a time as the API takes it, for a reader that has seen something.
        follow: False ends at the end of what is stored.
    """

    def __init__(
        self,
        start: Request | None,
        *,
        task_id: str | None,
        turn_id: str | None = None,
        after: float | str = 0,
        follow: bool = True,
        on_discard: OnDiscard | None = None,
    ) -> None:
        self.run_id = turn_id
        self.cursor: str | None = None
        self.is_over = False
        self.is_confirming = False
        self._start = start
        self._task_id = task_id
        self._is_of_turn = start is not None or turn_id is not None
        self._after = after
        self._follow = follow
        self.discards = Discards(on_discard)
        self._places = Places(self.discards)
        self._open: set[str] = set()
        self._came = False
        self._is_again = False
        self._is_check = False
        self._empty_checks = 0
        self._error: EngineError | None = None
        self._end: ThreadLifecycle | None = None

    def request(self) -> Request:
        self._came = False
        self._is_check, self.is_confirming = self.is_confirming, False
        if self._start is not None and self.run_id is None:
            return self._start
        query: dict[str, Any] = {
            "task_id": self._task_id,
            "turn_id": self.run_id if self._is_of_turn else None,
            "after": self._after or None,
            "follow": None if self._follow else 0,
        }
        # A time as Last-Event-ID asks for the answer 204 where nothing follows.
        by_time = str(self._after) if self._is_again and not self._is_of_turn else None
        return Request("GET", "/execute/replay", query, {"Last-Event-ID": self.cursor or by_time})

    def opened(self, status_code: int, headers: Mapping[str, str]) -> None:
        self.is_over = status_code == 204

    def ended(self) -> None:
        """
        A stream also ends because the server stops. So where its end may be that of what there is to read, this is asked
        again, at once: over is what brings nothing then, not even a heartbeat. (Mostly the answer is 204.)
        """
        self._empty_checks = self._empty_checks + 1 if self._is_check and not self._came else 0
        if self._start is not None:
            return
        may_be_over = not self._follow or (self.cursor is None if self._is_of_turn else not self._open)
        self.is_over = may_be_over and self._empty_checks >= EMPTY_CHECKS
        self.is_confirming = may_be_over and not self.is_over
        self._is_again = True

    def take(self, frame: ServerSentEvent) -> EngineEvent | None:
        if frame.event == "heartbeat":
            self._came = True  # somebody waits there for what comes
            return None
        try:
            event = decoder.decode(frame.data)
        except msgspec.DecodeError as exc:
            raise ForeignAnswer(f"a frame that is no JSON object: {exc}") from None
        if isinstance(event, ReplayGap):
            self._places.go_back(event.timestamp)
            if not self._is_of_turn:
                self._after, self.cursor = event.timestamp, None
            return event
        if event.turn_id:
            if not self._places.is_new(event.turn_id, event.timestamp, event.sequence):
                return None
            if self._is_of_turn:
                self.run_id = event.turn_id
        self._came = True
        if not isinstance(event, EngineError):  # it has no `id:` of its own
            self.cursor = frame.id
        if isinstance(event, Restarted):
            self.discards.add(event.turn_id, event.discard_from, event.sequence - 1)
        self._note(event)
        return event

    def result(self) -> Any:
        end, error = self._end, self._error
        if end is None:
            raise StreamInterrupted("the end of the turn was not read here")
        if end.phase == "completed":
            return end.output
        if end.reason == "cancelled":
            raise RunCancelled("the turn was cancelled", run_id=end.turn_id)
        is_its = error is not None and error.turn_id == end.turn_id
        message, details = (error.message, error.details) if error is not None and is_its else ("the turn failed", None)
        raise failure_of(end.error or "", message, details, run_id=end.turn_id)

    def _note(self, event: EngineEvent) -> None:
        if isinstance(event, EngineError):
            self._error = event
        elif isinstance(event, ThreadLifecycle) and event.is_last:
            self._end = event
            self._open.discard(event.turn_id)
            self.is_over = self._is_of_turn
        elif isinstance(event, UnknownEvent) and event.type == "thread_lifecycle":
            # Of a newer server, with fields that do not fit: what ends a turn still does.
            self.is_over = self._is_of_turn and event.get("phase") in ("completed", "errored")
        elif event.turn_id:
            self._open.add(event.turn_id)
