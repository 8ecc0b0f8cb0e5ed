"""
In which order the tests run, and that what is collected is looked through once.

A process of the test run takes a file after the other. Files of one long test come first, so that no process begins
one when the others have nothing left to do; `--no-loadscope-reorder` leaves it so. Thousands of small tests fill the end.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import PurePosixPath
from typing import Final

import pytest

# The longest first; a directory that is not named stands between the two.
LONG: Final = (
    "tests/crash",
    "tests/faults",
    "tests/integration/scale_out",
    "tests/integration/limits",
    "tests/integration/runtime",
    "tests/integration/cli",
    "tests/integration/engine",
)
SHORT: Final = ("tests/contract", "tests/unit")


def longest_first(items: list[pytest.Item]) -> None:
    """Our `pytest_collection_modifyitems`. Within a directory nothing changes."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(test: str) -> int:
    directories = {str(place) for place in PurePosixPath(test.partition("::")[0]).parents}
    for rank, name in enumerate(LONG):
        if name in directories:
            return rank
    return len(LONG) + any(name in directories for name in SHORT)


@pytest.hookimpl(wrapper=True)
def collected_once() -> Generator[None, None, None]:
    """
    Our `pytest_collection`: what it makes stays to the end, so the garbage collector need not look at it, neither meanwhile
    nor again with each test. Of the time of collecting that is nearly half.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
