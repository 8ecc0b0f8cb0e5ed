"""The life of a run."""

from __future__ import annotations

import pytest

from holdfast.errors import ConflictError
from holdfast.model.lifecycle import (
    ACTIVE,
    FINAL,
    TRANSITIONS,
    AfterDeath,
    Restart,
    Status,
    after_death,
    check_transition,
)


def test_every_status_is_in_the_table_and_either_active_or_final() -> None:
    assert set(TRANSITIONS) == set(Status) == ACTIVE | FINAL
    assert not ACTIVE & FINAL


@pytest.mark.parametrize("before", sorted(FINAL))
@pytest.mark.parametrize("after", sorted(Status))
def test_nothing_follows_a_final_status(before: Status, after: Status) -> None:
    with pytest.raises(ConflictError):
        check_transition(before, after)


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_every_active_status_can_be_cancelled_and_can_fail(status: Status) -> None:
    check_transition(status, Status.CANCELLED)
    check_transition(status, Status.FAILED)
    check_transition(status, status)


@pytest.mark.parametrize(
    ("status", "restart", "then"),
    [
        (Status.QUEUED, Restart.NEVER, AfterDeath.CONTINUE),
        (Status.RUNNING, Restart.ALWAYS, AfterDeath.CONTINUE),
        (Status.RUNNING, Restart.WAITING, AfterDeath.FAIL),
        (Status.RUNNING, Restart.NEVER, AfterDeath.FAIL),
        (Status.WAITING, Restart.ALWAYS, AfterDeath.KEEP),
        (Status.WAITING, Restart.WAITING, AfterDeath.KEEP),
        (Status.WAITING, Restart.NEVER, AfterDeath.FAIL),
    ],
)
def test_what_becomes_of_a_run_whose_process_died(status: Status, restart: Restart, then: AfterDeath) -> None:
    assert after_death(status, restart) is then
