"""Error codes: the journal's in upper case, but for those that this API calls otherwise. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_RENAMED: Final[Mapping[str, str]] = {
    "timeout_error": "TURN_TIMEOUT",
    "invalid_output": "OUTPUT_INVALID",
    "interrupt_expired": "HITL_EXPIRED",
}


def engine_code(code: str) -> str:
    """The code of an `error` event as this API writes it."""
    return _RENAMED.get(code) or code.upper()
