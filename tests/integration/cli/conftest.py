"""One server for all tests that neither stop it nor change its keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cli.commands import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cli")) as started:
        yield started
