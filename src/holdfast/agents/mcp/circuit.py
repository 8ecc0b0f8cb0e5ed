"""A circuit breaker for each connection: after failures in a row calls fail at once for a while. No I/O."""

from __future__ import annotations

from typing import Final

from holdfast.clock import Clock
from holdfast.errors import McpConnectionFailed

FAILURES_MAX: Final = 5
OPEN_SECONDS: Final = 30.0


class Circuits:
    """Those of one process, by what they protect."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._open_until: dict[str, float] = {}

    def check(self, key: str) -> None:
        """
        Let a call pass. After the wait one failure is enough to close the way again.

        Raises:
            McpConnectionFailed: it is not tried.
        """
        left = self._open_until.get(key, 0.0) - self._clock.monotonic()
        if left > 0:
            raise McpConnectionFailed(
                f"the last {FAILURES_MAX} calls in a row failed; it is tried again in {left:.0f} s", circuit="open"
            )

    @property
    def is_failing(self) -> bool:
        """Whether the last call of any of them failed."""
        return bool(self._failures)

    def failed(self, key: str) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        if count >= FAILURES_MAX:
            self._open_until[key] = self._clock.monotonic() + OPEN_SECONDS

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
        self._open_until.pop(key, None)
