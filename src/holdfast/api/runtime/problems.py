"""Errors as the Runtime API shows them: `application/problem+json`, with the code in upper case. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from holdfast.api.http.asgi import Header
from holdfast.api.http.errors import HttpError, MalformedBody, MethodNotAllowed, UpgradeRequired
from holdfast.api.http.reply import Reply
from holdfast.api.http.routing import Refusal
from holdfast.errors import HoldfastError, IdempotencyInProgress

MEDIA_TYPE: Final = b"application/problem+json"

# What the journal and the kernel call it: status and code on this API. A code that is not here is a 500 of that name.
_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (422, "VALIDATION_ERROR"),
    "webhook_url_refused": (422, "VALIDATION_ERROR"),
    "webhook_secret_required": (422, "VALIDATION_ERROR"),
    "endpoint_not_found": (404, "NOT_FOUND"),
    "invalid_answer": (422, "VALIDATION_ERROR"),
    "malformed_json": (422, "VALIDATION_ERROR"),
    "idempotency_key_reused": (422, "IDEMPOTENCY_KEY_REUSED"),
    "policy_violation": (400, "POLICY_VIOLATION"),
    "unauthorized": (401, "AUTH_ERROR"),
    "key_rotation_pending": (401, "AUTH_ERROR"),
    "forbidden": (403, "FORBIDDEN"),
    "not_found": (404, "NOT_FOUND"),
    "not_enabled": (404, "NOT_ENABLED"),
    "run_not_found": (404, "NOT_FOUND"),
    "agent_not_found": (404, "NOT_FOUND"),
    "thread_not_found": (404, "NOT_FOUND"),
    "message_not_found": (404, "NOT_FOUND"),
    "interrupt_not_found": (404, "NOT_FOUND"),
    "file_not_found": (404, "NOT_FOUND"),
    "key_not_found": (404, "NOT_FOUND"),
    "conflict": (409, "CONFLICT"),
    "idempotency_in_progress": (409, "CONFLICT"),
    "interrupt_ambiguous": (409, "CONFLICT"),
    "thread_busy": (409, "THREAD_BUSY"),
    "run_finished": (409, "RUN_FINISHED"),
    "interrupt_resolved": (409, "INTERRUPT_RESOLVED"),
    "cancelled": (409, "CANCELLED"),
    "payload_too_large": (413, "PAYLOAD_TOO_LARGE"),
    "rate_limit_exceeded": (429, "RATE_LIMIT_EXCEEDED"),
    "too_many_subscribers": (429, "TOO_MANY_SUBSCRIBERS"),
    "overloaded": (503, "SERVICE_UNAVAILABLE"),
    "stopping": (503, "SERVICE_UNAVAILABLE"),
    "store_unavailable": (503, "SERVICE_UNAVAILABLE"),
    "migration_required": (503, "SERVICE_UNAVAILABLE"),
    "not_ready": (503, "NOT_READY"),
    "timeout_error": (504, "TIMEOUT_ERROR"),
    "storage_full": (507, "STORAGE_FULL"),
}

_FAILURES: Final[Mapping[str, int]] = {"timeout_error": 504, "policy_violation": 400}

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")

# Python's own phrases differ from version to version.
_TITLES: Final = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}

# Details that would stand where the format has members of its own.
_RESERVED: Final = frozenset({"type", "title", "status", "success", "detail", "error", "code", "request_id", "errors"})


def status_and_code(code: str) -> tuple[int, str]:
    """The status and the name that a kernel's code has on this API."""
    return _CODES.get(code) or (500, code.upper())


def failure_status_and_code(code: str) -> tuple[int, str]:
    """
    The same of a run that failed with this code. It is a 500 but for two: that the agent's code met a missing run, or
    a busy store, says nothing about the call that started it.
    """
    return _FAILURES.get(code, 500), code.upper()


def render(error: Exception, refusal: Refusal) -> Reply:
    """Any error as the answer to a call."""
    if not isinstance(error, HoldfastError):
        # What happened inside is in the log under the request's id, and nobody else's business.
        error = HoldfastError("something went wrong in the server; its log has the request id")
    status, code = status_and_code(error.code)
    if isinstance(error, HttpError) and error.code not in _CODES:
        status = error.status
    headers = _headers(error, status)
    if "run_id" not in error.details:
        headers += _about_run(refusal.path)
    return problem(status, code, error.message, refusal.request_id, error.details, headers=headers)


def problem(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    details: Mapping[str, Any],
    *,
    headers: tuple[Header, ...] = (),
) -> Reply:
    """A problem document; `details` become further members."""
    body: dict[str, Any] = {
        "type": f"urn:holdfast:{code}",
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "success": False,
        "detail": detail,
        "error": detail,
        "code": code,
        "request_id": request_id,
    }
    if status == 422:
        body["errors"] = details.get("errors") or [{"pointer": _pointer(details.get("field")), "message": detail}]
    body |= {name: value for name, value in details.items() if name not in _RESERVED}
    if "status" in details:  # which is that of the answer here
        body["interrupt_status" if code == "INTERRUPT_RESOLVED" else "run_status"] = details["status"]
    run_id = details.get("run_id")
    if isinstance(run_id, str) and _RUN_ID.match(run_id):  # one from a path may be anything
        headers = (*headers, (b"x-run-id", run_id.encode()))
    return Reply(status, msgspec.json.encode(body), headers, MEDIA_TYPE)


def _about_run(path: str) -> tuple[Header, ...]:
    """The header of an answer about the run that a path names."""
    first, _, rest = path.removeprefix("/").partition("/")
    run_id = rest.partition("/")[0]
    return ((b"x-run-id", run_id.encode()),) if first == "runs" and _RUN_ID.match(run_id) else ()


def _pointer(field: str | None) -> str:
    return "" if field is None else "/" + field.replace("~", "~0").replace("/", "~1")


def _headers(error: HoldfastError, status: int) -> tuple[Header, ...]:
    headers: list[Header] = []
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="holdfast"'))
    if status in (429, 503) or (isinstance(error, IdempotencyInProgress) and "retry_after" in error.details):
        headers.append((b"retry-after", b"%d" % max(int(error.details.get("retry_after", 1)), 1)))
    if isinstance(error, UpgradeRequired):
        headers.append((b"upgrade", b"websocket"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode("ascii")))
    return tuple(headers)


__all__ = ["MEDIA_TYPE", "MalformedBody", "failure_status_and_code", "problem", "render", "status_and_code"]
