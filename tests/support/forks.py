"""
Server processes without the second that Python takes to import everything: a nursery that has imported it all, and forks.

What it forks is a process like any other: own id, own memory, own event loop, made after the fork; it dies by a real
signal. The nursery has one thread, no event loop and no connection when it forks, and touches nothing of the product
but by importing it. Its children die with it, and it dies with the process that made it (Linux).

    python -m tests.support.forks 5 MODULE…    the nursery; 5 is the socket on which it is told what to do

`shared_nursery` is the one of this process of the test run. A test that is about a new Python (what it imports, how long it
takes, what memory it has) does not ask a nursery.

A dead child keeps its id until `Forked.wait` or `poll` has seen its end, so no signal can hit a stranger.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Self

_ROOT = Path(__file__).parents[2]
MESSAGE_BYTES_MAX: Final = 1 << 17

# What a server of the tests and the command line import until they work, and what the agents do.
MODULES: Final = (
    "holdfast.server",
    "holdfast.agents.assistant.loop",
    "holdfast.agents.models.build",
    "holdfast.agents.models.offline",
    "holdfast.api.control",
    "holdfast.api.engine",
    "holdfast.api.runtime",
    "holdfast.api.workflow.routes",
    "holdfast.cli.app",
    "holdfast.cli.runs",
    "holdfast.cli.serving",
    "holdfast.cli.starting",
    "holdfast.store.postgres",
    "holdfast.store.sqlite",
    "tests.crash.dying",
    "tests.crash.leases",
    "tests.crash.texts",
    "tests.support.ledger",
    "tests.support.serve_main",
)


class Forked:
    """A process that a nursery made; used like a `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int, arguments: Sequence[str]) -> None:
        self.pid = pid
        self.args = arguments
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()  # a process that is gone can be asked about once

    def poll(self) -> int | None:
        """Its exit status (of a signal: its negative number), or None while it lives."""
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.ask({"wait": self.pid})["status"]
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """
        Its exit status, once it is gone.

        Raises:
            subprocess.TimeoutExpired: it lives still.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.002)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """As a context manager: a process that forks others. Its methods may be called from any thread."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forks", str(theirs.fileno()), *MODULES, *self._modules],
                cwd=_ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket = ours
        self.ask({"ready": True})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._socket is not None
        assert self._process is not None
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def start(
        self,
        main: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
        stdin: int | None = None,
        folder: Path = _ROOT,
    ) -> Forked:
        """Fork a process that calls `main` of a module, in this folder; nothing of the environment but what is given."""
        told = {"main": main, "arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        files = (stdout, stderr) if stdin is None else (stdout, stderr, stdin)
        return Forked(self, self.ask({"start": told}, *files)["pid"], [main, *arguments])

    def ask(self, question: Mapping[str, Any], *files: int) -> dict[str, Any]:
        """Send a question with open files, and wait for its answer."""
        with self._lock:
            assert self._socket is not None
            socket.send_fds(self._socket, [json.dumps(question).encode()], files)
            answer = self._socket.recv(MESSAGE_BYTES_MAX)
        if not answer:
            raise RuntimeError("the nursery of server processes ended")
        value: dict[str, Any] = json.loads(answer)
        return value


_shared: list[Nursery] = []
_shared_lock = threading.Lock()


def shared_nursery() -> Nursery:
    """The nursery of this process, made when it is first asked for; from any thread. It ends with the process."""
    with _shared_lock:
        if not _shared:
            made = threading.Event()

            def keep() -> None:
                # A child dies with the thread that made it, so this one stays.
                with Nursery() as nursery:
                    _shared.append(nursery)
                    made.set()
                    threading.Event().wait()

            threading.Thread(target=keep, name="nursery", daemon=True).start()
            made.wait(60)
    return _shared[0]


# In the nursery


def main() -> None:
    die_with(os.getppid())
    channel = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    # What is there now is never collected: the children share its pages for as long as they live.
    gc.collect()
    gc.freeze()
    while True:
        message, files, _, _ = socket.recv_fds(channel, MESSAGE_BYTES_MAX, 3)
        if not message:
            return
        question = json.loads(message)
        if "start" in question:
            answer: dict[str, Any] = {"pid": _fork(question["start"], files, channel)}
        elif "wait" in question:
            pid, status = os.waitpid(question["wait"], os.WNOHANG)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            answer = {"ready": True}
        channel.send(json.dumps(answer).encode())


def _fork(told: Mapping[str, Any], files: Sequence[int], channel: socket.socket) -> int:
    assert threading.active_count() == 1, "a lock that another thread holds would be held in the child for ever"
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(told, files, channel, parent)
    for file in files:
        os.close(file)
    return pid


def _live(told: Mapping[str, Any], files: Sequence[int], channel: socket.socket, parent: int) -> NoReturn:
    """What the child does, to its end."""
    status = 1
    try:
        die_with(parent)
        channel.close()
        for file, place in zip(files, (1, 2, 0), strict=False):
            os.dup2(file, place)
            os.close(file)
        os.chdir(told["folder"])
        sys.path[0] = told["folder"]
        random.seed()
        os.environ.clear()
        os.environ.update(told["environment"])
        sys.argv = [told["main"], *told["arguments"]]
        importlib.import_module(told["main"]).main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  the top of a process: whatever it is, it is told and ends it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def die_with(parent: int) -> None:
    """End this process by SIGKILL when its parent ends, which is this one. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before we had said so
            os._exit(1)


if __name__ == "__main__":
    main()
