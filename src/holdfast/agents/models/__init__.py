"""Which model answers: from settings to a model, and what can go wrong with one. Importing this loads no model library."""

from holdfast.agents.models.build import WORD_DELAY_SECONDS, build_model, check_model, is_offline
from holdfast.agents.models.failures import (
    ContextOverflow,
    ModelFailed,
    ModelNotConfigured,
    ModelRateLimited,
    ModelTimedOut,
)
from holdfast.agents.models.names import credentials_of

__all__ = [
    "WORD_DELAY_SECONDS",
    "ContextOverflow",
    "ModelFailed",
    "ModelNotConfigured",
    "ModelRateLimited",
    "ModelTimedOut",
    "build_model",
    "check_model",
    "credentials_of",
    "is_offline",
]
