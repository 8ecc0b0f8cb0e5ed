"""One server and one fake of it, and each client in both of its forms: every test here holds all four."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from holdfast import FunctionAgent
from holdfast.client import (
    AsyncEngineClient,
    AsyncRunsClient,
    AsyncSkillsClient,
    EngineClient,
    RunsClient,
    SkillsClient,
)
from holdfast.testing import FakeServer
from tests.support import agents
from tests.support.served_skills import SKILL_ROOT
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.twins import Awaited

SETTINGS = {"HOLDFAST_AGENT": "gated", "HOLDFAST_SKILLS_ROOTS": str(SKILL_ROOT)}
FORMS = ["real-async", "real-sync", "fake-async", "fake-sync"]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("clients"), environment=SETTINGS) as running:
        yield running


@pytest.fixture(scope="package")
def fake() -> Iterator[FakeServer]:
    with FakeServer(
        *[one for one in vars(agents).values() if isinstance(one, FunctionAgent)], settings=SETTINGS
    ) as made:
        yield made


def _reached(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    """Where the server of this form is, its key, and what else a client needs to get there."""
    if request.param.startswith("real"):
        return request.getfixturevalue("server").url, KEY, {}
    fake: FakeServer = request.getfixturevalue("fake")
    return fake.url, fake.key, {"transport": fake.transport()}


@pytest.fixture(params=FORMS)
async def runs(request: pytest.FixtureRequest) -> AsyncIterator[AsyncRunsClient | Awaited]:
    url, key, more = _reached(request)
    if request.param.endswith("-async"):
        async with AsyncRunsClient(url, key, **more) as client:
            yield client
    else:
        with RunsClient(url, key, **more) as client:
            yield Awaited(client)


@pytest.fixture(params=FORMS)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngineClient | Awaited]:
    url, key, more = _reached(request)
    if request.param.endswith("-async"):
        async with AsyncEngineClient(url, key, **more) as client:
            yield client
    else:
        with EngineClient(url, key, **more) as client:
            yield Awaited(client)


@pytest.fixture(params=FORMS)
async def skills(request: pytest.FixtureRequest) -> AsyncIterator[AsyncSkillsClient | Awaited]:
    url, key, more = _reached(request)
    if request.param.endswith("-async"):
        async with AsyncSkillsClient(url, key, **more) as client:
            yield client
    else:
        with SkillsClient(url, key, **more) as client:
            yield Awaited(client)
