"""How long to wait before trying again. No I/O and no clock: what is random is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_SECONDS: Final = 0.5
SECONDS_MAX: Final = 10.0
# Each delay is its base times something in here, so that what broke together does not come back together.
JITTER: Final = (0.5, 1.0)
# Longer than a deadline may be, nobody waits on a server's word.
RETRY_AFTER_SECONDS_MAX: Final = 24 * 3600.0

# Passing faults: the request was refused for now, or something between us and the server is out of order.
RETRYABLE: Final = frozenset({429, *range(500, 600)})


class Backoff:
    """Doubling delays with jitter. `reset` starts again from the first."""

    def __init__(
        self,
        first_seconds: float = FIRST_SECONDS,
        seconds_max: float = SECONDS_MAX,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.tries = 0
        self._first_seconds = first_seconds
        self._seconds_max = seconds_max
        self._uniform = uniform

    def reset(self) -> None:
        self.tries = 0

    def next_seconds(self, retry_after: float | None = None) -> float:
        """The delay before the next attempt; never shorter than what the server asked for."""
        # 2.0 ** 1024 overflows; the maximum is reached long before.
        base = min(self._seconds_max, self._first_seconds * 2.0 ** min(self.tries, 60))
        self.tries += 1
        delay = base * self._uniform(*JITTER)
        return delay if retry_after is None else max(delay, retry_after)


def retry_after_seconds(value: str | None, *, now: datetime | None = None) -> float | None:
    """What a Retry-After header asks for: seconds, or a date (RFC 9110, 10.2.3). None if it says nothing readable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), RETRY_AFTER_SECONDS_MAX)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # numbers that no date has
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
