"""Rates: any window of the given length, not one that begins on the hour."""

from __future__ import annotations

import random

import pytest

from holdfast.clock import HeldClock
from holdfast.errors import RateLimited
from holdfast.rates import Rate, RateLimiter, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/hour", Rate(100, 3600)),
        ("100/h", Rate(100, 3600)),
        ("5/second", Rate(5, 1)),
        ("5/s", Rate(5, 1)),
        ("60/m", Rate(60, 60)),
        ("60/minute", Rate(60, 60)),
        ("1/d", Rate(1, 86400)),
        ("1/day", Rate(1, 86400)),
    ],
)
def test_a_rate_is_a_count_and_a_window(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "100", "0/hour", "-1/h", "1.5/h", "100/week", "100/hours", "١/h", "100 / hour"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no rate"):
        parse_rate(text)


def test_no_window_of_any_start_holds_more_starts_than_allowed() -> None:
    clock, chance, rate = HeldClock(), random.Random(7), Rate(5, 60)
    limiter = RateLimiter(clock)
    let_in: list[float] = []

    for _ in range(2000):
        clock.advance(chance.choice([0.0, 0.5, 3.0, 11.0]))
        now = clock.monotonic()
        # The naive answer: count what is inside the window that ends now.
        may = sum(1 for at in let_in if at > now - rate.seconds) < rate.count
        try:
            limiter.take("somebody", rate)
        except RateLimited:
            assert not may
        else:
            assert may
            let_in.append(now)

    assert len(let_in) > 100


def test_after_the_time_that_is_told_one_more_may_start() -> None:
    clock, rate = HeldClock(), Rate(1, 60)
    limiter = RateLimiter(clock)
    limiter.take("somebody", rate)
    clock.advance(12.5)

    with pytest.raises(RateLimited) as refused:
        limiter.check("somebody", rate)
    clock.advance(refused.value.details["retry_after"])

    assert refused.value.details["retry_after"] == 48
    limiter.take("somebody", rate)


def test_callers_do_not_share_a_rate() -> None:
    limiter = RateLimiter(HeldClock())
    limiter.take("one", Rate(1, 60))

    limiter.take("other", Rate(1, 60))


def test_a_start_that_came_to_nothing_does_not_count() -> None:
    limiter = RateLimiter(HeldClock())

    limiter.take("somebody", Rate(1, 60)).undo()

    limiter.take("somebody", Rate(1, 60))


def test_callers_that_are_gone_are_forgotten() -> None:
    clock = HeldClock()
    limiter = RateLimiter(clock)
    for number in range(1500):
        limiter.take(number, Rate(1, 60))
        clock.advance(1)

    assert len(limiter._starts) < 600
