"""
Many servers, one Postgres, everything that can go wrong: nothing is lost, nothing comes twice, nobody writes who may not.

    HOLDFAST_FAULTS_SIZE       commit, nightly or release; `make faults` runs nightly, `make test` runs commit
    HOLDFAST_FAULTS_SEED       repeats the order of the faults of another run
    HOLDFAST_FAULTS_SECONDS    begins no further fault after so long; the report says what was reached
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.campaign import SIZES, Campaign, Report
from tests.support.postgres import PostgresServer


async def carry_out(directory: Path, postgres: PostgresServer, name: str) -> Report:
    seed = int(os.environ.get("HOLDFAST_FAULTS_SEED") or random.randrange(1_000_000))
    seconds = float(os.environ.get("HOLDFAST_FAULTS_SECONDS", "1e9"))
    campaign = Campaign(directory, postgres, SIZES[name], seed=seed, seconds_max=seconds)
    report = await campaign.carry_out()
    print("\n" + "\n".join(report.lines()))  # noqa: T201  the report is what this is for
    return report


def judge(report: Report) -> None:
    problems = report.findings.problems
    assert problems == [], f"HOLDFAST_FAULTS_SEED={report.seed}\n" + "\n".join(map(str, problems[:20]))
    assert report.voids() == []


@pytest.fixture
def own_postgres(tmp_path: Path) -> object:
    """One that may be stopped: no other test shares it."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.timeout(240)
async def test_a_few_faults_of_each_kind_lose_nothing(tmp_path: Path, own_postgres: PostgresServer) -> None:
    judge(await carry_out(tmp_path, own_postgres, os.environ.get("HOLDFAST_FAULTS_SIZE", "commit")))


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.timeout(6 * 3600)
async def test_many_faults_of_each_kind_lose_nothing(tmp_path: Path, own_postgres: PostgresServer) -> None:
    judge(await carry_out(tmp_path, own_postgres, os.environ.get("HOLDFAST_FAULTS_SIZE", "nightly")))
