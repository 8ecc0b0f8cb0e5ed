from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.scale_out.processes import Fleet, fleet_on
from tests.support.postgres import PostgresServer


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer, database: str) -> Iterator[Fleet]:
    """Nothing yet, on a database of the test's own."""
    with fleet_on(tmp_path, postgres.url(database)) as started:
        yield started
