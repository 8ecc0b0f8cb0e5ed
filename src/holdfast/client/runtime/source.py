"""The stream of one run: what its frames mean. No I/O."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.client.answers import failure_of
from holdfast.client.errors import ForeignAnswer, RunCancelled, StreamInterrupted
from holdfast.client.journal_source import JournalSource
from holdfast.client.runtime.events import Cancelled, Complete, Error, Gap, Restarted, RunEvent, UnknownEvent, decoder
from holdfast.client.sse import ServerSentEvent

_LAST_TYPES: Final = frozenset({"complete", "error", "cancelled"})


class RunSource(JournalSource):
    """A run's events behind a cursor, as the Runtime API streams them."""

    _PATH = "/runs/{}/events"
    _end: RunEvent | None = None

    def take(self, frame: ServerSentEvent) -> RunEvent | None:
        try:
            event = decoder.decode(frame.data)
        except msgspec.DecodeError as exc:
            raise ForeignAnswer(f"a frame that is no JSON object: {exc}") from None
        if isinstance(event, Gap):
            self._skip_to(event.first_sequence, is_rolled_back=event.reason == "rolled_back")
            return event
        if self._passed(event.run_id, event.sequence, frame):
            return None
        if isinstance(event, Restarted):
            for first, last in event.discard:
                self.discards.add(self.run_id, first, last)
        elif isinstance(event, Complete | Error | Cancelled) or (
            isinstance(event, UnknownEvent) and event.type in _LAST_TYPES
        ):
            self.is_over, self._end = True, event
        return event

    def result(self) -> Any:
        end = self._end
        if isinstance(end, Complete):
            return end.output
        if isinstance(end, Error):
            raise failure_of(end.code, end.error, end.details, run_id=self.run_id)
        if isinstance(end, Cancelled):
            raise RunCancelled(end.reason or "the run was cancelled", run_id=self.run_id)
        raise StreamInterrupted(f"the last event of run {self.run_id} was not read here; ask for its row")
