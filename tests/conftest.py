"""Fixtures for all tests."""

from tests.support.postgres import database, postgres  # noqa: F401
