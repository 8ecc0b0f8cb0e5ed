"""
Where two runs differ: the events of a recording, beside what a replay shows.

Not compared are ids and times, what a step emitted (a replay does not execute it), what a restart made void, and what the
run did not do by itself: how it was cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.model.encoding import parse_canonical_time

# What differs between two executions of the same.
_VOLATILE: Final = frozenset(
    {
        "id",
        "run_id",
        "sequence",
        "timestamp",
        "request_id",
        "interrupt_id",
        "expires_at",
        "duration_ms",
        "latency_seconds",
        "caller",
        "message_id",
        "user_message_id",
        "retry_at",
    }
)
# Facts of one process, not of the agent.
UNCOMPARED: Final = frozenset({"started", "restarted"})

# So much of a value is shown, around the place where it differs.
_BEFORE: Final = 60
_SHOWN: Final = 300


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place at which a replay is not the recording."""

    place: int  # in the recorded events that were compared
    sequence: int | None  # of the recorded event there; None: the recording has no more
    expected: dict[str, Any] | None
    found: dict[str, Any] | None

    def __str__(self) -> str:
        where = "behind the recorded end" if self.sequence is None else f"at event {self.sequence}"
        expected, found = _told(self.expected), _told(self.found)
        start = _first_shown(expected, found)
        return f"{where}: expected {_part(expected, start)}, found {_part(found, start)}"


class Expected(msgspec.Struct, frozen=True):
    """A recorded event that a replay may show, or, if a step emitted it or may have, may not."""

    event: dict[str, Any]
    is_optional: bool


def expected_of(
    events: Sequence[dict[str, Any]], windows: Sequence[tuple[int, int]], steps: set[str]
) -> list[Expected]:
    """
    The recorded events that a replay may show, in their order.

    Args:
        windows: the times, first and last, at which a step was at work.
        steps: the keys of the recorded steps.
    """
    void: set[int] = set()
    for event in events:
        for first, last in event.get("discard", ()) if event["type"] == "restarted" else ():
            void.update(range(first, last + 1))
    return [
        Expected(event, event.get("step") in steps or _is_inside(parse_canonical_time(event["timestamp"]), windows))
        for event in events[: _own_end(events)]
        if event["type"] not in UNCOMPARED and event["sequence"] not in void
    ]


def _own_end(events: Sequence[dict[str, Any]]) -> int:
    """How many events there were up to the cancellation: what comes then is not the agent's doing."""
    end = len(events)
    while end and (events[end - 1]["type"] == "cancelled" or events[end - 1].get("by") == "cancelled"):
        end -= 1
    return end


def _is_inside(at: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(first <= at <= last for first, last in windows)


def step_on(expected: Sequence[Expected], place: int, found: dict[str, Any]) -> tuple[int, Difference | None]:
    """The place behind the recorded event that this one is, or the difference."""
    at = place
    while at < len(expected):
        if is_same(expected[at].event, found):
            return at + 1, None
        if not expected[at].is_optional:
            break
        at += 1
    event = expected[at].event if at < len(expected) else None
    sequence = None if event is None else event["sequence"]
    return place, Difference(place=at, sequence=sequence, expected=event, found=found)


def missing(expected: Sequence[Expected], place: int) -> Difference | None:
    """What a replay that is over should have shown."""
    for at in range(place, len(expected)):
        if not expected[at].is_optional:
            event = expected[at].event
            return Difference(place=at, sequence=event["sequence"], expected=event, found=None)
    return None


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return _stable(one) == _stable(other)


def _stable(event: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name not in _VOLATILE}
    if kept["type"] in ("interrupt", "tool_result", "tool_call"):
        # Ids of calls that the server gives are new each time.
        kept.pop("tool_call_id", None)
    if "tool_calls" in kept:
        kept["tool_calls"] = [{"tool": call["tool"], "input": call["input"]} for call in kept["tool_calls"]]
    if isinstance(details := kept.get("details"), dict):
        kept["details"] = {name: value for name, value in details.items() if name not in (*_VOLATILE, "tool_call_id")}
    return kept


def _told(event: dict[str, Any] | None) -> str:
    return "the end" if event is None else msgspec.json.encode(_stable(event)).decode()


def _first_shown(one: str, other: str) -> int:
    """Where both begin to be shown, so that the place where they differ is among what is shown."""
    same = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)
    return same - _BEFORE if same > _SHOWN - _BEFORE else 0


def _part(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{shown}{'…' if start + _SHOWN < len(text) else ''}"
