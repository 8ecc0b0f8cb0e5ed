"""One server process on each store for all tests of a module, each with a task of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.engine.support import AGENTS, Engine
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("engine")
    with running_server(data, agents=AGENTS, environment=module_store) as process:
        yield process


@pytest.fixture
def engine(server: ServerProcess) -> Iterator[Engine]:
    with server.client() as client:
        yield Engine(client)


@pytest.fixture
def task_id() -> str:
    return f"task/{uuid.uuid4().hex[:8]} 🎣"
