"""
Control groups around what the shell runs, where this process may make them: the kernel then holds the limits on memory
and processes by itself. Root needs that, for it is exempt from the kernel's limit on the processes of a user; for others,
and where there are no control groups, `processes.py` looks by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

_MOUNT: Final = Path("/sys/fs/cgroup")
_LEFT: Final[list[Path]] = []
PREFIX: Final = "holdfast-shell-"
LATER_SECONDS: Final = 1.0
LEFT_SECONDS: Final = 3600.0

# Enters the groups in front of `--`, then becomes the command behind it.
_ENTER: Final = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"'


class Kind(msgspec.Struct, frozen=True):
    """Where groups of one kind are made, and the files of their limits."""

    parent: Path
    memory: str | None = None
    processes: str | None = None


class Cage:
    """Groups that were made for one command."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories

    def command(self, inner: Sequence[str]) -> list[str]:
        """The command that enters the groups, and then becomes this one."""
        files = [str(directory / "cgroup.procs") for directory in self._directories]
        return ["sh", "-c", _ENTER, "sh", *files, "--", *inner]

    def remove(self) -> None:
        """Remove the groups; those that are busy for a moment, after their last process was killed, a little later."""
        _LEFT.extend(self._directories)
        _sweep()
        if _LEFT:
            with contextlib.suppress(RuntimeError):  # without a loop they go with the next ones
                asyncio.get_running_loop().call_later(LATER_SECONDS, _sweep)


def _sweep() -> None:
    for directory in list(_LEFT):
        with contextlib.suppress(OSError):
            directory.rmdir()
            _LEFT.remove(directory)


@contextlib.contextmanager
def caged(*, memory_bytes: int, processes: int) -> Iterator[Cage | None]:
    """Groups with these limits, for as long as this lasts; None where there can be none."""
    cage = _made(memory_bytes, processes)
    try:
        yield cage
    finally:
        if cage is not None:
            cage.remove()


def _made(memory_bytes: int, processes: int) -> Cage | None:
    name = f"{PREFIX}{secrets.token_hex(8)}"
    made: list[Path] = []
    try:
        for kind in kinds():
            directory = kind.parent / name
            directory.mkdir()
            made.append(directory)
            for file, limit in ((kind.memory, memory_bytes), (kind.processes, processes)):
                if file is not None:
                    (directory / file).write_text(str(limit))
    except OSError:
        Cage(made).remove()
        return None
    return Cage(made) if made else None


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Where groups can be made; nowhere for those who are not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ()
    with contextlib.suppress(OSError):
        if {"memory", "pids"} <= set((_MOUNT / "cgroup.subtree_control").read_text().split()):
            return _usable(Kind(_MOUNT, memory="memory.max", processes="pids.max"))
    own = _own_groups()
    return _usable(
        *(Kind(own[name], processes="pids.max") for name in ("pids",) if name in own),
        *(Kind(own[name], memory="memory.limit_in_bytes") for name in ("memory",) if name in own),
    )


def _own_groups() -> dict[str, Path]:
    """This process's groups of the first version, by their controllers."""
    own: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= {name: _MOUNT / name / path.lstrip("/") for name in controllers.split(",") if name}
    return own


def _usable(*kinds: Kind) -> tuple[Kind, ...]:
    """These, if groups can be made of each and both limits are among theirs; else none. Old ones are cleared away."""
    with contextlib.suppress(OSError):
        for kind in kinds:
            probe = kind.parent / f"{PREFIX}{secrets.token_hex(8)}"
            probe.mkdir()
            probe.rmdir()
            for left in kind.parent.glob(f"{PREFIX}*"):
                # No command takes so long: its server was killed. One with processes in it could not be removed.
                if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                    with contextlib.suppress(OSError):
                        left.rmdir()
        if any(kind.memory for kind in kinds) and any(kind.processes for kind in kinds):
            return kinds
    return ()
