"""
The writer of a run whose agent declares `redact_patterns`: nothing reaches the journal that matches them.

Rows of `token` or `thinking` events (adjacent, of one step) go through a `Row`, which holds back what a match may still
come from. A row ends with any other event, with a step's record, and with the run. Of other events every text that
comes from an agent, a tool or a caller is looked at whole; ids, times and counts of the server are not.

With `halt` a match is not replaced: what holds it is not written, `on_match` is called, and writing raises
PolicyViolation from then on. The last words of the run are still written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import PolicyViolation
from holdfast.execution.redaction import Redactor, Row
from holdfast.journal import Journal
from holdfast.journal.writer import Writer
from holdfast.model import Interrupt, Message, Run, Step
from holdfast.model.encoding import CANONICAL_TYPES, encode_fields

_ROW_TYPES: Final = frozenset({"token", "thinking"})
# The execution has seen to these itself: the run's row keeps the same.
_CLEAN_TYPES: Final = frozenset({"complete", "error"})
# What may still be written after a match that halts.
_LAST_TYPES: Final = frozenset({"error", "cancelled", "interrupt_resolved"})

# Of canonical events, the fields whose texts are not the server's own.
_FIELDS: Final = frozenset(
    {"step", "message", "content", "input", "output", "error", "name", "data", "question", "choices", "default"}
    | {"reason", "answer", "note", "blocks", "item", "node", "input_keys", "output_keys", "summary"}
)
_FILE_MEMBERS: Final = {"file", "bytes", "sha256"}


class GuardedWriter(Writer):
    """See `Writer`; what is written is clean."""

    def __init__(
        self, journal: Journal, run: Run, redactor: Redactor, *, halt: bool, on_match: Callable[[], None]
    ) -> None:
        super().__init__(journal, run)
        self._redactor = redactor
        self._halt = halt
        self._on_match = on_match
        self._is_halted = False
        self._order = threading.RLock()  # what is held back must be written before what comes after it
        self._row: Row | None = None
        self._row_of: tuple[str, str, str | None] = ("", "", None)  # type, other fields, step

    @property
    def next_sequence(self) -> int:
        """The sequence that the next event will get; asking for it ends the row."""
        self.end_row()
        return super().next_sequence

    def token(self, content: str, mark: str | None = None) -> int:
        with self._order:
            self._say("token", {}, content, mark)
            return super().next_sequence - 1

    def append(self, name: str, own: str, mark: str | None = None) -> str | None:
        with self._order:
            if name in _ROW_TYPES:
                self._say_event(name, own, mark)
                return None
            self.end_row()
            return super().append(name, self._clean(name, own), mark)

    def write(
        self,
        *events: tuple[str, str],
        mark: str | None = None,
        steps: Sequence[Step] = (),
        interrupts: Sequence[Interrupt] = (),
        messages: Sequence[Message] = (),
        **rest: Any,
    ) -> int:
        with self._order:
            if len(events) == 1 and events[0][0] in _ROW_TYPES and not (steps or interrupts or messages or rest):
                self._say_event(*events[0], mark)
                return super().next_sequence - 1
            # A fact that only tells of the inbox or the status stands between no two events.
            if events or steps or interrupts or messages or "release" in rest:
                is_last = "release" in rest or any(name in _LAST_TYPES for name, _ in events)
                self._end_row(is_last=is_last)
            clean = [(name, self._clean(name, own)) for name, own in events]
            return super().write(*clean, mark=mark, steps=steps, interrupts=interrupts, messages=messages, **rest)

    def end_row(self) -> None:
        with self._order:
            self._end_row(is_last=False)

    def _end_row(self, *, is_last: bool) -> None:
        """Give out what is held back; where the run's last words follow, a match that halts is dropped in silence."""
        row, self._row = self._row, None
        if row is None:
            return
        text = row.end()
        if not (is_last and self._halt and row.has_matched):
            self._give(row, text)

    def _say_event(self, name: str, own: str, mark: str | None) -> None:
        fields = _decoded(own)
        content = fields.pop("content", "")
        reason = fields.pop("finish_reason", None)
        self._say(name, fields, content, mark)
        if reason is not None:
            row, self._row = self._row, None
            text = row.end() if row is not None else ""
            self._give(row, text, {**fields, "finish_reason": reason}, is_needed=True)

    def _say(self, name: str, fields: dict[str, Any], content: str, mark: str | None) -> None:
        row_of = (name, encode_fields(fields), mark)
        if self._row is None or row_of != self._row_of:
            self.end_row()
            self._row, self._row_of = Row(self._redactor), row_of
        self._refuse_if_halted(name)
        row = self._row
        assert row is not None
        self._give(row, row.feed(content))

    def _give(
        self, row: Row | None, text: str, fields: dict[str, Any] | None = None, *, is_needed: bool = False
    ) -> None:
        name, own, mark = self._row_of
        if self._halt and row is not None and row.has_matched:
            self._violated(name)
        elif (text or is_needed) and not self._is_halted:
            own = own if fields is None else encode_fields(fields)
            super().append(name, encode_fields({"content": text}) + own, mark)

    def _clean(self, name: str, own: str) -> str:
        """An event's own fields without matches."""
        self._refuse_if_halted(name)
        if name in _CLEAN_TYPES or not own:
            return own
        clean = clean_fields(self._redactor, name, own)
        if clean is not own and self._halt and name not in _LAST_TYPES:
            self._violated(name)
        return clean

    def _violated(self, name: str) -> None:
        self._row = None
        if not self._is_halted:
            self._is_halted = True
            self._on_match()
        self._refuse_if_halted(name)

    def _refuse_if_halted(self, name: str) -> None:
        if self._is_halted and name not in _LAST_TYPES:
            raise violation()


