"""
A real server process on a free port, for tests that talk HTTP. It is killed by its process id, and nothing sleeps:
the process says on its standard output when it listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from tests.support.forks import Forked, Nursery, shared_nursery

KEY = "test-key"
AGENTS = Path(__file__).with_name("agents.py")
# For all clients of all tests: reading the certificates of the system takes 16 ms of CPU, and these speak no TLS.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_MAIN = "tests.support.serve_main"
_ROOT = Path(__file__).parents[2]
# What the developer's own shell has set must not decide about a test.
_FOREIGN = ("HOLDFAST_", "ENGINE_", "LLM_")


class ServerProcess:
    """A started server. `first_key` is the key that it made, if it made one."""

    def __init__(self, popen: subprocess.Popen[bytes] | Forked, url: str, first_key: str | None, log: Path) -> None:
        self.popen = popen
        self.url = url
        self.first_key = first_key
        self._log = log

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str | None = KEY, *, timeout: float = 20.0) -> httpx.Client:
        """A client of this server; with `key` None it sends none."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=False, verify=NO_CERTIFICATES
        )

    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it hard, as a crash would."""
        self.popen.kill()
        self.popen.wait()

    def wait(self, seconds: float = 20.0) -> int:
        """Its exit status, once it is gone."""
        return self.popen.wait(seconds)


@contextlib.contextmanager
def running_server(
    data: Path,
    *,
    agents: Path | None = AGENTS,
    environment: Mapping[str, str] | None = None,
    key: str | None = KEY,
    fresh: bool = False,
) -> Iterator[ServerProcess]:
    """
    A server with its data in this directory; killed at the end, if it still lives.

    Args:
        agents: a file with agents; None serves the assistant.
        environment: further settings, such as `HOLDFAST_HEARTBEAT_SECONDS`.
        key: an admin's key; None leaves the choice to the server.
        fresh: a new Python, for tests of its memory or its start; else a fork of one that has everything imported.
    """
    server = start_server(data, agents=agents, environment=environment, key=key, fresh=fresh)
    try:
        yield server
    finally:
        server.kill()


def start_server(
    data: Path,
    *,
    agents: Path | None = AGENTS,
    environment: Mapping[str, str] | None = None,
    key: str | None = KEY,
    main: str = _MAIN,
    nursery: Nursery | None = None,
    fresh: bool = False,
) -> ServerProcess:
    """The same, for tests that end it themselves; `main` is the module that is run, `nursery` what forks the process."""
    process, told = spawn_server(
        data, agents=agents, environment=environment, key=key, main=main, nursery=nursery, fresh=fresh
    )
    log = data / "log"
    with os.fdopen(told, "rb") as output:
        line = output.readline()
    if not line:
        raise RuntimeError(f"the server did not start (exit {process.wait()}): {log.read_text()[-10_000:]}")
    listening = json.loads(line)
    return ServerProcess(process, listening["url"], listening["first_key"], log)


def spawn_server(
    data: Path,
    *,
    agents: Path | None = AGENTS,
    environment: Mapping[str, str] | None = None,
    key: str | None = KEY,
    main: str = _MAIN,
    nursery: Nursery | None = None,
    fresh: bool = False,
) -> tuple[subprocess.Popen[bytes] | Forked, int]:
    """Its process, not yet listening, and the open file from which one reads what it says when it does."""
    data.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    settings = {"HOLDFAST_DATA": str(data), "HOLDFAST_PORT": "0", **({} if key is None else {"HOLDFAST_KEYS": key})}
    settings = {**inherited, **settings, **(environment or {})}
    arguments = [] if agents is None else [str(agents)]
    told, tells = os.pipe()
    try:
        with (data / "log").open("ab") as errors:
            if fresh:
                command = [sys.executable, "-m", main, *arguments]
                return subprocess.Popen(command, cwd=_ROOT, env=settings, stdout=tells, stderr=errors), told
            forked = (nursery or shared_nursery()).start(
                main, arguments, environment=settings, stdout=tells, stderr=errors.fileno()
            )
            return forked, told
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tells)
