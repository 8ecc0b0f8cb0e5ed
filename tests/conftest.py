"""Fixtures for all tests."""

from tests.support.postgres import database, postgres  # noqa: F401
from tests.support.stores import module_store, own_store, run_on_both_stores, store_kind  # noqa: F401

pytest_generate_tests = run_on_both_stores
