"""
Many servers, one Postgres, everything that can go wrong: nothing is lost, nothing comes twice, nobody writes who may not.

    HOLDFAST_FAULTS_SIZE       nightly or release, for `make faults`; the size commit is part of `make test`
    HOLDFAST_FAULTS_SEED       repeats the order of the faults of another run
    HOLDFAST_FAULTS_SECONDS    begins no further fault after so long; the report says what was reached
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.faults.campaign import FOREVER, SIZES, Campaign, Report
from tests.support.postgres import PostgresServer

PROGRESS_SECONDS = 60.0


async def carry_out(directory: Path, postgres: PostgresServer, name: str) -> Report:
    seed = int(os.environ.get("HOLDFAST_FAULTS_SEED") or random.randrange(1_000_000))
    seconds = float(os.environ.get("HOLDFAST_FAULTS_SECONDS") or FOREVER)
    campaign = Campaign(directory, postgres, SIZES[name], seed=seed, seconds_max=seconds)
    telling = asyncio.create_task(tell(campaign))
    try:
        report = await campaign.carry_out()
    finally:
        telling.cancel()
    print("\n" + "\n".join(report.lines()))  # noqa: T201  the report is what this is for
    return report


async def tell(campaign: Campaign) -> None:
    """How far a long one is."""
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        print(f"{campaign.completed} runs completed, {dict(campaign.done)}", flush=True)  # noqa: T201


def judge(report: Report) -> None:
    problems = report.findings.problems
    assert problems == [], f"HOLDFAST_FAULTS_SEED={report.seed}\n" + "\n".join(map(str, problems[:20]))
    assert report.voids() == []


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that may be stopped: no other test shares it."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


# Not on the loop of pytest: all that servers and database say to each other passes through this process.


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(600)  # takes half a minute; the machine may be busy
def test_a_few_faults_of_each_kind_lose_nothing(tmp_path: Path, own_postgres: PostgresServer) -> None:
    judge(uvloop.run(carry_out(tmp_path, own_postgres, "commit")))


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.timeout(6 * 3600)
def test_many_faults_of_each_kind_lose_nothing(tmp_path: Path, own_postgres: PostgresServer) -> None:
    judge(uvloop.run(carry_out(tmp_path, own_postgres, os.environ.get("HOLDFAST_FAULTS_SIZE") or "nightly")))
