"""
What this process counted since its start, for whoever watches it. Plain numbers: counting costs an addition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

# The fields of the event `usage`, and what each counts.
TOKEN_KINDS: Final = {"input_tokens": "input", "output_tokens": "output", "cache_hit_tokens": "cache_hit"}


class Tally:
    """What models were asked for and what it cost. A request whose price is not known adds no cost."""

    def __init__(self) -> None:
        self.tokens: Counter[tuple[str, str]] = Counter()  # by agent and kind
        self.cost_usd: Counter[str] = Counter()  # by agent
        self.provider_answers = True  # whether the last request to a model's provider was answered

    def add_usage(self, agent: str, usage: Mapping[str, Any]) -> None:
        """Count an event `usage` of this agent."""
        for field, kind in TOKEN_KINDS.items():
            count = usage.get(field)
            if isinstance(count, int) and count > 0:
                self.tokens[agent, kind] += count

    def add_cost(self, agent: str, usd: float) -> None:
        self.cost_usd[agent] += usd  # type: ignore[assignment]  # a Counter adds whatever has a sum
