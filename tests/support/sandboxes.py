"""Tools of the assistant on real directories, and whether this machine has what holds a shell in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.agents.tools.sandbox import Sandbox

SANDBOX = Sandbox()


def require_sandbox() -> None:
    """Skip the test where bubblewrap does not work, as in many containers; that it is refused there, others prove."""
    shelter = SANDBOX.shelter()
    if shelter.health != "ok":
        pytest.skip(f"no shell runs here: {shelter.reason}")


def workspace(tmp_path: Path, name: str = "workspace") -> Path:
    path = tmp_path.resolve() / name
    path.mkdir()
    return path
