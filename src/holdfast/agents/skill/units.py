"""
One call of a step: the only one, or that of an item, a turn, a member or a gate. It is what is tried again, what is made
at most once, and what has a result on record.

    unit            key of its record         Idempotency-Key ends with
    the only call   analyze                   analyze
    an item         analyze/item:3            analyze#3
    a turn          analyze/turn:2            analyze#2
    a member        analyze/member:a.b        analyze#a.b
    a gate          <unit>/gate:pre:0         …#pre:0

A part of a key with a colon in it is no step, for the ids of steps have none; what is only for the code that is executed
again has `note:` before its name. No I/O.
"""

from __future__ import annotations

from typing import Any

from holdfast.agents.skill.failures import SkillError
from holdfast.agents.skill.model import Retry
from holdfast.execution.steps import BACKOFF_SECONDS_MAX
from holdfast.model import Failure, Step

_FAILURES = "failures"
_RETRY_AT = "retry_at"


class Unit:
    """A call, with the attempts that were made at it."""

    __slots__ = ("attempt", "began_at", "failure", "failures", "item", "key", "place", "retry_at")

    def __init__(self, key: str, *, place: str = "", item: int | str | None = None) -> None:
        self.key = key
        self.place = place  # within its step; empty: the only call
        self.item = item  # shown in the events of its attempts
        self.attempt = 1
        self.began_at = 0  # in this execution
        self.failures = 0  # attempts that failed; those that a crash ended do not count
        self.retry_at: int | None = None  # when the next attempt begins, while it waits for that
        self.failure: Failure | None = None  # of the last failed attempt

    def read(self, row: Step | None) -> Unit:
        """Take up what the row of an unfinished unit says."""
        if row is not None:
            self.attempt = row.attempts
            if row.error is not None:
                self.failure = row.error
                self.failures = row.error.details.get(_FAILURES, 0)
                self.retry_at = row.error.details.get(_RETRY_AT)
        return self

    def may_retry(self, error: SkillError, retry: Retry | None) -> bool:
        """Whether another attempt follows this failure."""
        return retry is not None and error.may_pass and self.failures + 1 < retry.max_attempts

    def fail(self, error: SkillError, retry: Retry, now: int) -> None:
        """Note a failed attempt that another one follows."""
        self.failures += 1
        seconds = min(retry.backoff_seconds * retry.backoff_multiplier ** (self.failures - 1), BACKOFF_SECONDS_MAX)
        self.retry_at = now + int(seconds * 1_000_000)
        self.failure = Failure(error.message, error.code, self._state())

    def try_again(self) -> None:
        """The next attempt begins."""
        self.attempt += 1
        self.retry_at = None
        if self.failure is not None:
            self.failure = Failure(self.failure.message, self.failure.code, self._state())

    def _state(self) -> dict[str, Any]:
        return {_FAILURES: self.failures} | ({} if self.retry_at is None else {_RETRY_AT: self.retry_at})

    @property
    def facts(self) -> dict[str, Any]:
        """What the events of its attempts say of it."""
        return {} if self.item is None else {"item": self.item}

    def part(self, name: str) -> str:
        """The key of something that belongs to it."""
        return f"{self.key}/{name}"
