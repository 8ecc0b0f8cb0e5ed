"""
Every error of Holdfast, drawn as a tree. Branches say who has to act.

* HoldfastError
  + RequestError            the caller is wrong: the same call will fail again
    - InvalidRequest        something in the call does not fit; `field` names it
    - InvalidInput          the input does not fit the agent's schema; `errors` names each place
    - PolicyViolation       the agent's policy refuses the input (or, in a run, what it says)
    - NotFound              RunNotFound, AgentNotFound, ThreadNotFound, MessageNotFound, InterruptNotFound,
                            FileNotFound, KeyNotFound, MemoryItemNotFound, EndpointNotFound, AssetNotFound,
                            PromptSkillNotFound, MethodNotFound
    - WebhookUrlRefused     nothing is sent to that URL; WebhookSecretRequired: there is nothing to sign with
    - InvalidAnswer         the answer has not the shape that the interrupt asks for
    - Unauthenticated (KeyRotationPending), Forbidden, TooLarge
    - IdempotencyKeyReused  the key was used for another call
    - CatalogInvalid        the files of the catalog do not fit; `errors` names each; nothing was taken of them
    - InvalidState          whoever comes back from an OAuth consent was not sent there
  + ConflictError           the caller lost a race, or the state is another: read, decide again
    - RunExists, ThreadBusy, RunFinished, InterruptResolved, InterruptAmbiguous, IdempotencyInProgress, SkillExists
  + CapacityError           nothing is wrong but room: retry later
    - QueueFull, Stopping
    - RateLimited           TenantQueueFull
  + ExecutionError          the code of an agent, or what happened to it; becomes the run's `error` event
    - AgentFailed, InvalidOutput, Interrupted, InterruptExpired, RunTimeout, AgentMissing, ReplayDiverged
    - StepFailed, OutcomeUnknown, PermissionDenied, ToolCallFailed (ToolDenied)
    - ModelFailed           the model's provider refused or failed; ModelRateLimited, ModelTimedOut, ContextOverflow
    - BudgetExceeded        a turn has used up its tokens
    - Cancelled             raised inside sync agent code when its run is cancelled
    - LeaseLost             this process may not write to the run any more
  + NotConfigured           a setting is missing that this call needs; it is named
    - ModelNotConfigured    the settings name no usable model: nothing starts
  + McpError                an MCP server: McpConnectionFailed, McpTokenExpired (connect again)
  + StoreError              the storage is wrong
    - StoreUnavailable      may pass: retry with backoff
    - StorageFull           passes when there is space again; nothing was written
    - StoreLocked, StoreTooNew, StoreRefused     the store cannot be opened: stop and tell a person
    - MigrationRequired     passes when a process of this version was started: it migrates
    - JournalCorrupt        will not pass: stop and tell a person
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal


class HoldfastError(Exception):
    """The root. `code` is stable and goes over the wire; `details` are facts for programs, the text is for people."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class RequestError(HoldfastError):
    """The call is wrong. Nothing was changed; the same call will fail again."""

    code = "invalid_request"


class InvalidRequest(RequestError):
    """A part of the call does not fit. Nothing was changed. `field` names the first such part."""

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        super().__init__(message, **({"field": field} if field is not None else {}), **details)
        self.field = field


