"""When the next attempt of a delivery is due, and when an endpoint is given up. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

MICROSECONDS: Final = 1_000_000
_HOUR: Final = 3600.0

# Seconds in front of each attempt, from the end of the one before it.
DELAYS: Final = (0.0, 5.0, 300.0, 1800.0, *(hours * _HOUR for hours in (2, 5, 10, 14, 20, 24)))
SPREAD: Final = 0.2
RETRY_AFTER_SECONDS_MAX: Final = 24 * _HOUR

# An endpoint is given up when so many attempts in a row failed over so long a time.
FAILURES_MAX: Final = 20
FAILING_SECONDS: Final = 24 * _HOUR


def next_attempt(tries: int, now: int, retry_after: float | None, jitter: Callable[[], float]) -> int | None:
    """
    When to try again after `tries` attempts, the last of which ended now; None: never.

    What the receiver asks for only lengthens the delay.
    """
    if tries >= len(DELAYS):
        return None
    seconds = DELAYS[tries] * (1 - SPREAD + 2 * SPREAD * jitter())
    if retry_after is not None:
        seconds = max(seconds, min(retry_after, RETRY_AFTER_SECONDS_MAX))
    return now + int(seconds * MICROSECONDS)


def is_given_up(failures: int, failing_since: int | None, now: int) -> bool:
    """Whether an endpoint that failed so often in a row, since then, is sent nothing any more."""
    return (
        failures >= FAILURES_MAX and failing_since is not None and now - failing_since >= FAILING_SECONDS * MICROSECONDS
    )


def retry_after_of(value: str | None, now: int) -> float | None:
    """The seconds that a header Retry-After asks for: a number of them, or a date; None: it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,10}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return max(0.0, date.timestamp() - now / MICROSECONDS)
