"""One class for each code with which a server refuses a call. What is refused had no effect."""

from __future__ import annotations

from holdfast.client.errors.base import AccessRefused, Conflict, NotFound, RequestRefused, Unavailable


class ValidationFailed(RequestRefused):
    """A part of the call does not fit; `details["errors"]` names each place."""

    code = "VALIDATION_ERROR"


class InvalidRequest(RequestRefused):
    """A part of the call does not fit; `details["field"]` names the first."""

    code = "INVALID_REQUEST"


class MalformedJson(RequestRefused):
    """The body is no strict JSON."""

    code = "MALFORMED_JSON"


class InvalidAnswer(RequestRefused):
    """The answer is none of the choices. The request is still pending."""

    code = "INVALID_ANSWER"


class MediaUnsupported(RequestRefused):
    """The agent's model takes no block of this type."""

    code = "MEDIA_UNSUPPORTED"


class CatalogInvalid(RequestRefused):
    """The catalog has faults; nothing was reloaded."""

    code = "CATALOG_INVALID"


class PolicyViolation(RequestRefused):
    """The agent's policy forbids it: the input, or what the run said."""

    code = "POLICY_VIOLATION"


class IdempotencyKeyReused(RequestRefused):
    """The key belongs to another call. Take a new key for a new call."""

    code = "IDEMPOTENCY_KEY_REUSED"


class InvalidState(RequestRefused):
    """The `state` of an OAuth callback is not one that waits. Connect again."""

    code = "INVALID_STATE"


class MethodNotAllowed(RequestRefused):
    """The path knows no such method."""

    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(RequestRefused):
    """The body did not arrive in time."""

    code = "REQUEST_TIMEOUT"


class PayloadTooLarge(RequestRefused):
    """The body or a value is over its limit."""

    code = "PAYLOAD_TOO_LARGE"


class BodyTooLarge(RequestRefused):
    """The body is over its limit."""

    code = "BODY_TOO_LARGE"


class URITooLong(RequestRefused):
    """The URL is over its limit."""

    code = "URI_TOO_LONG"


class HeadersTooLarge(RequestRefused):
    """The headers are over their limit."""

    code = "HEADERS_TOO_LARGE"


class UnsupportedMediaType(RequestRefused):
    """The body is declared as something that is not taken."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class NotEnabled(NotFound):
    """The server does not offer this call; the message names the setting."""

    code = "NOT_ENABLED"


class TaskNotFound(NotFound):
    """No task of this tenant has that id."""

    code = "TASK_NOT_FOUND"


class TurnNotFound(NotFound):
    """The task has no such turn."""

    code = "TURN_NOT_FOUND"


class MessageNotFound(NotFound):
    """The task has no such message, or it was superseded."""

    code = "MESSAGE_NOT_FOUND"


class AgentNotFound(NotFound):
    """The server serves no such agent."""

    code = "AGENT_NOT_FOUND"


class HitlNotFound(NotFound):
    """Nothing waits for this answer."""

    code = "HITL_NOT_FOUND"


class ItemNotFound(NotFound):
    """The store of the memory has no such item."""

    code = "ITEM_NOT_FOUND"


class SkillNotFound(NotFound):
    """There is no skill of that name."""

    code = "SKILL_NOT_FOUND"


class MethodNotFound(NotFound):
    """There is no such method to call."""

    code = "METHOD_NOT_FOUND"


class AssetNotFound(NotFound):
    """There is no such MCP server, or no such connection."""

    code = "ASSET_NOT_FOUND"


class Unauthenticated(AccessRefused):
    """No credential was sent, or none that is in force."""

    code = "AUTH_ERROR"


class InvalidKey(AccessRefused):
    """No key was sent, or none that is known."""

    code = "INVALID_KEY"


class KeyRotationPending(AccessRefused):
    """The key was replaced, and its overlap is over."""

    code = "KEY_ROTATION_PENDING"


class Forbidden(AccessRefused):
    """The key may not do this."""

    code = "FORBIDDEN"


class PermissionDenied(AccessRefused):
    """The key may not do this (`details["needed"]`), or a policy or person refused it."""

    code = "PERMISSION_DENIED"


class OriginNotAllowed(AccessRefused):
    """The server takes no requests from this origin."""

    code = "ORIGIN_NOT_ALLOWED"


class HostNotAllowed(AccessRefused):
    """The server does not answer under this host name."""

    code = "HOST_NOT_ALLOWED"


class McpTokenExpired(AccessRefused):
    """The MCP server takes the credential no more. Connect again."""

    code = "MCP_TOKEN_EXPIRED"


class ThreadBusy(Conflict):
    """The thread has a run that is not over (`details["active_run_id"]`). No run was started."""

    code = "THREAD_BUSY"


class RunFinished(Conflict):
    """The run is over."""

    code = "RUN_FINISHED"


class InterruptResolved(Conflict):
    """Another answer was first, or it expired. The first answer stands."""

    code = "INTERRUPT_RESOLVED"


class TaskBusy(Conflict):
    """The task has a turn that is not over (`details["turn_id"]`). No turn was started."""

    code = "TASK_BUSY"


class HitlRequired(Conflict):
    """The task's turn waits for a person. Answer first."""

    code = "HITL_REQUIRED"


