"""From an answer of the server to the error that it stands for. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.client.backoff import RETRYABLE, retry_after_seconds
from holdfast.client.errors import (
    AccessRefused,
    ApiError,
    Conflict,
    ForeignAnswer,
    IdempotencyInProgress,
    RequestRefused,
    RunFailed,
    ServerFault,
    Unavailable,
)

# What only describes the error itself, in the bodies of the Runtime API.
_OWN_MEMBERS: Final = frozenset({"type", "title", "status", "success", "detail", "error", "code"})

# Why a call under a known Idempotency-Key is refused with 409, whatever its code is on the API.
_AT_WORK: Final = "in_progress"
_OUTCOME_UNKNOWN: Final = "outcome_unknown"

# What a gateway answers in the server's place. Many do so in JSON, some of it in the shape of one of our APIs.
_OF_GATEWAYS: Final = frozenset({502, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whole. The names of `headers` are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """
        Its body, decoded.

        Raises:
            ForeignAnswer: it is no JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise self.foreign() from None

    def foreign(self) -> ForeignAnswer:
        """The error that it is no answer of a Holdfast server's."""
        shown = self.content[:200].decode(errors="replace")
        if (place := self.headers.get("location")) and 300 <= self.status_code < 400:
            shown = f"it redirects to {place}, and redirects are not followed: give the client the address that answers"
        error = ForeignAnswer(
            f"the answer is not a Holdfast server's: {shown}",
            status_code=self.status_code,
            retry_after=retry_after_seconds(self.headers.get("retry-after")),
        )
        error.is_passing = self.status_code in RETRYABLE
        return error


def error_of(answer: Answer) -> ApiError:
    """The error that an answer stands for, whichever API it comes from."""
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        body = None
    found = _parts(body) if isinstance(body, dict) else None
    if found is None:
        return answer.foreign()
    code, message, details = found
    run_id, reason = details.get("run_id"), details.get("reason")
    known = ApiError.by_code.get(code)
    of_code = known or _of_status(answer.status_code, is_of_run=run_id is not None)
    if of_code is Conflict and reason == _AT_WORK:
        of_code = IdempotencyInProgress
    error = of_code(
        message,
        code=code,
        status_code=answer.status_code,
        details=details,
        retry_after=retry_after_seconds(answer.headers.get("retry-after")),
        run_id=run_id or answer.headers.get("x-run-id"),
    )
    if answer.status_code == 409 and reason in (_AT_WORK, _OUTCOME_UNKNOWN):
        error.is_passing = reason == _AT_WORK
    elif known is None and run_id is None and answer.status_code in _OF_GATEWAYS:
        error.is_passing = True
    return error


def failure_of(code: str, message: str, details: Mapping[str, Any] | None = None, *, run_id: str | None) -> ApiError:
    """The error of a run that has failed, by what its events or its row say."""
    known = ApiError.by_code.get(code)
    return (known or RunFailed)(message, code=code, details=details, run_id=run_id)


def _parts(body: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]] | None:
    """Code, message and details of an error's body, by the shape of each API. None if it has none of them."""
    error = body.get("error")
    if isinstance(error, str) and "message" in body:  # Engine
        details = body.get("details")
        return error, str(body["message"]), details if isinstance(details, dict) else {}
    if isinstance(body.get("code"), str):  # Runtime
        details = {name: value for name, value in body.items() if name not in _OWN_MEMBERS}
        return body["code"], str(body.get("detail", "")), details
    nested = error if isinstance(error, dict) else body.get("detail")  # Skills, Workflow
    if isinstance(nested, dict) and isinstance(nested.get("code"), str):
        outside = {name: value for name, value in body.items() if name not in ("error", "detail")}
        return nested["code"].upper(), str(nested.get("message", "")), {**outside, **nested}
    return None


def _of_status(status_code: int, *, is_of_run: bool) -> type[ApiError]:
    """The branch of a code that is not known here."""
    if status_code in (401, 403):
        return AccessRefused
    if status_code == 409:
        return Conflict
    if status_code in (429, 503):
        return Unavailable
    if status_code < 500:
        return RequestRefused
    return RunFailed if is_of_run else ServerFault
