"""What bounds a turn of the assistant."""

from __future__ import annotations

from typing import Final

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Each is a setting of the server; times are seconds."""

    iterations_max: int = 50  # model requests; then the turn completes with `max_iterations`
    tokens_max: int | None = None  # read and written; then the turn fails, `budget_exceeded`
    compaction: bool = True  # a conversation that is too long is shown shorter, else the turn fails
    tools_at_once: int = 10
    hitl_expires_seconds: float = 259_200.0  # a person may be away over a weekend


STANDARD: Final = Limits()
