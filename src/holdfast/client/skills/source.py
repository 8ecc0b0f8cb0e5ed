"""The stream of one skill's run: what its frames mean. No I/O."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.client.answers import failure_of
from holdfast.client.errors import ForeignAnswer, StreamInterrupted
from holdfast.client.http import Request
from holdfast.client.journal_source import JournalSource
from holdfast.client.resuming import OnDiscard
from holdfast.client.skills.events import (
    Done,
    FailureData,
    Gap,
    Progress,
    Restarted,
    SafetyGateWarning,
    SkillEvent,
    StepCompleted,
    StepDegraded,
    StepFailed,
    StepSkipped,
    StepStart,
    Token,
    UnknownEvent,
    decoder,
)
from holdfast.client.skills.shown import ShownSteps
from holdfast.client.sse import ServerSentEvent

LAST_TYPE: Final = "done"


class SkillSource(JournalSource):
    """A run's frames behind a cursor, as the Skills API streams them."""

    _PATH = "/v1/runs/{}/stream"
    _end: SkillEvent | None = None

    def __init__(
        self,
        start: Request | None,
        *,
        run_id: str | None = None,
        cursor: str | None = None,
        on_discard: OnDiscard | None = None,
    ) -> None:
        super().__init__(start, run_id=run_id, cursor=cursor, on_discard=on_discard)
        self._shown = ShownSteps() if self.discards.is_wanted else None

    def take(self, frame: ServerSentEvent) -> SkillEvent | None:
        try:
            event = decoder.decode(frame.data)
        except msgspec.DecodeError as exc:
            raise ForeignAnswer(f"a frame that is no JSON object: {exc}") from None
        if isinstance(event, Gap):
            return self._behind(event)
        if self._passed(event.run_id, event.sequence, frame):
            return None
        if self._shown is not None:
            self._note(event, self._shown)
        if isinstance(event, Done) or (isinstance(event, UnknownEvent) and event.type == LAST_TYPE):
            self.is_over, self._end = True, event
        return event

    def result(self) -> Any:
        end = self._end
        if isinstance(end, Done):
            if end.status == "completed":
                return end.outputs
            told = end.error or FailureData(code="runtime_error", message="the run failed")
            raise failure_of(told.code.upper(), told.message, msgspec.to_builtins(told), run_id=self.run_id)
        raise StreamInterrupted(f"the last event of run {self.run_id} was not read here; ask for its record")

    def _note(self, event: SkillEvent, shown: ShownSteps) -> None:
        """Keep in mind what steps showed, and tell what a new beginning makes void."""
        step_id = event.step_id
        if isinstance(event, Restarted):
            for first, last in event.data.discard:
                shown.forget(first, last)
                self.discards.add(self.run_id, first, last)
        elif step_id is None or event.sequence is None:
            return
        elif isinstance(event, StepCompleted | StepSkipped | StepDegraded):
            shown.take(step_id, None)
        elif isinstance(event, StepFailed) and not event.data.will_retry:
            shown.take(step_id, event.data.item)
        elif isinstance(event, StepStart):
            item = None if event.data is None else event.data.item
            for first, last in shown.take(step_id, item):
                self.discards.add(self.run_id, first, last)
            shown.add(step_id, item, event.sequence)
        elif isinstance(event, StepFailed | Progress):
            shown.add(step_id, event.data.item, event.sequence)
        elif isinstance(event, Token | SafetyGateWarning):
            shown.add(step_id, None, event.sequence)

    def _behind(self, gap: Gap) -> Gap:
        first, is_rolled_back = gap.data.first_sequence, gap.data.reason == "rolled_back"
        last = self._skip_to(first, is_rolled_back=is_rolled_back)
        if is_rolled_back and self._shown is not None:
            self._shown.forget(first, last)
        return gap
