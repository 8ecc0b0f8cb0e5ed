"""Each test of this directory runs once on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.clock import HeldClock
from holdfast.store.base import Store
from tests.contract.backends import BACKENDS, Backend


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: HeldClock) -> AsyncIterator[Backend]:
    backend: Backend = BACKENDS[request.param](tmp_path / "store", clock)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store
