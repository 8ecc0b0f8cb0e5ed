"""
The launcher of the harness: the server of `holdfast serve`, under a name that the database sees, with a fault built in
where a test asks for one. Nothing of this is in the product.

    FAULTS_NAME      what the connections to Postgres are called
    FAULTS_MUTANT    a mutant of mutants.py
    FAULTS_SLOW      seconds between claiming a run and taking it up
    FAULTS_LATE      seconds that each commit takes on its way to the database, from every second server
    FAULTS_DEAF      no hint reaches another process
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from holdfast.execution.program import Program
from holdfast.execution.recovery import Recovery, TakenUp
from holdfast.model import Run
from holdfast.store.base import Outcome, Write
from holdfast.store.postgres import PostgresStore, connection
from holdfast.store.postgres.notices import Notices
from tests.faults import mutants
from tests.support import serve_main


def main() -> None:
    connection.SESSION["application_name"] = os.environ["FAULTS_NAME"]
    if seconds := float(os.environ.get("FAULTS_SLOW", "0")):
        take_up_slowly(seconds)
    if (seconds := float(os.environ.get("FAULTS_LATE", "0"))) and is_second(os.environ["FAULTS_NAME"]):
        commit_late(seconds)
    if os.environ.get("FAULTS_DEAF"):
        Notices.note = _tell_nobody  # type: ignore[assignment, method-assign]  # that is the point
    mutants.install(os.environ.get("FAULTS_MUTANT", ""))
    serve_main.main()


def take_up_slowly(seconds: float) -> None:
    take_up = Recovery.take_up

    async def slow(self: Recovery, run: Run, program: Program) -> TakenUp:
        await asyncio.sleep(seconds)
        return await take_up(self, run, program)

    Recovery.take_up = slow  # type: ignore[method-assign]  # that is the point


def is_second(name: str) -> bool:
    """Of `server-3.1`: the number of its slot is odd."""
    return int(name.removeprefix("server-").partition(".")[0]) % 2 == 1


def commit_late(seconds: float) -> None:
    commit = PostgresStore.commit

    async def late(self: PostgresStore, writes: Sequence[Write]) -> list[Outcome]:
        await asyncio.sleep(seconds)
        return await commit(self, writes)

    PostgresStore.commit = late  # type: ignore[method-assign]  # that is the point


def _tell_nobody(self: Notices, *_: Any) -> None:
    """A hint that is lost."""


if __name__ == "__main__":
    main()