class InvalidInput(InvalidRequest):
    """The input does not fit what the agent declares. `errors` are `{"pointer", "message"}`. No run was started."""

    def __init__(self, message: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(message, errors=list(errors))
        self.errors = errors


class PolicyViolation(RequestError):
    """The agent's policy forbids it: as a refusal of a call no run was started; as a run's error it ended the run."""

    code = "policy_violation"


class NotFound(RequestError):
    """What the call names does not exist, or belongs to another tenant."""

    code = "not_found"


class RunNotFound(NotFound):
    """No run of this tenant has that id."""

    code = "run_not_found"


class AgentNotFound(NotFound):
    """This server serves no agent of that name."""

    code = "agent_not_found"


class ThreadNotFound(NotFound):
    """No thread of this tenant has that id."""

    code = "thread_not_found"


class MessageNotFound(NotFound):
    """No message of that thread has that id, or it was superseded."""

    code = "message_not_found"


class InterruptNotFound(NotFound):
    """No interrupt of that run has that id."""

    code = "interrupt_not_found"


class FileNotFound(NotFound):
    """No file of this tenant has that id."""

    code = "file_not_found"


class MemoryItemNotFound(NotFound):
    """There is no such item in this store of the memory, or it is another tenant's. Nothing was written."""

    code = "memory_item_not_found"


class KeyNotFound(NotFound):
    """No API key has that name."""

    code = "key_not_found"


class EndpointNotFound(NotFound):
    """No webhook endpoint of this tenant has that id."""

    code = "endpoint_not_found"


class AssetNotFound(NotFound):
    """There is no MCP server of that name, or this tenant has no such connection."""

    code = "asset_not_found"


class PromptSkillNotFound(NotFound):
    """There is no prompt skill of that name, neither in the catalog nor this tenant's own."""

    code = "prompt_skill_not_found"


class MethodNotFound(NotFound):
    """There is no such tool, skill or call of the memory, or it needs a conversation to be called in."""

    code = "method_not_found"


class CatalogInvalid(RequestError):
    """
    Files of the catalog do not fit. `errors` are `{"file", "message"}`, one for each thing to mend. Nothing was taken of
    them: a server does not start, and one that runs goes on with what it had.
    """

    code = "catalog_invalid"

    def __init__(self, message: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(message, errors=list(errors))
        self.errors = errors


class InvalidState(RequestError):
    """The `state` of an OAuth callback is unknown, used, too old or another tenant's. Connect again."""

    code = "invalid_state"


class WebhookUrlRefused(InvalidRequest):
    """Webhooks are not sent to this URL: its form, or where it leads. Nothing was changed."""

    code = "webhook_url_refused"


class WebhookSecretRequired(InvalidRequest):
    """A run names a URL for its webhooks, but neither its start nor the settings have a secret to sign them with."""

    code = "webhook_secret_required"


class InvalidAnswer(RequestError):
    """The answer has not the shape, or is none of the choices, that the interrupt asks for. It is still pending."""

    code = "invalid_answer"


class Unauthenticated(RequestError):
    """No API key was sent, or none that is known."""

    code = "unauthorized"


class KeyRotationPending(Unauthenticated):
    """This API key was replaced by a newer one, and the time in which both were good is over. Take the new one."""

    code = "key_rotation_pending"


class Forbidden(RequestError):
    """The key is known, but its role may not do this. `needed` names the role that may."""

    code = "forbidden"


class TooLarge(RequestError):
    """A body or a value is over its limit."""

    code = "payload_too_large"


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key belongs to another call. Use a new key for a new call."""

    code = "idempotency_key_reused"


class ConflictError(HoldfastError):
    """The state is not what the call needs. Nothing was changed; read, then decide again."""

    code = "conflict"


class RunExists(ConflictError):
    """A run of this tenant already has that id. No run was started."""

    code = "conflict"


class ThreadBusy(ConflictError):
    """The thread has a run that is not finished (`active_run_id`, `status`). No run was started."""

    code = "thread_busy"


class RunFinished(ConflictError):
    """The run is over; it takes no answers and cannot be cancelled."""

    code = "run_finished"


class InterruptResolved(ConflictError):
    """The interrupt has another answer (`answer`, `by`), or expired. The first answer stands."""

    code = "interrupt_resolved"


class InterruptAmbiguous(ConflictError):
    """Several interrupts are pending (`interrupt_ids`): name one."""

    code = "interrupt_ambiguous"


class SkillExists(ConflictError):
    """There is a prompt skill of that name already. Nothing was changed; change that one, or take another name."""

    code = "skill_exists"


class IdempotencyInProgress(ConflictError):
    """
    The first call with this key is still at work: repeat it after `retry_after` seconds with the same key.

    With the `reason` `outcome_unknown`, a crash cut off the first call, and its effect is outside of the store: nobody
    knows whether it was done, and repeating it tells nothing.
    """

    code = "idempotency_in_progress"

    def __init__(
        self, message: str, *, reason: Literal["in_progress", "outcome_unknown"] = "in_progress", **details: Any
    ) -> None:
        wait = {"retry_after": 1} if reason == "in_progress" else {}
        super().__init__(message, reason=reason, **wait, **details)


class CapacityError(HoldfastError):
    """There is no room now. Nothing was accepted; retry after `retry_after` seconds."""

    code = "overloaded"


class QueueFull(CapacityError):
    """As many runs as allowed are queued already."""


class Stopping(CapacityError):
    """The server is stopping and takes no new work; another one, or the next one, will."""

    code = "stopping"


class RateLimited(CapacityError):
    """The caller started as many runs as it may in this time. `retry_after` seconds later it may start one more."""

    code = "rate_limit_exceeded"


class TenantQueueFull(RateLimited):
    """The caller's tenant has as many runs queued as it may. Nothing was accepted; other tenants are not concerned."""


class ExecutionError(HoldfastError):
    """Something ended or hindered the execution of an agent. Its `code` is that of the run's `error` event."""

    code = "agent_execution_error"


class AgentFailed(ExecutionError):
    """The agent's code raised. The message holds the exception's type and text, never its traceback."""


class StepFailed(ExecutionError):
    """
    A step failed after its last attempt. Agent code may catch this.

    It stands for the exception of the step's function, at the first execution and at every later one alike: the
    record keeps the exception's type and text, not the exception.
    """


class InvalidOutput(ExecutionError):
    """What the agent returned is no JSON value, or does not fit its declared schema."""

    code = "invalid_output"


class Interrupted(ExecutionError):
    """The process died while the run executed, and its agent does not allow to execute it again."""

    code = "interrupted"


class InterruptExpired(ExecutionError):
    """Nobody answered in time and no default was declared. Agent code may catch this."""

    code = "interrupt_expired"


class RunTimeout(ExecutionError):
    """The run executed longer than allowed. Waiting does not count."""

    code = "timeout_error"


class AgentMissing(ExecutionError):
    """No process served the run's agent for ten minutes."""

    code = "agent_missing"


class ReplayDiverged(ExecutionError):
    """The agent's code asked for other steps than those on record: it was changed while the run was under way."""

    code = "replay_diverged"


class OutcomeUnknown(ExecutionError):
    """A step declared at_most_once was cut off by a crash, and a person decided not to run it again."""

    code = "outcome_unknown"


class PermissionDenied(ExecutionError):
    """A person, or the policy, did not allow the call."""

    code = "permission_denied"


class ToolCallFailed(ExecutionError):
    """The caller answered a tool call with an error."""

    code = "tool_call_failed"


class ToolDenied(ToolCallFailed):
    """The agent's policy does not allow the tool. It was not called."""

    code = "tool_denied"


class Cancelled(ExecutionError):
    """The run was cancelled. Sync agent code gets this at its next call of the context; let it pass."""

    code = "cancelled"


class ModelFailed(ExecutionError):
    """The provider refused the request or failed to answer it, after all attempts that made sense."""

    code = "llm_provider_error"


class ModelRateLimited(ModelFailed):
    """The provider asks for fewer requests; `retry_after` is how long it wants us to wait, if it said."""

    code = "llm_rate_limited"


class ModelTimedOut(ModelFailed):
    """The provider sent nothing for too long."""

    code = "llm_timeout"


class ContextOverflow(ModelFailed):
    """The conversation does not fit into the model's context window."""

    code = "context_overflow"


class BudgetExceeded(ExecutionError):
    """The turn has used up the tokens that it may (`used`, `limit`). Its model was not asked again."""

    code = "budget_exceeded"


class LeaseLost(ExecutionError):
    """Another process took the run over, or it is over. Nothing was written and nothing can be."""

    code = "lease_lost"


class NotConfigured(HoldfastError):
    """The server lacks a setting that this call needs (`setting`). Nothing was changed; its operator has to act."""

    code = "not_configured"


class ModelNotConfigured(NotConfigured):
    """The settings name a model that cannot be used here; `setting` names the one to change."""

    code = "not_configured"


class McpError(HoldfastError):
    """An MCP server cannot be used. Of a tool's call, it is unknown whether it was carried out."""

    code = "mcp_connection_failed"


class McpConnectionFailed(McpError):
    """The server cannot be reached, or does not answer as it should. It may pass."""


class McpTokenExpired(McpError):
    """The server takes the credential no more, and it cannot be renewed. Connect again."""

    code = "mcp_token_expired"


class StoreError(HoldfastError):
    """The storage cannot do what was asked."""

    code = "store_unavailable"


class StoreUnavailable(StoreError):
    """The store did not answer. It is unknown whether the write happened: read before retrying."""


class StorageFull(StoreError):
    """The disk is full. Nothing was written; reading goes on, and writing too when there is space again."""

    code = "storage_full"


class StoreLocked(StoreError):
    """Another process has the store open. The embedded store belongs to exactly one process."""

    code = "store_locked"


class StoreTooNew(StoreError):
    """A newer version of Holdfast wrote this store. It was left untouched."""

    code = "store_too_new"


class StoreRefused(StoreError):
    """The place or the settings of the store cannot keep what Holdfast promises. It was left untouched."""

    code = "store_refused"


class MigrationRequired(StoreError):
    """The schema of the store is not the one that this version knows. Nothing was written; a start migrates it."""

    code = "migration_required"


class JournalCorrupt(StoreError):
    """A journal's bytes do not give its recorded hash (`first_bad_sequence`). Stop, and restore a backup."""

    code = "journal_corrupt"
