"""
When a provider fails: which code that is, and whether to try again. No I/O.

A request is tried ATTEMPTS times within ATTEMPT_SECONDS of its first failure: after the time that the provider names if that fits, else after
1, 2, 4, 8 seconds and up to a quarter more, so that many turns do not come back at the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import httpx2
import msgspec
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)
from pydantic_ai.models import Model
from pydantic_ai.models.wrapper import WrapperModel

from holdfast.agents.models.failures import (
    ContextOverflow,
    ModelFailed,
    ModelRateLimited,
    ModelTimedOut,
    model_failure,
)

ATTEMPTS = 5
ATTEMPT_SECONDS = 120.0
# A provider that sends nothing for so long will not send anything any more.
SILENCE_SECONDS = 120.0


# Adapters whose clients know how long nothing came, of which not each byte makes an event: a sign of life is one, too.
_COUNT_BYTES: Final = frozenset({"AnthropicModel", "OpenAIChatModel", "OpenAIResponsesModel", "GroqModel"})


def counts_bytes(model: Model[Any]) -> bool:
    """Whether the client of this model ends a stream that is silent for as long as the setting `timeout` says."""
    while isinstance(model, WrapperModel):
        model = model.wrapped
    return any(base.__name__ in _COUNT_BYTES for base in type(model).__mro__)


class CutOff(Exception):
    """The provider's stream ended before its response did."""


PROVIDER_ERRORS = (
    ModelAPIError,
    UnexpectedModelBehavior,
    CutOff,
    TimeoutError,
    httpx2.TransportError,
    httpx2.StreamError,
    ConnectionError,
)
"""What a request may raise because of the provider; anything else is a fault of ours."""


# The first that fits: what an exception is, its code, and whether the same request may succeed later.
_MEANINGS: Sequence[tuple[tuple[type[Exception], ...], str, bool]] = (
    ((ModelContextWindowExceededError,), ContextOverflow.code, False),
    ((ModelQuotaExceededError,), ModelFailed.code, False),
    ((ModelRateLimitError,), ModelRateLimited.code, True),
    ((ModelTimeoutError, ModelRequestTimeout, TimeoutError, httpx2.TimeoutException), ModelTimedOut.code, True),
    ((ModelRequestRejectedError, UnexpectedModelBehavior), ModelFailed.code, False),
)


# How servers word it that the model library does not know: llama.cpp, vLLM, LM Studio, gateways.
_OVERFLOW: Final = re.compile(
    r"context (length|window|size)|context_length|(prompt|input|request) (is|was) too (long|large)|too many (input )?tokens",
    re.IGNORECASE,
)


class ProviderFailure(msgspec.Struct, frozen=True):
    """A failed request, as it is recorded."""

    code: str
    message: str
    retry_after: float | None = None
    may_pass: bool = False  # the same request may succeed later
    is_rejected: bool = False  # the provider did not like what is in the request

    @property
    def is_overflow(self) -> bool:
        """Whether what is asked about is too long for the model."""
        return self.code == ContextOverflow.code

    @property
    def is_about_request(self) -> bool:
        """Whether the provider did answer: it does not want this request."""
        return self.is_rejected or self.is_overflow

    def error(self) -> ModelFailed:
        """What the turn ends with."""
        details: dict[str, Any] = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return model_failure(self.code, self.message, details)


def failure_of(exc: Exception) -> ProviderFailure:
    """What an exception of a request means."""
    message = str(exc) or f"{type(exc).__name__}: the model did not answer"
    retry_after = exc.retry_after if isinstance(exc, ModelAPIError) else None
    if _is_rejected(exc) and _OVERFLOW.search(message):
        return ProviderFailure(ContextOverflow.code, message)
    for kinds, code, may_pass in _MEANINGS:
        if isinstance(exc, kinds):
            return ProviderFailure(code, message, retry_after, may_pass, is_rejected=_is_rejected(exc))
    status = exc.status_code if isinstance(exc, ModelHTTPError) else None
    if status == 429:
        return ProviderFailure(ModelRateLimited.code, message, retry_after, may_pass=True)
    if status == 413:
        return ProviderFailure(ContextOverflow.code, message)
    if status in (408, 504):
        return ProviderFailure(ModelTimedOut.code, message, retry_after, may_pass=True)
    may_pass = status is None or status >= 500
    return ProviderFailure(ModelFailed.code, message, retry_after, may_pass, is_rejected=status == 415)


def _is_rejected(exc: Exception) -> bool:
    """Whether the request itself was refused, for none of the reasons that have nothing to do with what it says."""
    others = ModelAuthenticationError, ModelNotFoundError, ModelContextWindowExceededError
    return isinstance(exc, ModelRequestRejectedError) and not isinstance(exc, others)


def wait_before_retry(failure: ProviderFailure, attempt: int, elapsed: float, jitter: float) -> float | None:
    """
    Seconds to wait after the failed attempt of this number (from 1); None: give up.

    Args:
        elapsed: seconds since the first failure.
        jitter: 0 up to 1.
    """
    left = ATTEMPT_SECONDS - elapsed
    if not failure.may_pass or attempt >= ATTEMPTS or left <= 0:
        return None
    if failure.retry_after is not None and failure.retry_after <= left:
        return failure.retry_after
    wait = 2.0 ** (attempt - 1) * (1 + jitter / 4)
    return wait if wait <= left else None
