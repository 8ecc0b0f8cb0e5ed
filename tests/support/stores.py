"""
The stores on which the wire tests run: a test that asks for one of these fixtures, by itself or through the `server` of
its directory, runs once on SQLite and once on Postgres.

A test whose proof has nothing to do with the store (parsing, limits below HTTP) says so with the mark `one_store` and
runs on SQLite alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.postgres import PostgresServer

STORES = ("sqlite", "postgres")

# Whoever is killed here is taken over after this, and not after 8 s as in operation. Not 1 s: on a busy machine a
# process that only waited for its turn would lose its lease.
LEASE_SECONDS = "3"


def run_on_both_stores(metafunc: pytest.Metafunc) -> None:
    """Our `pytest_generate_tests`. Tests of a module stay together, one store after the other."""
    if "store_kind" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("one_store")
        metafunc.parametrize("store_kind", STORES[:1] if marked else STORES, indirect=True, scope="module")


@pytest.fixture(scope="module")
def store_kind(request: pytest.FixtureRequest) -> str:
    """One of `STORES`."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def module_store(store_kind: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings of a server whose runs are in a store of the module's own. SQLite's is in the server's directory."""
    yield from _settings(store_kind, request)


@pytest.fixture
def own_store(store_kind: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The same of one test's own, for tests that stop their server or need one that is set otherwise."""
    yield from _settings(store_kind, request)


@contextlib.contextmanager
def new_postgres_store(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """The settings of a server on an empty database, which is gone afterwards."""
    # A fixture may be set up beside an event loop, so the calls to Postgres have a thread with one of their own.
    with ThreadPoolExecutor(1) as aside:
        name = aside.submit(asyncio.run, postgres.make_database()).result()
        yield {"HOLDFAST_STORE": postgres.url(name), "HOLDFAST_LEASE_SECONDS": LEASE_SECONDS}
        aside.submit(asyncio.run, postgres.give_back(name)).result()


def _settings(kind: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if kind == "sqlite":
        yield {}
        return
    with new_postgres_store(request.getfixturevalue("postgres")) as settings:
        yield settings
