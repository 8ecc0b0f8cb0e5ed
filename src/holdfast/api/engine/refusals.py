"""
Errors as this API shows them: `{"error", "message", "details"?}`, with the codes of its specification. No I/O.

* RequestError
  + MediaUnsupported      the agent's model takes no block of that type
* ConflictError
  + HitlRequired          the task's turn waits for a person
  + HitlInputChanged      the caller saw another input than the one that is asked about
  + NoActiveTurn          there is nothing to cancel
* ToolTimedOut            a tool that /rpc called took too long
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.api.http import errors as http
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.routing import Refusal
from holdfast.errors import (
    AgentNotFound,
    AssetNotFound,
    CapacityError,
    CatalogInvalid,
    ConflictError,
    ContextOverflow,
    Forbidden,
    HoldfastError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InterruptAmbiguous,
    InterruptNotFound,
    InterruptResolved,
    InvalidAnswer,
    InvalidOutput,
    InvalidRequest,
    InvalidState,
    KeyRotationPending,
    McpConnectionFailed,
    McpTokenExpired,
    MemoryItemNotFound,
    MessageNotFound,
    MethodNotFound,
    MigrationRequired,
    ModelFailed,
    ModelRateLimited,
    ModelTimedOut,
    NotConfigured,
    NotFound,
    PolicyViolation,
    PromptSkillNotFound,
    QueueFull,
    RateLimited,
    RequestError,
    RunNotFound,
    SkillExists,
    Stopping,
    StorageFull,
    StoreUnavailable,
    ThreadBusy,
    ThreadNotFound,
    TooLarge,
    Unauthenticated,
)


class MediaUnsupported(RequestError):
    """The agent's model takes no block of this type. No turn was started."""

    code = "media_unsupported"


class HitlRequired(ConflictError):
    """The task's turn waits for a person (`turn_id`, `request_ids`). No turn was started; answer first."""

    code = "hitl_required"


class HitlInputChanged(ConflictError):
    """The request asks about another input than the caller saw. It is still pending."""

    code = "hitl_input_changed"


class NoActiveTurn(ConflictError):
    """The task has no turn that could be cancelled."""

    code = "no_active_turn"


class ToolTimedOut(HoldfastError):
    """A tool that was called without a conversation took too long. What it did until then stays done."""

    code = "tool_timeout"


# The first class that fits decides. `None` for a code: that of the error, in upper case.
_ANSWERS: Final[tuple[tuple[type[HoldfastError], int, str | None], ...]] = (
    (http.MalformedBody, 400, "MALFORMED_JSON"),
    (http.BodyTooLarge, 413, "BODY_TOO_LARGE"),
    (http.InvalidQuery, 422, "INVALID_REQUEST"),
    (http.PathNotFound, 404, "NOT_FOUND"),
    (http.NotEnabled, 404, "NOT_FOUND"),
    (http.HostNotAllowed, 403, "PERMISSION_DENIED"),
    (http.OriginNotAllowed, 403, "PERMISSION_DENIED"),
    (http.NotReady, 503, "STARTING"),
    (KeyRotationPending, 401, "KEY_ROTATION_PENDING"),
    (Unauthenticated, 401, "INVALID_KEY"),
    (Forbidden, 403, "PERMISSION_DENIED"),
    (TooLarge, 413, "BODY_TOO_LARGE"),
    (RunNotFound, 404, "TURN_NOT_FOUND"),
    (ThreadNotFound, 404, "TASK_NOT_FOUND"),
    (MessageNotFound, 404, "MESSAGE_NOT_FOUND"),
    (AgentNotFound, 404, "AGENT_NOT_FOUND"),
    (InterruptNotFound, 404, "HITL_NOT_FOUND"),
    (MemoryItemNotFound, 404, "ITEM_NOT_FOUND"),
    (AssetNotFound, 404, "ASSET_NOT_FOUND"),
    (PromptSkillNotFound, 404, "SKILL_NOT_FOUND"),
    (MethodNotFound, 404, "METHOD_NOT_FOUND"),
    (NotFound, 404, "NOT_FOUND"),
    (InvalidState, 400, "INVALID_STATE"),
    (McpTokenExpired, 401, "MCP_TOKEN_EXPIRED"),
    (McpConnectionFailed, 502, "MCP_CONNECTION_FAILED"),
    (NotConfigured, 503, "NOT_CONFIGURED"),
    (MediaUnsupported, 422, None),
    (CatalogInvalid, 422, None),
    (InvalidAnswer, 422, "INVALID_ANSWER"),
    (IdempotencyKeyReused, 422, None),
    (InvalidRequest, 422, "INVALID_REQUEST"),
    (PolicyViolation, 422, "INVALID_REQUEST"),
    (ThreadBusy, 409, "TASK_BUSY"),
    (SkillExists, 409, None),
    (HitlRequired, 409, None),
    (HitlInputChanged, 409, None),
    (NoActiveTurn, 409, None),
    (InterruptAmbiguous, 409, "AMBIGUOUS_HITL"),
    (InterruptResolved, 409, "HITL_ALREADY_ANSWERED"),
    (IdempotencyInProgress, 409, None),
    (RateLimited, 429, "RATE_LIMITED"),
    (QueueFull, 503, "CAPACITY_EXHAUSTED"),
    (Stopping, 503, "DRAINING"),
    (StorageFull, 507, "STORAGE_FULL"),
    (StoreUnavailable, 503, "STORE_UNAVAILABLE"),
    (MigrationRequired, 503, "MIGRATION_REQUIRED"),
    (ModelRateLimited, 429, "LLM_RATE_LIMITED"),
    (ModelTimedOut, 504, "LLM_TIMEOUT"),
    (ToolTimedOut, 504, "TOOL_TIMEOUT"),
    (ContextOverflow, 422, "CONTEXT_OVERFLOW"),
    (ModelFailed, 502, "LLM_PROVIDER_ERROR"),
    (InvalidOutput, 422, "OUTPUT_INVALID"),
    (CapacityError, 503, "CAPACITY_EXHAUSTED"),
)

