"""
Time, as the kernel sees it. Everything that needs a time is given a `Clock`, so that tests can hold it.

Wall time is integer microseconds since 1970 (UTC). Durations are measured with `monotonic`, which no one can set.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the kernel asks of time."""

    def now(self) -> int:
        """Wall time in microseconds since 1970; may jump, backwards too."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class HeldClock:
    """A clock that a test holds: it stands still until it is moved."""

    def __init__(self, now: int = 1_795_219_159_000_000) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += int(seconds * 1_000_000)
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back; the monotonic one does not notice."""
        self._now -= int(seconds * 1_000_000)
