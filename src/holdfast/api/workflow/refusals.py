"""
Errors as this API shows them: `{"detail": {"code", "message", …}}`, with the codes of its specification. No I/O.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from holdfast.api.http import errors as http
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.routing import Refusal
from holdfast.errors import (
    AgentNotFound,
    CapacityError,
    EndpointNotFound,
    FileNotFound,
    Forbidden,
    HoldfastError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    PolicyViolation,
    QueueFull,
    RateLimited,
    RequestError,
    RunNotFound,
    Stopping,
    StorageFull,
    StoreUnavailable,
    ThreadBusy,
    TooLarge,
    Unauthenticated,
    WebhookSecretRequired,
    WebhookUrlRefused,
)


class WorkflowRefusal(RequestError):
    """What only this API refuses; `code` is one of its specification. Nothing was changed."""

    status: ClassVar[int] = 422

    def __init__(self, code: str, message: str, *, status: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.code = code  # type: ignore[misc]  # of the instance: one class for the codes of this API alone
        self.answer_status = self.status if status is None else status


def invalid(loc: str, message: str) -> WorkflowRefusal:
    """A part of the call that does not fit."""
    return WorkflowRefusal("invalid_request", f"{loc}: {message}", errors=[{"loc": [loc], "msg": message}])


# The first class that fits decides.
_ANSWERS: Final[tuple[tuple[type[HoldfastError], int, str], ...]] = (
    (http.MalformedBody, 400, "invalid_json"),
    (http.BodyTooLarge, 413, "payload_too_large"),
    (http.UnsupportedMediaType, 415, "unsupported_media_type"),
    (http.InvalidQuery, 422, "invalid_request"),
    (http.PathNotFound, 404, "route_not_found"),
    (http.HostNotAllowed, 403, "forbidden"),
    (http.OriginNotAllowed, 403, "forbidden"),
    (http.NotReady, 503, "overloaded"),
    (http.TooManySubscribers, 429, "rate_limited"),
    (Unauthenticated, 401, "unauthorized"),
    (Forbidden, 403, "forbidden"),
    (TooLarge, 413, "payload_too_large"),
    (AgentNotFound, 404, "agent_not_found"),
    (RunNotFound, 404, "run_not_found"),
    (FileNotFound, 422, "file_not_found"),
    (EndpointNotFound, 404, "endpoint_not_found"),
    (NotFound, 404, "route_not_found"),
    (IdempotencyKeyReused, 422, "idempotency_key_reused"),
    (WebhookUrlRefused, 422, "webhook_url_refused"),
    (WebhookSecretRequired, 422, "webhook_secret_required"),
    (InvalidRequest, 422, "invalid_request"),
    (PolicyViolation, 422, "invalid_request"),
    (ThreadBusy, 409, "thread_busy"),
    (IdempotencyInProgress, 409, "idempotency_in_progress"),
    (RateLimited, 429, "rate_limited"),
    (QueueFull, 503, "overloaded"),
    (Stopping, 503, "stopping"),
    (StorageFull, 503, "overloaded"),
    (StoreUnavailable, 503, "overloaded"),
    (CapacityError, 503, "overloaded"),
)
_RETRIED: Final = ("rate_limited", "overloaded", "stopping", "idempotency_in_progress")


def answer_of(error: HoldfastError) -> tuple[int, str]:
    """The status and the code that answer an error here."""
    if isinstance(error, WorkflowRefusal):
        return error.answer_status, error.code
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            return status, code
    if isinstance(error, http.HttpError):
        return error.status, error.code
    return 500, "internal_error"


def render(error: Exception, refusal: Refusal) -> Reply:
    """An error as an answer; of one that is not ours, only the request's id is told."""
    status, code = answer_of(error) if isinstance(error, HoldfastError) else (500, "internal_error")
    if status == 500 or not isinstance(error, HoldfastError):
        message = f"The server failed at this; its log says why under {refusal.request_id}."
        detail = {"code": "internal_error", "message": message, "request_id": refusal.request_id}
        return json_reply({"detail": detail}, 500)
    facts = {name: value for name, value in error.details.items() if name not in ("code", "message")}
    if code == "invalid_request" and "errors" not in facts:
        facts = {"errors": [{"loc": [str(facts.get("field", "body"))], "msg": error.message}]}
    reply = json_reply({"detail": {"code": code, "message": error.message, **facts}}, status)
    if isinstance(error, http.MethodNotAllowed):
        return reply.with_headers((b"allow", error.allow.encode()))
    if code in _RETRIED:
        return reply.with_headers((b"retry-after", str(facts.get("retry_after") or 1).encode()))
    return reply
