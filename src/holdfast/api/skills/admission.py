"""
What every request of this API gets before its handler: a trace, and its place within the rate of its caller.
"""

from __future__ import annotations

import secrets
from typing import Final

from holdfast.api.http.asgi import Scope, exchange_of
from holdfast.api.http.body import header
from holdfast.api.skills.refusals import wrong
from holdfast.errors import RateLimited
from holdfast.rates import Rate

RATE_SECONDS: Final = 60
TRACE_ID_MAX: Final = 128
TRACE_ID: Final = b"x-trace-id"


def enter(scope: Scope) -> None:
    """Give the request its trace: its own, where it brought one, else a new one."""
    exchange = exchange_of(scope)
    given = header(scope["headers"], TRACE_ID)
    text = "" if given is None else given.decode("latin-1")
    is_given = is_trace_id(text)
    trace_id = text if is_given else secrets.token_hex(16)
    exchange.facts["trace_id"] = trace_id
    exchange.facts["trace_is_given"] = is_given
    exchange.headers.append((TRACE_ID, trace_id.encode()))


def is_trace_id(text: str) -> bool:
    """Whether a text can be a trace: 1 to 128 printable ASCII characters."""
    return 1 <= len(text) <= TRACE_ID_MAX and all(" " <= character <= "~" for character in text)


def admit(scope: Scope) -> Exception | None:
    """Count the request within the rate of its caller; what refuses it comes back, or None."""
    exchange = exchange_of(scope)
    count = exchange.services.settings.skills_rate_limit
    if count is not None:
        refused = _counted(scope, Rate(count, RATE_SECONDS))
        if refused is not None:
            return refused
    if header(scope["headers"], TRACE_ID) is not None and not exchange.facts["trace_is_given"]:
        return wrong("x-trace-id", f"1 to {TRACE_ID_MAX} printable ASCII characters")
    return None


def _counted(scope: Scope, rate: Rate) -> Exception | None:
    exchange = exchange_of(scope)
    grant, services = exchange.grant, exchange.services
    rates = services.rates
    client = scope.get("client")
    who = ("address", client[0] if client else "") if services.authenticator.is_open else ("key", grant.hash)
    refused: Exception | None = None
    try:
        rates.take(who, rate)
    except RateLimited as error:
        seconds = error.details["retry_after"]
        refused = RateLimited(
            f"This key may make {rate.count} calls in {rate.seconds} s; try again in {seconds} s.", retry_after=seconds
        )
    left, wait = rates.left(who, rate)
    reset = services.clock.now() / 1_000_000 + wait
    exchange.headers += [
        (b"x-ratelimit-limit", b"%d" % rate.count),
        (b"x-ratelimit-remaining", b"%d" % left),
        (b"x-ratelimit-reset", b"%d" % int(reset + 0.999)),
    ]
    return refused
