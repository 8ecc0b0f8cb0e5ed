"""The examples pass a second type checker. mypy is strict about them in `make check`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKERS = ("pyright", "basedpyright")


@pytest.mark.faults
def test_pyright_finds_nothing_in_the_examples() -> None:
    checker = next((found for name in CHECKERS if (found := shutil.which(name))), None)
    if checker is None:
        pytest.skip("pyright is not on the PATH: it is 300 MB with its Node, and so not among what is installed")

    command = [checker, "--pythonpath", sys.executable, "--level", "error", "examples/clients"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
