"""
Time that a test lets pass: the clock and the timers of a fake server, both put forward by the same seconds.

Nothing is made up but the start of the count: between two steps time goes on as it does, and a timer that is due in an
hour is due at once when an hour was let pass.
"""

from __future__ import annotations

import asyncio
import sys

from holdfast.clock import SystemClock

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class ForwardClock(SystemClock):
    """The machine's clocks, ahead by `ahead` seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> int:
        return super().now() + int(self.ahead * 1_000_000)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class ForwardLoop(_Loop):
    """An event loop whose timers go by such a clock."""

    def __init__(self, clock: ForwardClock) -> None:
        self._ahead_clock = clock
        super().__init__()

    def time(self) -> float:
        return super().time() + self._ahead_clock.ahead
