"""
The harness bites: Holdfast with one line wrong does not pass it. Each test makes the circumstances in which that line
matters, and the same circumstances pass without the mutant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.faults import mutants
from tests.faults.campaign import Campaign, Report, Size
from tests.support.postgres import PostgresServer

PAUSES = Size(servers=3, slots=6, readers=2, pauses=4, runs_min=8)
PLAIN = Size(servers=3, slots=6, readers=2)


class Case(msgspec.Struct, frozen=True):
    """Where a mutant shows."""

    size: Size
    agents: tuple[str, ...]
    environment: Mapping[str, str] = {}
    kinds: tuple[str, ...] = ()  # what the judge calls it


CASES: Final = {
    # Between a claim and the first event of the new holder, the old one still knows how the journal ends.
    mutants.NO_EPOCH: Case(PAUSES, ("tale", "fan", "sync"), {"FAULTS_SLOW": "0.8"}, ("stale",)),
    # Who writes nothing for longer than a lease learns only by its renewal that it is gone.
    mutants.NO_RENEWAL: Case(PAUSES, ("quiet",), {}, ("stale",)),
    # What every second server commits comes later than it was stamped.
    mutants.SERIAL: Case(
        Size(servers=3, slots=6, readers=2, runs_min=12), ("tale", "fan"), {"FAULTS_LATE": "0.15"}, ("gaps",)
    ),
    mutants.NO_POLLING: Case(PLAIN, ("tale", "fan"), {"FAULTS_DEAF": "1"}, ("endless",)),
    mutants.EARLY: Case(Size(servers=3, slots=6, readers=2, kills=6, runs_min=8), ("tale", "fan"), {}, ("lost",)),
    mutants.NO_COMPARE: Case(
        Size(servers=3, slots=6, readers=2, listens=2, runs_min=12), ("tale", "sync"), {}, ("broken",)
    ),
}


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


async def carry_out(directory: Path, postgres: PostgresServer, case: Case, mutant: str) -> Report:
    campaign = Campaign(
        directory,
        postgres,
        case.size,
        seed=3,
        mutant=mutant,
        environment=case.environment,
        agents=case.agents,
        ended_seconds_max=8 if mutant else 60,
        runs_max=120,
        freezes=1.0 if case.size.kills else 0.0,
    )
    return await campaign.carry_out()


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("mutant", CASES)
async def test_one_wrong_line_is_caught(tmp_path: Path, own_postgres: PostgresServer, mutant: str) -> None:
    case = CASES[mutant]

    report = await carry_out(tmp_path, own_postgres, case, mutant)

    found = report.findings.counts()
    assert all(found[kind] for kind in case.kinds), "\n".join(report.lines())


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.parametrize("mutant", CASES)
async def test_the_same_without_the_wrong_line_passes(
    tmp_path: Path, own_postgres: PostgresServer, mutant: str
) -> None:
    report = await carry_out(tmp_path, own_postgres, CASES[mutant], "")

    assert report.findings.problems == []
    assert report.voids() == []
