"""A small fake of the server, for what a real one shows rarely."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_workflow import FakeServer, fake_server


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server
