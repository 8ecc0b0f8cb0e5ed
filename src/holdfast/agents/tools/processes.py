"""
Runs one program with limits, and leaves none of its processes behind: however it ends, all that it started ends with it.

Of its output the beginning and the end are kept, whatever there is in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

Ended: TypeAlias = Literal["exit", "timeout", "memory", "processes", "disk"]

STREAM_BYTES_MAX: Final = 64 * 1024
MEMORY_BYTES_MAX: Final = 1024 * 1024 * 1024
PROCESSES_MAX: Final = 256
# What a program has to leave free on the disk it works on. The store stops taking runs at half of it.
FREE_BYTES_MIN: Final = 512 * 1024 * 1024
# Where less is free already, a program may still write so much; others write there, too.
FEW_BYTES: Final = 64 * 1024 * 1024

# How long a fork bomb may grow. A look at a few processes takes some 0.1 ms.
LOOK_SECONDS: Final = 0.05
# Who held the output open is dead; what is left in the pipes comes at once.
DRAIN_SECONDS: Final = 5.0

_READ_BYTES: Final = 512 * 1024
# Whoever writes without end is read slowly from here on, so that the server has its time for others.
_FAST_BYTES: Final = 4 * 1024 * 1024
_SLOW_SECONDS: Final = 0.01

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Limits(msgspec.Struct, frozen=True):
    """What a program and all that it starts may use together."""

    seconds: float
    memory_bytes: int = MEMORY_BYTES_MAX
    processes: int = PROCESSES_MAX
    free_bytes: int = FREE_BYTES_MIN
    is_held: bool = False  # the system sees to memory and processes


class Finished(msgspec.Struct, frozen=True):
    """How a program ended. `exit_code` is as a shell tells it: 128 + n for signal n."""

    ended: Ended
    exit_code: int
    stdout: str
    stderr: str
    truncated: bool


class BothEnds:
    """The first and the last bytes of a stream."""

    def __init__(self, bytes_max: int = STREAM_BYTES_MAX) -> None:
        self._half = bytes_max // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def is_cut(self) -> bool:
        return self.total > 2 * self._half

    @property
    def text(self) -> str:
        if not self.is_cut:
            return (self._head + self._tail).decode(errors="replace")
        left_out = self.total - 2 * self._half
        tail = self._tail[-self._half :]
        return (
            f"{self._head.decode(errors='replace')}\n[… {left_out:,} bytes left out …]\n{tail.decode(errors='replace')}"
        )


async def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    descriptors: Sequence[int] = (),
    mark: str | None = None,
) -> Finished:
    """
    Run a program to its end, or to a limit. When this returns, or is cancelled, none of its processes is alive.

    Args:
        descriptors: open files that it gets under their numbers.
        mark: a variable of its environment, `name=value`; processes that got away from it are found by that.

    Raises:
        OSError: it cannot be started.
    """
    with _disk_of(cwd) as is_full:
        return await _run(command, cwd, environment, limits, is_full, descriptors, mark)


async def _run(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    is_full: Callable[[int], bool],
    descriptors: Sequence[int],
    mark: str | None,
) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=dict(environment),
        pass_fds=tuple(descriptors),
        start_new_session=True,
        limit=_READ_BYTES,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = BothEnds(), BothEnds()
    readers = [
        asyncio.create_task(_read(process.stdout, stdout), name="shell stdout"),
        asyncio.create_task(_read(process.stderr, stderr), name="shell stderr"),
    ]
    try:
        ended = await _until_end(process, limits, is_full)
    finally:
        # Also when this is cancelled, and then again: nothing here may be left out.
        await asyncio.shield(_end(process, readers, mark))
    code = process.returncode or 0
    return Finished(
        ended=ended,
        exit_code=code if code >= 0 else 128 - code,
        stdout=stdout.text,
        stderr=stderr.text,
        truncated=stdout.is_cut or stderr.is_cut,
    )


@contextlib.contextmanager
def _disk_of(directory: Path) -> Iterator[Callable[[int], bool]]:
    """Tells whether less than so many bytes are free there, and noticeably less than in the beginning."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # a program may remove what it works in

    def free() -> int:
        room = os.fstatvfs(descriptor)
        return room.f_bavail * room.f_frsize

    try:
        most = free() - FEW_BYTES
        yield lambda bytes_min: free() < min(bytes_min, most)
    finally:
        os.close(descriptor)


async def _until_end(process: asyncio.subprocess.Process, limits: Limits, is_full: Callable[[int], bool]) -> Ended:
    waiting = asyncio.create_task(process.wait(), name="shell")
    try:
        async with asyncio.timeout(limits.seconds):
            # `wait` also waits for those who inherited the output; they may be meant to go on for ever.
            while process.returncode is None:
                await asyncio.wait({waiting}, timeout=LOOK_SECONDS)
                exceeded: Ended | None = None if limits.is_held else _exceeded(process.pid, limits)
                if is_full(limits.free_bytes):
                    exceeded = "disk"
                if exceeded is not None and process.returncode is None:
                    return exceeded
    except TimeoutError:
        return "timeout"
    finally:
        waiting.cancel()
    return "exit"


def _exceeded(pid: int, limits: Limits) -> Literal["memory", "processes"] | None:
    found = [pid, *descendants(pid, most=limits.processes)]
    if len(found) > limits.processes:
        return "processes"
    return "memory" if sum(map(_memory_of, found)) > limits.memory_bytes else None


async def _end(process: asyncio.subprocess.Process, readers: Sequence[asyncio.Task[None]], mark: str | None) -> None:
    """Kill all that is left, and take what was written."""
    _kill_all(process, mark)
    await process.wait()
    _, late = await asyncio.wait(readers, timeout=DRAIN_SECONDS)
    for reader in late:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def _kill_all(process: asyncio.subprocess.Process, mark: str | None) -> None:
    # Those that were found die with their parents anyway, where these are in a sandbox.
    below = descendants(process.pid) if process.returncode is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        _kill(pid)
    if mark is None:
        return
    while found := _marked(mark):
        for pid in found:
            _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int, most: int | None = None) -> list[int]:
    """The processes that a process started, and theirs; none where the system does not tell."""
    found: list[int] = []
    waiting = [pid]
    while waiting and (most is None or len(found) < most):
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return children


def _memory_of(pid: int) -> int:
    """Bytes that a process has for itself."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _marked(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError):
            if name.isdigit() and mark.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


async def _read(stream: asyncio.StreamReader, ends: BothEnds) -> None:
    while data := await stream.read(_READ_BYTES):
        ends.add(data)
        if ends.total > _FAST_BYTES:
            await asyncio.sleep(_SLOW_SECONDS)
