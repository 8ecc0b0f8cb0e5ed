"""One server on each store for all tests of the Runtime API that do not stop it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.postgres import PostgresServer
from tests.support.server import ServerProcess, running_server
from tests.support.stores import new_postgres_store


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("runtime") / "data") as process:
        yield process


@pytest.fixture(scope="session")
def postgres_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("runtime") / "data"
    with new_postgres_store(postgres) as settings, running_server(data, environment=settings) as process:
        yield process


@pytest.fixture(scope="module")
def server(store_kind: str, request: pytest.FixtureRequest) -> ServerProcess:
    """The session's server on the store that the test runs on."""
    found: ServerProcess = request.getfixturevalue(f"{store_kind}_server")
    return found


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made
