"""
Errors as this API shows them: `{"error": {code, message, type, status}, "trace_id", "run_id"?}`. No I/O.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.agents.skill.forking import ForkConflict
from holdfast.api.http import errors as http
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.routing import Refusal
from holdfast.api.skills.codes import STATUSES, error_of
from holdfast.errors import (
    CapacityError,
    ConflictError,
    Forbidden,
    HoldfastError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InterruptAmbiguous,
    InterruptNotFound,
    InterruptResolved,
    InvalidInput,
    NotFound,
    RateLimited,
    RequestError,
    RunFinished,
    Stopping,
    TooLarge,
    Unauthenticated,
)

# With `skills_legacy_status_200`, what keeps its own status on the calls that answer everything else with 200.
_NEVER_200: Final = frozenset({400, 401, 413, 429})
# Of these only the code is ours.
_OWN_STATUS: Final = (http.BadHttp, http.BodyTimeout, http.UnsupportedMediaType)
_RETRIED: Final = frozenset({"rate_limited", "shutting_down", "overloaded"})


class SkillsRefusal(RequestError):
    """What this API refuses by itself. Nothing was changed. `error` is what is shown of it."""

    def __init__(self, code: str, message: str, *, status: int | None = None, type: str | None = None, **facts: Any):
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # of the instance: one class for the codes of this API alone
        self.error = error_of(code, message, status=status, type=type) | facts


def wrong(field: str, expected: str) -> SkillsRefusal:
    """A part of the call, other than an input, that does not fit."""
    return SkillsRefusal("invalid_request", f"{field}: {expected}.", status=400, field=field)


def wrong_inputs(misfits: Sequence[tuple[str, str]]) -> SkillsRefusal:
    """Inputs that do not fit what is declared: of each its name and what is wrong with it."""
    field, what = misfits[0]
    fields = [{"field": name, "message": message} for name, message in misfits]
    message = f"Input '{field}' {what if what.startswith('must ') else f'is {what}'}."
    return SkillsRefusal("invalid_request", message, type="InvalidInputError", field=field, fields=fields)


# The first class that fits decides. `None` for a status: that of the code.
_ANSWERS: Final[tuple[tuple[type[HoldfastError], str, int | None], ...]] = (
    (http.BodyTooLarge, "payload_too_large", None),
    (http.MalformedBody, "invalid_request", 400),
    (http.InvalidQuery, "invalid_request", 400),
    (http.PathNotFound, "not_found", None),
    (http.NotEnabled, "not_found", None),
    (http.MethodNotAllowed, "method_not_allowed", None),
    (http.HostNotAllowed, "forbidden", None),
    (http.OriginNotAllowed, "forbidden", None),
    (http.NotReady, "overloaded", None),
    (http.TooManySubscribers, "rate_limited", None),
    (Unauthenticated, "unauthorized", None),
    (Forbidden, "forbidden", None),
    (TooLarge, "payload_too_large", None),
    (InvalidInput, "invalid_request", 422),
    (InterruptNotFound, "not_found", None),
    (NotFound, "not_found", None),
    (IdempotencyKeyReused, "invalid_request", 422),
    (IdempotencyInProgress, "idempotency_conflict", None),
    (InterruptResolved, "already_answered", None),
    (InterruptAmbiguous, "interrupt_ambiguous", None),
    (RunFinished, "already_finished", None),
    (ForkConflict, "fork_conflict", None),
    (ConflictError, "idempotency_conflict", None),
    (RateLimited, "rate_limited", None),
    (Stopping, "shutting_down", None),
    (CapacityError, "overloaded", None),
    (RequestError, "invalid_request", 400),
)


def error_shown(error: Exception) -> dict[str, Any]:
    """An exception as the error of an answer; of one that is not ours, nothing is told."""
    if isinstance(error, SkillsRefusal):
        return error.error
    if isinstance(error, HoldfastError):
        for kind, code, status in _ANSWERS:
            if isinstance(error, kind):
                return _shown(error, code, error.status if isinstance(error, _OWN_STATUS) else status)
        if error.code in ("storage_full", "store_unavailable"):
            return error_of("overloaded", error.message)
    return error_of("internal_error", "The server failed at this; its log says why.")


def _shown(error: HoldfastError, code: str, status: int | None) -> dict[str, Any]:
    shown = error_of(code, error.message, status=status)
    field = error.details.get("field")
    if isinstance(field, str):
        shown["field"] = field
    shown |= {name: error.details[name] for name in ("interrupt_ids", "step_id") if name in error.details}
    if isinstance(error, IdempotencyInProgress):
        shown["reason"] = error.details["reason"]
    return shown


def render(error: Exception, refusal: Refusal) -> Reply:
    """An error as an answer."""
    shown = error_shown(error)
    status = shown["status"]
    trace_id = refusal.facts.get("trace_id") or secrets.token_hex(16)
    body: dict[str, Any] = {"error": shown, "trace_id": trace_id}
    run_id = refusal.facts.get("run_id")
    if run_id is not None:
        body["run_id"] = run_id
    if refusal.facts.get("is_legacy") and not _keeps_status(shown):
        status = 200
    reply = json_reply(body, status)
    if "trace_id" not in refusal.facts:
        reply = reply.with_headers((b"x-trace-id", trace_id.encode()))
    if isinstance(error, http.MethodNotAllowed):
        return reply.with_headers((b"allow", error.allow.encode()))
    seconds = error.details.get("retry_after") if isinstance(error, HoldfastError) else None
    if shown["code"] in _RETRIED or (isinstance(error, IdempotencyInProgress) and seconds):
        return reply.with_headers((b"retry-after", str(seconds or 1).encode()))
    return reply


def _keeps_status(shown: Mapping[str, Any]) -> bool:
    return shown["status"] in _NEVER_200 or shown["code"] in ("forbidden", "shutting_down", "overloaded")


__all__ = ["STATUSES", "SkillsRefusal", "error_shown", "render", "wrong", "wrong_inputs"]
