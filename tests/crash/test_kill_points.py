"""`kill -9` at named points: right before a commit, right after it and before anybody is told, and while taking over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.test_kill import free_port

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


async def _die_at(directory: Path, agent: str, points: list[str]) -> None:
    campaign = Campaign(directory, kills=0, seed=0, port=free_port())

    await campaign.die_at(agent, points)

    assert campaign.problems == []


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("points", POINTS, ids=" ".join)
async def test_a_death_at_this_point_loses_nothing_and_repeats_nothing(tmp_path: Path, points: list[str]) -> None:
    await _die_at(tmp_path, "tale", points)


@pytest.mark.slow
@pytest.mark.crash
async def test_events_shown_before_their_commit_would_be_caught(tmp_path: Path) -> None:
    """The mutant: its readers hold events that no process finds any more."""
    campaign = Campaign(tmp_path, kills=0, seed=0, port=free_port(), mutant="early")

    await campaign.die_at("tale", ["before:token:8"])

    assert any("saw events that are lost" in problem for problem in campaign.problems), campaign.problems


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("points", MORE_POINTS, ids=" ".join)
async def test_nor_does_a_death_at_one_of_these(tmp_path: Path, points: list[str]) -> None:
    await _die_at(tmp_path, "tale", points)


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("points", [points for points in POINTS if points != ["before:step_completed:2"]], ids=" ".join)
async def test_nor_with_sync_code(tmp_path: Path, points: list[str]) -> None:
    await _die_at(tmp_path, "sync", points)
