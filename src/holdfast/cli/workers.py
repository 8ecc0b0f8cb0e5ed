"""
`holdfast serve --workers N`: one port, N processes on one Postgres store.

    we      hold the listening socket, start the others, start one again when it dies, write `server.json`
    others  accept from that same socket and are whole servers; each takes over what a dead one was executing

The socket is inherited rather than opened N times: there is one queue of connections, so that none is refused or lost
while a process is gone, and whoever has time takes the next. The first process starts alone. It migrates, makes the
first key and says on the screen what there is to say; if it cannot start, none can, and that is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from holdfast.clock import SystemClock
from holdfast.ids import RandomIds
from holdfast.listening import bind, url_of
from holdfast.logs import configure_logging
from holdfast.server import require_shared_store
from holdfast.server_file import ServerFile
from holdfast.settings import Settings

log = structlog.get_logger(__name__)

# One that dies at once each time must not keep the machine busy; one that lived for a while may come back at once.
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 10.0
HEALTHY_SECONDS: Final = 30.0
# A stop takes the drain time and two seconds at most; who takes longer hangs.
STOP_SECONDS_MORE: Final = 2.0


class Membership(msgspec.Struct, frozen=True):
    """What one of the processes is told, over a socket: keys and URLs stay out of arguments and environment."""

    settings: Settings
    targets: tuple[str, ...]
    env_file: str | None
    listener: int  # the descriptor of the inherited socket
    token: str
    parent: int
    announces: bool  # it says on the screen where it listens


class Workers:
    """The processes behind one port, from `run` to a signal."""

    def __init__(self, settings: Settings, targets: Sequence[str], env_file: Path | None = None) -> None:
        require_shared_store(settings, "workers", "more than one process")
        self._settings = settings
        self._targets = tuple(targets)
        self._env_file = None if env_file is None else str(env_file)
        self._listener = bind(settings)
        self._token = RandomIds(SystemClock()).secret("hfs")
        self._file = ServerFile(Path(settings.data))
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stop = asyncio.Event()
        self._is_urgent = asyncio.Event()

    def run(self) -> int:
        """
        Until a signal; or until the first process could not start, whose exit status comes back.

        Raises:
            CannotListen, InvalidSetting: nothing was started.
        """
        configure_logging(self._settings)
        with contextlib.closing(self._listener), asyncio.Runner() as runner:
            try:
                return runner.run(self._run())
            finally:
                self._file.remove()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        first, is_up = await self._start(0, announces=True)
        if not await self._is_up(is_up):
            status = await self._ended(first)
            return 0 if self._stop.is_set() else status if status > 0 else 1
        self._file.write(url_of(self._settings, self._listener), self._token)
        keeping = [asyncio.create_task(self._keep(0, first))]
        keeping += [asyncio.create_task(self._keep(number)) for number in range(1, self._settings.workers)]
        await asyncio.gather(*keeping)
        return 130 if self._is_urgent.is_set() else 0

    async def _keep(self, number: int, process: asyncio.subprocess.Process | None = None) -> None:
        """Have this one running until the stop, and see it end then."""
        loop = asyncio.get_running_loop()
        pause = PAUSE_SECONDS_MIN
        while not self._stop.is_set():
            began = loop.time()
            if process is None:
                process, is_up = await self._start(number)
                is_up.close()
            status = await self._ended(process)
            if self._stop.is_set():
                return
            lived = loop.time() - began
            pause = PAUSE_SECONDS_MIN if lived > HEALTHY_SECONDS else min(pause * 2, PAUSE_SECONDS_MAX)
            log.warning("worker_died", worker=number, pid=process.pid, status=status, starts_again_in=pause)
            process = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    async def _start(self, number: int, *, announces: bool = False) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """A new process, and the socket on which it will say that it is up."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), self._listener.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "holdfast.cli.member", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
                # Ctrl-C in the terminal reaches us alone, and we pass it on once.
                start_new_session=True,
            )
        self._processes[number] = process
        membership = Membership(
            self._settings,
            self._targets,
            self._env_file,
            self._listener.fileno(),
            self._token,
            os.getpid(),
            announces,
        )
        ours.setblocking(False)
        with contextlib.suppress(OSError):  # it died already
            await asyncio.get_running_loop().sock_sendall(ours, msgspec.json.encode(membership))
            ours.shutdown(socket.SHUT_WR)
        if self._stop.is_set():
            _send(process, signal.SIGTERM)  # it came while there was none
        return process, ours

    async def _is_up(self, told: socket.socket) -> bool:
        with told:
            try:
                return bool(await asyncio.get_running_loop().sock_recv(told, 1))
            except OSError:
                return False

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Its exit status. After the stop it has the drain time and a little more."""
        ending = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ending.done():
            urgent = asyncio.ensure_future(self._is_urgent.wait())
            seconds = self._settings.drain_seconds + STOP_SECONDS_MORE
            await asyncio.wait((ending, urgent), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            urgent.cancel()
            if not ending.done():
                _send(process, signal.SIGKILL)
        return await ending

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set() and number == signal.SIGINT:
            self._is_urgent.set()
            return
        self._stop.set()
        for process in self._processes.values():
            _send(process, signal.SIGTERM)


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
