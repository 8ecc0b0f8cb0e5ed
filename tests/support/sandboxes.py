"""Tools of the assistant on real directories, and whether this machine has what holds a shell in them."""

from __future__ import annotations

import os
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


def nap(seconds: int) -> str:
    """So many seconds, written as nobody else on this machine writes them: by this a process is found."""
    return f"{seconds}.{os.getpid():08d}"


def processes_with(text: str) -> list[int]:
    """Processes in whose command line this stands. Let it be nothing that may be a port: servers tell theirs there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
