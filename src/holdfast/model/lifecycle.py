"""
The life of a run, as one table.

Which status may follow which, and which canonical event leads there, is decided here and nowhere else. Nothing here
reads a clock or touches I/O, so the same events give the same status everywhere. Recovery depends on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from holdfast.errors import ConflictError


class Status(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # accepted and durable; no process executes it yet, or again
    RUNNING = "running"  # a process holds its lease and executes it
    WAITING = "waiting"  # nothing executes; an interrupt has to be resolved first
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """A final status never changes, and the journal has its terminal event."""
        return self in FINAL


FINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
ACTIVE: Final = frozenset({Status.QUEUED, Status.RUNNING, Status.WAITING})

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    # A queued run fails when no process serves its agent, or when it may not be executed a second time.
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    # Back to queued: its process gave it up, at a stop or after it lost the lease. The next one carries on.
    Status.RUNNING: frozenset({Status.QUEUED, Status.WAITING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    # Straight to running: the answer came while the executing code was still held in memory. Straight to completed:
    # it came, and the code returned before that was committed; both go in one write, which shows the last status.
    Status.WAITING: frozenset({Status.QUEUED, Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

TERMINAL_EVENTS: Final[Mapping[str, Status]] = {
    "complete": Status.COMPLETED,
    "error": Status.FAILED,
    "cancelled": Status.CANCELLED,
}

# What those want to hear of who do not follow a run: its begin, its waits and its end.
NOTABLE_EVENTS: Final = frozenset({"started", "interrupt", "interrupt_resolved", *TERMINAL_EVENTS})


def check_transition(before: Status, after: Status) -> None:
    """
    Let a change of status pass, or refuse it.

    Raises:
        ConflictError: if `after` cannot follow `before`. Staying the same always can, but in a final status.
    """
    if before == after and not before.is_final:
        return
    if after not in TRANSITIONS[before]:
        raise ConflictError(f"a run that is {before} cannot become {after}", before=before, after=after)


class Restart(StrEnum):
    """What may happen to a run of an agent whose process died."""

    WAITING = "waiting"  # a waiting run is let go and executed again; one caught in execution fails
    ALWAYS = "always"  # executed again from the top, with its recorded steps
    NEVER = "never"  # kept in memory while it waits; lost with its process


class AfterDeath(StrEnum):
    """What becomes of a run that its process left behind."""

    CONTINUE = "continue"  # execute it again
    KEEP = "keep"  # it waits; nothing has to be done until its answer comes
    FAIL = "fail"  # it ends with the code `interrupted`


def after_death(status: Status, restart: Restart) -> AfterDeath:
    """Decide what becomes of a run whose process died (or gave up its lease) in this status."""
    if status is Status.QUEUED:
        return AfterDeath.CONTINUE
    if restart is Restart.NEVER:
        return AfterDeath.FAIL
    if status is Status.WAITING:
        return AfterDeath.KEEP
    return AfterDeath.CONTINUE if restart is Restart.ALWAYS else AfterDeath.FAIL