def clean_fields(redactor: Redactor, name: str, own: str) -> str:
    """An event's own fields without matches; the same object if there are none."""
    fields = _decoded(own)
    if name in CANONICAL_TYPES:
        clean = {key: _clean_field(redactor, key, value) for key, value in fields.items()}
    else:
        clean = redactor.value(fields)
    return own if clean == fields else encode_fields(clean)


def _clean_field(redactor: Redactor, key: str, value: Any) -> Any:
    if key == "tool_calls":
        return [{**call, "input": redactor.value(call.get("input"))} for call in value]
    return redactor.value(value) if key in _FIELDS and not _is_file(value) else value


def clean_interrupt(redactor: Redactor, interrupt: Interrupt) -> Interrupt:
    """An interrupt as it is kept and shown. Defaults stay: the code gets them, and their event is looked at."""
    parts = tuple(msgspec.structs.replace(part, input=_clean_json(redactor, part.input)) for part in interrupt.parts)
    choices = interrupt.choices
    return msgspec.structs.replace(
        interrupt,
        parts=parts,
        question=interrupt.question and redactor.text(interrupt.question),
        choices=None if choices is None else tuple(redactor.text(choice) for choice in choices),
        input=_clean_json(redactor, interrupt.input),
    )


def clean_step(redactor: Redactor, step: Step) -> Step:
    """A step as it is shown. Its row keeps the result as it is: the code gets that again."""
    error = step.error
    if error is not None:
        error = msgspec.structs.replace(
            error, message=redactor.text(error.message), details=redactor.value(error.details)
        )
    return msgspec.structs.replace(step, output=_clean_json(redactor, step.output), error=error)


def _clean_json(redactor: Redactor, data: Any) -> Any:
    return redactor.json(data) if data else data


def violation() -> PolicyViolation:
    """What ends a run that said what it must not."""
    return PolicyViolation("what the run was about to say matches a pattern of redact_patterns (halt_on_violation)")


def _decoded(own: str) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode("{" + own.removeprefix(",") + "}")
    return fields


def _is_file(value: Any) -> bool:
    """A large value's place in an event; the value was looked at before it was kept."""
    return isinstance(value, dict) and value.keys() == _FILE_MEMBERS
