"""One server, and each client in both of its forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from holdfast.client import AsyncEngineClient, AsyncRunsClient, EngineClient, RunsClient
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.twins import Awaited


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("clients"), environment={"HOLDFAST_AGENT": "gated"}) as running:
        yield running


@pytest.fixture(params=["async", "sync"])
async def runs(request: pytest.FixtureRequest, server: ServerProcess) -> AsyncIterator[AsyncRunsClient | Awaited]:
    if request.param == "async":
        async with AsyncRunsClient(server.url, KEY) as client:
            yield client
    else:
        with RunsClient(server.url, KEY) as client:
            yield Awaited(client)


@pytest.fixture(params=["async", "sync"])
async def engine(request: pytest.FixtureRequest, server: ServerProcess) -> AsyncIterator[AsyncEngineClient | Awaited]:
    if request.param == "async":
        async with AsyncEngineClient(server.url, KEY) as client:
            yield client
    else:
        with EngineClient(server.url, KEY) as client:
            yield Awaited(client)
