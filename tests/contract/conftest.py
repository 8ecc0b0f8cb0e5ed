"""Each test of this directory runs once on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.clock import HeldClock
from holdfast.store.base import Store
from tests.contract.backends import BACKENDS, Backend, PostgresBackend, SQLiteBackend


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: HeldClock) -> AsyncIterator[Backend]:
    backend: Backend
    if request.param == "sqlite":
        backend = SQLiteBackend(tmp_path / "store", clock)
    else:
        backend = PostgresBackend(request.getfixturevalue("postgres"), clock)
    await backend.open()
    yield backend
    await backend.close()
    await backend.remove()


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store
