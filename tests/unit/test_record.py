"""What a restart makes void, and what it keeps."""

from __future__ import annotations

import msgspec

from holdfast.execution.record import Record, discarded
from holdfast.model import Interrupt, Kind, Part, Segment, Step


def step(key: str, sequence: int | None) -> Step:
    status = "running" if sequence is None else "completed"
    return Step(number=1, key=key, name=key, status=status, started_at=0, sequence=sequence)


def marks(*rows: tuple[int, int, str]) -> list[Segment]:
    return [
        Segment(number=1, first=0, last=99, first_timestamp=0, last_timestamp=0, body=b"", hash=b"", marks=tuple(rows))
    ]


def tokens(first: int, last: int) -> list[tuple[int, str]]:
    return [(sequence, "token") for sequence in range(first, last + 1)]


def test_output_behind_the_last_recorded_step_is_void() -> None:
    assert discarded(marks(), tokens(1, 9), [step("a", 5)], []) == [(6, 9)]


def test_output_of_an_unfinished_step_is_void_wherever_it_lies() -> None:
    """Two parallel steps: b finished at 8, a did not; what a said lies between b's events."""
    rows = marks((1, 3, "a"), (4, 4, "b"), (5, 6, "a"), (7, 8, "b"))

    assert discarded(rows, tokens(1, 8), [step("a", None), step("b", 8)], []) == [(1, 3), (5, 6)]


def test_a_recorded_steps_events_are_never_void() -> None:
    rows = marks((6, 9, "a"))

    assert discarded(rows, tokens(1, 9), [step("a", 9)], []) == []


def test_events_of_a_step_inside_a_recorded_step_are_kept() -> None:
    rows = marks((1, 2, "outer/inner"), (3, 4, "other/inner"))

    assert discarded(rows, tokens(1, 4), [step("outer", 4)], []) == [(3, 4)]


def test_facts_of_the_run_are_never_void() -> None:
    types = [(1, "token"), (2, "interrupt"), (3, "interrupt_resolved"), (4, "token"), (5, "restarted"), (6, "token")]

    assert discarded(marks(), types, [], []) == [(1, 1), (4, 4), (6, 6)]


def test_a_question_keeps_what_was_said_before_it() -> None:
    asked = Interrupt(
        interrupt_id="i", number=1, kind=Kind.QUESTION, step="ask", created_at=0, sequence=4, parts=(Part(),)
    )

    assert discarded(marks(), tokens(1, 6), [], [asked]) == [(5, 6)]


def test_a_record_is_replayed_until_all_of_it_was_asked_for() -> None:
    record = Record([step("a", 3), step("a/inner", 2), step("b", 7), step("c", None)])

    assert record.is_replaying
    record.consume("a")
    assert record.unconsumed == ["b"]
    record.consume("b")
    assert not record.is_replaying


def test_what_a_fork_took_over_holds_nothing_back_and_is_known_where_it_is_not_used() -> None:
    steps = [step("a", 1), step("a/inside", 2), step("b", 3)]
    record = Record([msgspec.structs.replace(one, reused=True) for one in steps])
    before = record.unused

    record.consume("a")

    assert (before, record.unused) == (["a", "a/inside", "b"], ["b"])
    assert not record.is_replaying
