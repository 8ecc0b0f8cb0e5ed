"""Fixtures for all tests, and their order."""

from tests.support.order import collected_once, longest_first
from tests.support.postgres import database, postgres  # noqa: F401
from tests.support.stores import module_store, own_store, run_on_both_stores, store_kind  # noqa: F401

pytest_collection = collected_once
pytest_collection_modifyitems = longest_first
pytest_generate_tests = run_on_both_stores
