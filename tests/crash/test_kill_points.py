"""`kill -9` at named points: right before a commit, right after it and before anybody is told, and while taking over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.test_kill import free_port
from tests.support.forks import Nursery, shared_nursery
from tests.support.postgres import PostgresServer

# In an agent `tale`, the second step is the payment that may be attempted only once.
POINTS = [
    ["before:started:1"],
    ["after:started:1"],
    ["after:token:8"],
    ["after:step_started:2"],
    ["before:step_completed:2"],
    ["after:interrupt:1"],
    ["after:interrupt_resolved:1"],
    ["before:complete:1"],
    ["after:complete:1"],
    ["after:token:8", "take_up:1", "after:restarted:1"],
    # The payment, the payment again that a person allowed, and once more.
    ["after:step_started:2", "after:step_started:1", "after:step_started:1"],
]
MORE_POINTS = [
    ["before:token:8"],
    ["before:step_started:2"],
    ["after:step_completed:2"],
    ["before:interrupt:1"],
    ["before:interrupt_resolved:1"],
    ["after:token:8", "before:restarted:1"],
    ["after:step_started:2", "after:interrupt:1", "after:interrupt_resolved:1"],
    ["after:token:2", "after:token:2", "after:token:2", "after:token:2"],
    ["after:interrupt:1", "after:interrupt_resolved:1", "take_up:1", "after:restarted:1", "after:complete:1"],
]


# Where an agent of sync code cannot die: it pays nothing.
TALE_ALONE = "before:step_completed:2"


@pytest.fixture
def nursery() -> Nursery:
    return shared_nursery()


async def _die_at(
    directory: Path, agent: str, points: list[str], nursery: Nursery, *, store: str | None = None, mutant: str = ""
) -> list[str]:
    """What was wrong afterwards."""
    campaign = Campaign(directory, kills=0, seed=0, port=free_port(), nursery=nursery, store=store, mutant=mutant)
    await campaign.die_at(agent, points)
    return campaign.problems


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("points", POINTS, ids=" ".join)
async def test_a_death_at_this_point_loses_nothing_and_repeats_nothing(
    tmp_path: Path, nursery: Nursery, points: list[str]
) -> None:
    assert await _die_at(tmp_path, "tale", points, nursery) == []


@pytest.mark.slow
@pytest.mark.crash
async def test_events_shown_before_their_commit_would_be_caught(tmp_path: Path, nursery: Nursery) -> None:
    """The mutant: its readers hold events that no process finds any more."""
    problems = await _die_at(tmp_path, "tale", ["before:token:8"], nursery, mutant="early")

    assert any("saw events that are lost" in problem for problem in problems), problems


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("points", MORE_POINTS, ids=" ".join)
async def test_nor_does_a_death_at_one_of_these(tmp_path: Path, nursery: Nursery, points: list[str]) -> None:
    assert await _die_at(tmp_path, "tale", points, nursery) == []


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("points", [points for points in POINTS if points != [TALE_ALONE]], ids=" ".join)
async def test_nor_with_sync_code(tmp_path: Path, nursery: Nursery, points: list[str]) -> None:
    assert await _die_at(tmp_path, "sync", points, nursery) == []


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("points", [*POINTS, *MORE_POINTS], ids=" ".join)
async def test_nor_on_postgres(
    tmp_path: Path, nursery: Nursery, postgres: PostgresServer, database: str, points: list[str]
) -> None:
    assert await _die_at(tmp_path, "tale", points, nursery, store=postgres.url(database)) == []
