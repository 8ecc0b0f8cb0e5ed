"""
What really happened, written down by the agents themselves, independent of the product: one file, one line a fact.

A line is appended with one `write` to a file opened with O_APPEND and synced before `note` returns, so lines of
several threads do not mix and a line that was returned from is there whatever happens to the process afterwards. The
time is that of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec


class Fact(msgspec.Struct, frozen=True):
    """One line: at `at` (monotonic nanoseconds), `what` happened to `key` of a run."""

    at: int
    pid: int
    what: str
    run_id: str
    key: str
    token: str


class Ledger:
    """Appends to the file; read it with `facts`."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: str, run_id: str, key: str, token: str = "") -> None:
        """Write one fact; it is on disk when this returns."""
        fact: dict[str, Any] = {
            "at": time.monotonic_ns(),
            "pid": os.getpid(),
            "what": what,
            "run_id": run_id,
            "key": key,
            "token": token,
        }
        os.write(self._file, json.dumps(fact).encode() + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def facts(path: str | Path) -> list[Fact]:
    """All facts, in the order in which they were written."""
    lines = Path(path).read_bytes().splitlines() if Path(path).exists() else []
    return [msgspec.json.decode(line, type=Fact) for line in lines]
