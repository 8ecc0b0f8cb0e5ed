"""One server on each store for the tests of the Workflow API; and a small fake of it, for what it shows rarely."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.fake_workflow import FakeServer, fake_server
from tests.support.postgres import PostgresServer
from tests.support.server import ServerProcess, running_server
from tests.support.stores import new_postgres_store

# Its webhooks go to receivers on this machine; those of single runs are signed with this.
WEBHOOK_SECRET = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="
WEBHOOKS = {"HOLDFAST_WEBHOOK_ALLOW": "127.0.0.1", "HOLDFAST_WEBHOOK_SECRET": WEBHOOK_SECRET}
AGENTS = Path(__file__).parents[2] / "support" / "workflow_agents.py"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("workflow") / "data", agents=AGENTS, environment=WEBHOOKS) as process:
        yield process


@pytest.fixture(scope="session")
def postgres_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("workflow") / "data"
    with (
        new_postgres_store(postgres) as settings,
        running_server(data, agents=AGENTS, environment={**settings, **WEBHOOKS}) as process,
    ):
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
