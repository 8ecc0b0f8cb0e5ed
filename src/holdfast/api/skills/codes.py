"""
The codes of this API's errors: which status answers each, and how the error of a run is shown. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MESSAGE_LENGTH_MAX: Final = 240

STATUSES: Final[Mapping[str, int]] = {
    "invalid_request": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "safety_denied": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "invalid_configuration": 409,
    "idempotency_conflict": 409,
    "already_answered": 409,
    "not_waiting": 409,
    "interrupt_ambiguous": 409,
    "already_finished": 409,
    "not_finished": 409,
    "fork_conflict": 409,
    "outcome_unknown": 409,
    "cancelled": 409,
    "conformance_unmet": 412,
    "payload_too_large": 413,
    "confirmation_required": 428,
    "rate_limited": 429,
    "runtime_error": 500,
    "internal_error": 500,
    "upstream_failure": 502,
    "gate_execution_failure": 503,
    "shutting_down": 503,
    "overloaded": 503,
    "step_timeout": 504,
    "upstream_timeout": 504,
}
"""The status of each code, where nothing more special is said."""

# What the kernel says of runs, in this API's words. Everything else that it says is a `runtime_error`.
_OF_KERNEL: Final[Mapping[str, str]] = {
    "invalid_input": "invalid_request",
    "timeout_error": "step_timeout",
    "interrupt_expired": "safety_denied",
    "permission_denied": "safety_denied",
}

_TYPES: Final[Mapping[str, str]] = {
    "invalid_input": "InvalidInputError",
    "runtime_error": "RuntimeError",
    "internal_error": "InternalError",
}


def type_of(code: str) -> str:
    """The name of an error's type: `step_timeout` is a StepTimeoutError."""
    return _TYPES.get(code) or "".join(word.capitalize() for word in code.split("_")) + "Error"


def shortened(message: str) -> str:
    """A message within its limit."""
    return message if len(message) <= MESSAGE_LENGTH_MAX else f"{message[: MESSAGE_LENGTH_MAX - 1]}…"


def error_of(code: str, message: str, *, status: int | None = None, type: str | None = None) -> dict[str, Any]:
    """An error as this API shows it: code, message, type, status."""
    return {
        "code": code,
        "message": shortened(message),
        "type": type or type_of(code),
        "status": status or STATUSES.get(code, 500),
    }


def error_of_run(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The same of what ended a run; a skill's own errors bring their type and status."""
    if code not in STATUSES:
        code = _OF_KERNEL.get(code, "runtime_error")
    status, name = details.get("status"), details.get("type")
    return error_of(
        code,
        message,
        status=status if type(status) is int and 400 <= status <= 599 else None,
        type=name if isinstance(name, str) else None,
    )


CANCELLED: Final[Mapping[str, Any]] = error_of("cancelled", "The run was cancelled.")