class AmbiguousHitl(Conflict):
    """Several requests are pending (`details["request_ids"]`). Name one."""

    code = "AMBIGUOUS_HITL"


class HitlAlreadyAnswered(Conflict):
    """Another answer was first. It stands."""

    code = "HITL_ALREADY_ANSWERED"


class HitlInputChanged(Conflict):
    """The request asks about another input than was seen. It is still pending."""

    code = "HITL_INPUT_CHANGED"


class SkillExists(Conflict):
    """A skill has that name already."""

    code = "SKILL_EXISTS"


class NoActiveTurn(Conflict):
    """The task has no turn that could be cancelled."""

    code = "NO_ACTIVE_TURN"


class IdempotencyInProgress(Conflict):
    """The first call with this key is still at work: repeat it later. Or a crash cut it off, and its outcome is unknown."""

    code = "IDEMPOTENCY_IN_PROGRESS"
    is_passing = True


class RateLimitExceeded(Unavailable):
    """The caller started as many runs as it may in this time."""

    code = "RATE_LIMIT_EXCEEDED"


class RateLimited(Unavailable):
    """The caller started as many turns as it may in this time."""

    code = "RATE_LIMITED"


class TooManySubscribers(Unavailable):
    """The run has as many readers as it may."""

    code = "TOO_MANY_SUBSCRIBERS"


class ServiceUnavailable(Unavailable):
    """The server is stopping, or full."""

    code = "SERVICE_UNAVAILABLE"


class NotReady(Unavailable):
    """The server is still starting."""

    code = "NOT_READY"


class Starting(Unavailable):
    """The server is still starting."""

    code = "STARTING"


class Draining(Unavailable):
    """The server is stopping. Accepted work goes on after the stop."""

    code = "DRAINING"


class CapacityExhausted(Unavailable):
    """As many turns as allowed are queued."""

    code = "CAPACITY_EXHAUSTED"


class StoreUnavailable(Unavailable):
    """The store did not answer. Whether it was written is unknown."""

    code = "STORE_UNAVAILABLE"


class StorageFull(Unavailable):
    """The disk is full. Nothing was written; reading goes on."""

    code = "STORAGE_FULL"
    is_passing = False


class BadRequest(RequestRefused):
    """The bytes are no HTTP/1.1 request."""

    code = "BAD_REQUEST"


class UpgradeRequired(RequestRefused):
    """The path is that of a WebSocket."""

    code = "UPGRADE_REQUIRED"


class ConformanceUnmet(RequestRefused):
    """The skill does not fit the profile that the call asks for."""

    code = "CONFORMANCE_UNMET"


class ConfirmationRequired(RequestRefused):
    """The skill has effects, and the call does not say that it is meant."""

    code = "CONFIRMATION_REQUIRED"


class Unauthorized(AccessRefused):
    """No key was sent, or none that is known."""

    code = "UNAUTHORIZED"


class SafetyDenied(AccessRefused):
    """A gate or a person did not allow the run to go on."""

    code = "SAFETY_DENIED"


class AlreadyAnswered(Conflict):
    """Another answer was first. It stands."""

    code = "ALREADY_ANSWERED"


class AlreadyFinished(Conflict):
    """The run is over."""

    code = "ALREADY_FINISHED"


class NotFinished(Conflict):
    """The run is not over yet."""

    code = "NOT_FINISHED"


class NotWaiting(Conflict):
    """The run waits for no answer."""

    code = "NOT_WAITING"


class InterruptAmbiguous(Conflict):
    """Several requests are pending. Name one."""

    code = "INTERRUPT_AMBIGUOUS"


class ForkConflict(Conflict):
    """Results that the fork would keep are not there, or were made by another definition."""

    code = "FORK_CONFLICT"


class IdempotencyConflict(Conflict):
    """The key belongs to another call, or its first call is still at work."""

    code = "IDEMPOTENCY_CONFLICT"


class InvalidConfiguration(Conflict):
    """The skill's files have faults; it cannot run."""

    code = "INVALID_CONFIGURATION"


class ShuttingDown(Unavailable):
    """The server is stopping. Accepted work goes on after the stop."""

    code = "SHUTTING_DOWN"


class Overloaded(Unavailable):
    """As many runs as allowed are queued."""

    code = "OVERLOADED"
