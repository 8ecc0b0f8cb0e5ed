"""Errors as the CLI reads them: `{"error", "message", "details"?}`. No I/O."""

from __future__ import annotations

from typing import Any, Final

import structlog

from holdfast.api.http.errors import HttpError, MethodNotAllowed, NotReady
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.routing import Refusal
from holdfast.errors import (
    CapacityError,
    ConflictError,
    Forbidden,
    HoldfastError,
    NotFound,
    RequestError,
    StorageFull,
    StoreError,
    StoreRefused,
    TooLarge,
    Unauthenticated,
)

log = structlog.get_logger(__name__)

# The first class that fits decides.
_STATUS: Final[tuple[tuple[type[HoldfastError], int], ...]] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (RequestError, 422),
    (ConflictError, 409),
    (NotReady, 503),
    (CapacityError, 503),
    (StorageFull, 507),
    (StoreRefused, 422),
    (StoreError, 503),
)


def status_of(error: HoldfastError) -> int:
    """The status that answers an error here."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def render(error: Exception, refusal: Refusal) -> Reply:
    """An error as an answer; what is no error of ours is told to the log alone."""
    if not isinstance(error, HoldfastError):
        log.error("request_failed", path=refusal.path, request_id=refusal.request_id, exc_info=error)
        return _reply(500, "internal_error", "the server failed at this; its log says why", {})
    reply = _reply(status_of(error), error.code, error.message, error.details)
    if isinstance(error, MethodNotAllowed):
        return reply.with_headers((b"allow", error.allow.encode()))
    if isinstance(error, Unauthenticated):
        return reply.with_headers((b"www-authenticate", b"Bearer"))
    return reply


def _reply(status: int, code: str, message: str, details: dict[str, Any]) -> Reply:
    return json_reply({"error": code, "message": message, **({"details": details} if details else {})}, status)
