"""
What this API keeps with a run, in its metadata under `skills`, and what it makes of a run that another API started.

No I/O.
"""

from __future__ import annotations

from typing import Any

from holdfast.agents.skill.program import CAPABILITY, SKILL
from holdfast.model import Run

__all__ = ["CAPABILITY", "SKILL", "facts_of", "is_ours", "skill_id_of", "subject_of", "trace_of"]


def is_ours(run: Run) -> bool:
    """Whether this API shows a run: one of a skill or of a bare capability."""
    return run.agent.startswith((SKILL, CAPABILITY))


def facts_of(run: Run) -> dict[str, Any]:
    """What this API wrote down at the start of a run; empty for a run of another API."""
    found = run.metadata.get("skills")
    return found if isinstance(found, dict) else {}


def trace_of(run: Run) -> str:
    """The trace of a run; one that another API started has its run_id as such."""
    found = facts_of(run).get("trace_id")
    return found if isinstance(found, str) else run.run_id


def subject_of(agent: str) -> tuple[str, str]:
    """What an agent is, and the id of that: `("skill", "my.skill")` or `("capability", "text.shout")`."""
    if agent.startswith(CAPABILITY):
        return "capability", agent.removeprefix(CAPABILITY)
    return "skill", agent.removeprefix(SKILL)


def skill_id_of(agent: str) -> str:
    """How an agent is named where a `skill_id` stands; a bare capability keeps its prefix."""
    return agent.removeprefix(SKILL)
