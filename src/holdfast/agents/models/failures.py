"""
What can go wrong with a model, in the words of the journal. Leaves of the tree in `holdfast.errors`:

* HoldfastError
  + ModelNotConfigured      the settings name no usable model: nothing starts
  + ExecutionError
    - ModelFailed           the provider's answer is an error, or none
      . ModelRateLimited    it asks to wait (`retry_after`)
      . ModelTimedOut       it did not answer in time
      . ContextOverflow     the conversation is too long for the model
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import ExecutionError, HoldfastError


class ModelNotConfigured(HoldfastError):
    """The settings name a model that cannot be used here; `setting` names the one to change."""

    code = "not_configured"


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


_BY_CODE = {leaf.code: leaf for leaf in (ModelFailed, ModelRateLimited, ModelTimedOut, ContextOverflow)}


def model_failure(code: str, message: str, details: dict[str, Any]) -> ModelFailed:
    """The error of this code, for example from a step's record."""
    return _BY_CODE.get(code, ModelFailed)(message, **details)
