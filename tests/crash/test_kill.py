"""
`kill -9` at random moments, again and again, with ten runs under way and twenty readers that come back each time.

What must hold afterwards is in `Campaign`: nothing that was acknowledged or seen is lost or differs, no reader has a
gap or a repeat, every run is over or waits, recorded steps were computed once, a payment was attempted at most once
unless a person allowed it again, and every journal's hash chain is right.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from tests.crash.campaign import RECOVERY_SECONDS, Campaign, Report
from tests.support.forks import Nursery, shared_nursery
from tests.support.postgres import PostgresServer

HITS_MIN = 0.9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> str | None:
    """A database of the test's own, or None for the embedded store."""
    if request.param == "sqlite":
        return None
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.url(await postgres.make_database())


@pytest.fixture
def nursery() -> Nursery:
    return shared_nursery()


async def carry_out(directory: Path, kills: int, store: str | None, nursery: Nursery | None) -> Report:
    """A campaign with a new seed, or with that of CRASH_SEED."""
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(1_000_000))
    campaign = Campaign(directory, kills=kills, seed=seed, port=free_port(), store=store, nursery=nursery)
    report = await campaign.carry_out()
    print("\n" + "\n".join(report.lines()))  # noqa: T201  the report is what this is for
    assert not campaign.problems, "\n".join([f"CRASH_SEED={seed}", *campaign.problems])
    # The campaign proves something only where it hit something.
    assert report.hits >= HITS_MIN * report.kills, f"void: only {report.hits} of {report.kills} kills hit a running run"
    assert report.takeovers > report.kills
    assert report.recovery_listening_max < campaign.recovery_seconds
    return report


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(240)
async def test_thirty_kills_lose_nothing_and_repeat_nothing(
    tmp_path: Path, store: str | None, nursery: Nursery
) -> None:
    await carry_out(tmp_path, 30, store, nursery)


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.timeout(1800)
async def test_three_hundred_kills_lose_nothing_and_repeat_nothing(
    tmp_path: Path, store: str | None, nursery: Nursery
) -> None:
    report = await carry_out(tmp_path, 300, store, nursery if store else None)

    if store is None:
        # The promise includes the time that Python takes to start, so each process is a new one. Not in `make test`,
        # where others use the machine as well.
        assert report.recovery_median < RECOVERY_SECONDS
