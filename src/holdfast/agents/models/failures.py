"""
From the code of a recorded model failure back to its error.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import ContextOverflow, ModelFailed, ModelNotConfigured, ModelRateLimited, ModelTimedOut

_BY_CODE = {leaf.code: leaf for leaf in (ModelFailed, ModelRateLimited, ModelTimedOut, ContextOverflow)}


def model_failure(code: str, message: str, details: dict[str, Any]) -> ModelFailed:
    """The error of this code, for example from a step's record."""
    return _BY_CODE.get(code, ModelFailed)(message, **details)


__all__ = ["ContextOverflow", "ModelFailed", "ModelNotConfigured", "ModelRateLimited", "ModelTimedOut", "model_failure"]
