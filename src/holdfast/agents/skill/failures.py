"""
Why a step of a skill fails. Each has the code, the HTTP status and the type that the Skills API shows, wherever the skill
was started; a recorded failure is read back as the same one.

* SkillError
  + InvalidInput…, InvalidConfiguration…    the caller or an author is wrong; never tried again
  + SafetyDenied…, ConfirmationRequired…    somebody or something did not allow it
  + GateExecution…                          nobody knows whether it is allowed
  + Upstream…, StepTimeout…                 what was called failed; may pass, so these are tried again
  + OutcomeUnknown…, StepCancelled…, SkillRuntime…
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from holdfast.errors import Cancelled, ExecutionError, InvalidRequest, OutcomeUnknown
from holdfast.model import Failure


class SkillError(ExecutionError):
    """The root. `will_pass` says whether another attempt could help."""

    status: ClassVar[int] = 500
    will_pass: ClassVar[bool] = False
    is_final = False  # of this one: no further attempt, although its kind would allow it
    attempt: int | None = None  # that failed, where it is not the step's own

    def __init__(self, message: str, **details: Any) -> None:
        name = type(self).__name__
        super().__init__(message, **{**details, "type": name, "status": self.status})

    @property
    def may_pass(self) -> bool:
        """Whether another attempt may follow."""
        return self.will_pass and not self.is_final


class InvalidInputError(SkillError, InvalidRequest):
    """The inputs do not fit what the nested skill declares. Nothing of it ran."""

    code = "invalid_request"
    status = 422


class InvalidConfigurationError(SkillError):
    """What a step was given, or what it made, is not what its contract says."""

    code = "invalid_configuration"
    status = 409


class SafetyDeniedError(SkillError):
    """A trust level, a gate or a person did not allow the step."""

    code = "safety_denied"
    status = 403


class ConfirmationRequiredError(SkillError):
    """A person would have to approve, and the caller wanted no waiting."""

    code = "confirmation_required"
    status = 428


class GateExecutionError(SkillError):
    """A gate failed, or did not say whether it allows the step."""

    code = "gate_execution_failure"
    status = 503


class UpstreamFailureError(SkillError):
    """What fulfils the capability failed."""

    code = "upstream_failure"
    status = 502
    will_pass = True


class UpstreamTimeoutError(SkillError):
    """What fulfils the capability was too slow by its own measure."""

    code = "upstream_timeout"
    status = 504
    will_pass = True


class StepTimeoutError(SkillError):
    """The call took longer than `timeout_seconds`, and was cut off."""

    code = "step_timeout"
    status = 504
    will_pass = True


class OutcomeUnknownError(SkillError, OutcomeUnknown):
    """A call that must not be made twice was cut off by a crash, and a person decided not to make it again."""

    code = "outcome_unknown"
    status = 409


class StepCancelledError(SkillError, Cancelled):
    """The step was cut off, because its run was cancelled or failed elsewhere."""

    code = "cancelled"
    status = 409


class SkillRuntimeError(SkillError):
    """Something that nobody foresaw."""

    code = "runtime_error"
    status = 500


_KINDS: Final[dict[str, type[SkillError]]] = {
    kind.code: kind
    for kind in (
        InvalidInputError,
        InvalidConfigurationError,
        SafetyDeniedError,
        ConfirmationRequiredError,
        GateExecutionError,
        UpstreamFailureError,
        UpstreamTimeoutError,
        StepTimeoutError,
        OutcomeUnknownError,
        StepCancelledError,
        SkillRuntimeError,
    )
}


def failure_from(error: SkillError) -> Failure:
    """What a step's row keeps of it."""
    return Failure(error.message, error.code, error.details)


def error_from(failure: Failure) -> SkillError:
    """A recorded failure as the error that it was."""
    kind = _KINDS.get(failure.code, SkillRuntimeError)
    details = {name: value for name, value in failure.details.items() if name not in ("type", "status")}
    return kind(failure.message, **details)
