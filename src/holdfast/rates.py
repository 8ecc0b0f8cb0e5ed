"""
Rates: at most so many runs started in any window of so many seconds, for each caller of this process. No I/O.

The window slides: the times of the starts that still count are kept, so that no moment exists around which twice the
count fits, as it does with fixed windows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import RateLimited

SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_SHORT: Final = {name[0]: seconds for name, seconds in SECONDS.items()}
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/([a-z]+)\Z")

# Callers that started nothing for a whole window are forgotten after so many starts of others.
SWEEP_STARTS: Final = 1024


class Rate(msgspec.Struct, frozen=True):
    """At most `count` starts in any `seconds`."""

    count: int
    seconds: int

    @property
    def per_second(self) -> float:
        """By this, rates of different windows are compared."""
        return self.count / self.seconds


def parse_rate(text: str) -> Rate:
    """
    A rate as people write it: `100/hour` or `100/h`; second, minute, hour, day.

    Raises:
        ValueError
    """
    found = _RATE.match(text)
    seconds = (SECONDS.get(found[2]) or _SHORT.get(found[2])) if found else None
    if found is None or seconds is None:
        raise ValueError(f"{text!r} is no rate: write a count and second, minute, hour or day, such as 100/hour")
    return Rate(int(found[1]), seconds)


class RateLimiter:
    """The starts of all callers of one process. Used on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._starts: dict[Hashable, deque[float]] = {}
        self._until_sweep = SWEEP_STARTS
        self._window_max = 1

    def check(self, who: Hashable, rate: Rate | None) -> None:
        """
        Let a caller pass who may start one more run now; without a rate, anybody.

        Raises:
            RateLimited: `retry_after` is when the oldest start leaves the window.
        """
        if rate is None:
            return
        left, wait = self.left(who, rate)
        if left <= 0:
            raise RateLimited(
                f"this caller may start {rate.count} runs in {rate.seconds} s", retry_after=max(1, int(wait + 0.999))
            )

    def left(self, who: Hashable, rate: Rate) -> tuple[int, float]:
        """How many more starts a caller has now, and in how many seconds the oldest one that counts leaves the window."""
        starts = self._current(who, rate)
        wait = starts[0] + rate.seconds - self._clock.monotonic() if starts else 0.0
        return rate.count - len(starts), wait

    def take(self, who: Hashable, rate: Rate | None) -> Start:
        """
        Count one start; give it back with `undo` if no run came of it.

        Raises:
            RateLimited
        """
        if rate is None:
            return UNCOUNTED
        self.check(who, rate)
        self._window_max = max(self._window_max, rate.seconds)
        now = self._clock.monotonic()
        starts = self._starts.setdefault(who, deque())
        starts.append(now)
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._sweep(now)
        return Start(starts, now)

    def _current(self, who: Hashable, rate: Rate) -> deque[float]:
        starts = self._starts.get(who)
        if starts is None:
            return deque()
        oldest = self._clock.monotonic() - rate.seconds
        while starts and starts[0] <= oldest:
            starts.popleft()
        return starts

    def _sweep(self, now: float) -> None:
        self._until_sweep = SWEEP_STARTS
        oldest = now - self._window_max
        self._starts = {who: starts for who, starts in self._starts.items() if starts and starts[-1] > oldest}


class Start:
    """One start that counts."""

    __slots__ = ("_at", "_starts")

    def __init__(self, starts: deque[float], at: float) -> None:
        self._starts = starts
        self._at = at

    def undo(self) -> None:
        """It came to nothing: it does not count."""
        if self._at in self._starts:
            self._starts.remove(self._at)


UNCOUNTED: Final = Start(deque(), 0.0)
