"""
A step while it is under way: its attempts, its events and its row. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.errors import ExecutionError, HoldfastError, OutcomeUnknown, StepFailed
from holdfast.execution.codec import decode_result
from holdfast.model import Failure, Step
from holdfast.model.encoding import encode_fields, format_time

BACKOFF_SECONDS_MAX = 60.0
# Of what an exception says: an event has its limit, and whoever reads on needs no more to find the place.
MESSAGE_CHARACTERS_MAX = 64 * 1024


class NotRetryable(ExecutionError):
    """Raised by a step's function: no further attempt will help."""


class Retry(msgspec.Struct, frozen=True):
    """How often a step is tried, and how long it waits in between."""

    attempts: int
    backoff_seconds: float
    backoff_multiplier: float

    def allows(self, attempt: int, exc: Exception) -> bool:
        """Whether another attempt follows the failed attempt of this number."""
        return attempt < self.attempts and not isinstance(exc, NotRetryable)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt of this number."""
        return min(self.backoff_seconds * self.backoff_multiplier ** (attempt - 1), BACKOFF_SECONDS_MAX)


class OpenStep:
    """A step whose result is not recorded yet."""

    __slots__ = ("at_most_once", "attempt", "is_settled", "key", "name", "result", "started_at", "visible")

    def __init__(self, key: str, name: str, attempt: int, at_most_once: bool, visible: bool, now: int) -> None:
        self.key, self.name, self.attempt = key, name, attempt
        self.at_most_once, self.visible, self.started_at = at_most_once, visible, now
        self.is_settled = False
        self.result: Any = None

    def settle(self, result: Any) -> None:
        """A person gave the result."""
        self.is_settled, self.result = True, result

    def row(
        self,
        number: int,
        *,
        status: str = "running",
        now: int | None = None,
        output: bytes | None = None,
        error: Failure | None = None,
    ) -> Step:
        """What the store keeps of it."""
        return Step(
            number=number,
            key=self.key,
            name=self.name,
            status=status,
            attempts=self.attempt,
            at_most_once=self.at_most_once,
            started_at=self.started_at,
            completed_at=now,
            output=output,
            error=error,
        )

    def started_events(self) -> list[tuple[str, str]]:
        """The events of a beginning attempt; none for a step that is not shown."""
        return self._event("step_started", {"step": self.key, "attempt": self.attempt, "message": ""})

    def completed_events(self, now: int, output: Any, facts: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        fields = {"step": self.key, "attempt": self.attempt, "message": "", "output": output}
        duration = max(now - self.started_at, 0) / 1000
        return self._event("step_completed", {**fields, "duration_ms": duration, **(facts or {})})

    def failed_events(self, failure: Failure, retry_at: int | None) -> list[tuple[str, str]]:
        """The events of a failed attempt."""
        fields: dict[str, Any] = {"step": self.key, "attempt": self.attempt, "message": "", "error": failure.message}
        fields |= {"code": failure.code, "will_retry": retry_at is not None}
        if retry_at is not None:
            fields["retry_at"] = format_time(retry_at)
        return self._event("step_failed", fields)

    def _event(self, type: str, fields: dict[str, Any]) -> list[tuple[str, str]]:
        return [(type, encode_fields(fields))] if self.visible else []


def failure_of(exc: BaseException) -> Failure:
    """What is kept of an exception: its type and text, which may be cut, never its traceback."""
    if isinstance(exc, HoldfastError):
        return Failure(_cut(exc.message), exc.code, _shown(exc.details))
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001  its author wrote that, too
        text = ""
    return Failure(_cut(f"{type(exc).__name__}: {text}" if text else type(exc).__name__), "agent_execution_error")


def _shown(details: dict[str, Any]) -> dict[str, Any]:
    """Of an error that agent code made: what is no JSON cannot be kept."""
    try:
        encode_fields(details)
    except Exception:  # noqa: BLE001  whatever its values do when they are looked at
        return {}
    return details


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_CHARACTERS_MAX else message[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def raise_recorded(step: Step) -> Any:
    """The recorded result of a step; its recorded failure is raised."""
    if step.status == "failed":
        failure = step.error or Failure("it failed", "agent_execution_error")
        if failure.code == OutcomeUnknown.code:
            raise OutcomeUnknown(failure.message, **failure.details)
        raise StepFailed(failure.message, **{**failure.details, "step": step.key})
    return None if step.output is None else decode_result(step.output)
