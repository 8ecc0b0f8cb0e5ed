"""
Whether an exported journal is whole: the hash chain computed anew, from the file alone. No I/O, no store, no server.

    {"kind":"journal","format":1,"run_id":…,"prior":<hash before the first segment>}
    {"id":"evt_0",…}                                        the events, byte for byte
    {"kind":"segment","first":0,"last":0,"hash":…}          behind the events of each segment
    {"kind":"end","status":…,"tail_sequence":0}

A segment's hash is SHA-256 over the 32 raw bytes of the hash before it and its event lines with their LF. The line
`end` must be there, so a file that was cut off is not taken for a shorter journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

FORMAT = 1


class Checked(msgspec.Struct, frozen=True):
    """What was found. `problem` says it for people; `first_bad_sequence` is the first event that cannot be trusted."""

    run_id: str | None
    ok: bool
    events: int
    segments: int
    hash: str
    status: str | None = None
    problem: str | None = None
    first_bad_sequence: int | None = None


class _Bad(Exception):
    pass


def check_export(lines: Iterable[bytes]) -> Checked:
    """Read the lines of an export, each with its LF, and say whether they are what the server stored."""
    check = _Check()
    try:
        for line in lines:
            check.read(line)
        check.end()
    except _Bad as bad:
        return check.result(str(bad))
    return check.result(None)


class _Check:
    def __init__(self) -> None:
        self._run_id: str | None = None
        self._chained = b""
        self._hash = hashlib.sha256()
        self._next: int | None = None  # the sequence that the next segment must begin with
        self._pending = 0  # event lines since the last segment
        self._events = 0
        self._segments = 0
        self._status: str | None = None

    def read(self, line: bytes) -> None:
        if self._status is not None:
            raise _Bad("something follows the line that ends the export")
        if not line.endswith(b"\n"):
            raise _Bad("the last line is cut off")
        if not line.startswith(b'{"kind"'):
            self._event(line)
            return
        try:
            control: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            raise _Bad(f"a control line is no JSON: {line[:60]!r}") from None
        if self._run_id is None:
            self._head(control)
        elif control.get("kind") == "segment":
            self._segment(control)
        elif control.get("kind") == "end":
            self._tail(control)
        else:
            raise _Bad(f"an unknown control line: {line[:60]!r}")

    def end(self) -> None:
        if self._run_id is None:
            raise _Bad("this is no export of a run: it is empty")
        if self._status is None:
            raise _Bad("the export is cut off: its last line is missing")

    def result(self, problem: str | None) -> Checked:
        return Checked(
            run_id=self._run_id,
            ok=problem is None,
            events=self._events,
            segments=self._segments,
            hash=self._chained.hex(),
            status=self._status,
            problem=problem,
            first_bad_sequence=None if problem is None else self._next,
        )

    def _head(self, control: dict[str, Any]) -> None:
        if control.get("kind") != "journal" or control.get("format") != FORMAT:
            raise _Bad(f"this is no export of a run in format {FORMAT}")
        try:
            self._chained = bytes.fromhex(control["prior"])
            self._run_id = str(control["run_id"])
        except (KeyError, TypeError, ValueError):
            raise _Bad("the first line lacks the run's id or the hash before the first segment") from None
        self._hash = hashlib.sha256(self._chained)

    def _event(self, line: bytes) -> None:
        if self._run_id is None:
            raise _Bad("this is no export of a run: its first line is not the head of a journal")
        self._hash.update(line)
        self._pending += 1

    def _segment(self, control: dict[str, Any]) -> None:
        first, last = control.get("first"), control.get("last")
        if not isinstance(first, int) or not isinstance(last, int) or last < first:
            raise _Bad("a segment does not say which events it holds")
        if self._next is not None and first != self._next:
            raise _Bad(f"event {self._next} is missing: the next segment begins with event {first}")
        self._next = first
        if last - first + 1 != self._pending:
            raise _Bad(f"events {first} to {last} should be {last - first + 1} lines, there are {self._pending}")
        if self._hash.hexdigest() != control.get("hash"):
            raise _Bad(f"the hash of events {first} to {last} is another: their bytes were changed")
        self._chained = self._hash.digest()
        self._hash = hashlib.sha256(self._chained)
        self._events += self._pending
        self._segments += 1
        self._pending, self._next = 0, last + 1

    def _tail(self, control: dict[str, Any]) -> None:
        if self._pending:
            raise _Bad("events stand behind the last segment")
        tail = control.get("tail_sequence")
        if self._next is not None and tail != self._next - 1:
            raise _Bad(f"the journal ended with event {tail}; the export ends with event {self._next - 1}")
        self._status = str(control.get("status"))
