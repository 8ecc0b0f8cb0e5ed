"""
Fixtures for pytest; installed with the package, so that tests need only name them.

    async def test_my_client(fake_server):
        server = fake_server(scripted("greeter", Token("Hello")))
        ...

    async def test_the_agent_still_does_the_same(replayed_run):
        await replayed_run(my_agent, Path(__file__).with_name("r-17.json"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from holdfast.execution.program import Program
    from holdfast.testing.fake_server import FakeServer


@pytest.fixture
def fake_server() -> Iterator[Callable[..., FakeServer]]:
    """Call it as `FakeServer` is called: a server that answers, until the test is over."""
    # Loaded with the first test that asks for it, not with every run of pytest.
    from holdfast.testing.fake_server import FakeServer

    with contextlib.ExitStack() as started:

        def start(*agents: Any, **options: Any) -> FakeServer:
            return started.enter_context(FakeServer(*agents, **options))

        yield start


@pytest.fixture
def replayed_run() -> Callable[[Program, str | Path], Awaitable[None]]:
    """Call it with an agent and the file of a recording: the test fails with the first event that differs."""

    async def check(agent: Program, path: str | Path) -> None:
        from holdfast.testing.recording import Recording, replay

        difference = await replay(agent, Recording.load(path))
        if difference is not None:
            pytest.fail(f"{path}: {difference}", pytrace=False)

    return check