# Which facts an answer shows, where they are not those of the error as they are.
_DETAILS: Final[Mapping[type[HoldfastError], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    ThreadBusy: lambda facts: {"turn_id": facts["active_run_id"]},
    InterruptAmbiguous: lambda facts: {"request_ids": facts["interrupt_ids"]},
    InterruptResolved: lambda facts: {"answer": shown(facts.get("answer")), "by": facts.get("by")},
    InvalidAnswer: lambda facts: {name: facts[name] for name in ("choices", "field") if name in facts},
    StoreUnavailable: lambda _: {"retry_after": 1},
    Unauthenticated: lambda _: {},
    http.HostNotAllowed: lambda _: {"rule": "host"},
    http.OriginNotAllowed: lambda _: {"rule": "origin"},
    **dict.fromkeys((RunNotFound, ThreadNotFound, MessageNotFound, AgentNotFound, InterruptNotFound), lambda _: {}),
}


def answer_of(error: HoldfastError) -> tuple[int, str]:
    """The status and the code that answer an error here."""
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            return status, code or error.code.upper()
    if isinstance(error, http.HttpError):
        return error.status, error.code.upper()
    return 500, "INTERNAL_ERROR"


def render(error: Exception, refusal: Refusal) -> Reply:
    """An error as an answer; of one that is not ours, only the request's id is told."""
    if not isinstance(error, HoldfastError):
        return _internal(refusal)
    status, code = answer_of(error)
    if status == 500:
        return _internal(refusal)
    details = next((show(error.details) for kind, show in _DETAILS.items() if isinstance(error, kind)), error.details)
    body = {"error": code, "message": error.message, **({"details": details} if details else {})}
    reply = json_reply(body, status)
    if isinstance(error, http.MethodNotAllowed):
        return reply.with_headers((b"allow", error.allow.encode()))
    if "retry_after" in details:
        return reply.with_headers((b"retry-after", str(details["retry_after"]).encode()))
    return reply


def shown(answer: Any) -> Any:
    """An answer as this API's callers give it: permissions are words."""
    return {True: "yes", False: "no"}[answer] if isinstance(answer, bool) else answer


def _internal(refusal: Refusal) -> Reply:
    details = {"request_id": refusal.request_id}
    message = f"The server failed at this; its log says why under {refusal.request_id}."
    return json_reply({"error": "INTERNAL_ERROR", "message": message, "details": details}, 500)
