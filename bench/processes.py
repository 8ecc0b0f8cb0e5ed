"""The processes that are measured: a real server, and the floor."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

KEY = "bench-key"
AGENTS = Path(__file__).with_name("agents.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A started process that answers HTTP; `seconds` is how long its start took."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int, seconds: float) -> None:
        self.popen, self.port, self.seconds = popen, port, seconds

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.popen.pid).memory_info().rss)


@contextlib.contextmanager
def server(
    directory: Path, *arguments: str, store: str | None = None, options: Sequence[str] = ()
) -> Iterator[Process]:
    """A Holdfast server with the benchmark's agents (or the target given), on a fresh store or on this one."""
    port = free_port()
    command = [sys.executable, "-m", "holdfast", "serve", *(arguments or (str(AGENTS),)), *options]
    command += ["--port", str(port), "--data", str(directory), "--key", KEY]
    with _process(command, port, "/health", directory / "log", store=store) as made:
        yield made


@contextlib.contextmanager
def floor(file: Path) -> Iterator[Process]:
    """The floor, sending this file at `/file`."""
    port = free_port()
    with _process(
        [sys.executable, "-m", "bench.floor", str(port)], port, "/one", file.with_suffix(".log"), file
    ) as made:
        yield made


@contextlib.contextmanager
def _process(
    command: list[str], port: int, path: str, log: Path, file: Path | None = None, store: str | None = None
) -> Iterator[Process]:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Some rows read one run with 500 clients, which is more than a server allows by itself.
    environment = {**os.environ, "HOLDFAST_FLOOR_FILE": str(file or ""), "HOLDFAST_SUBSCRIBERS_MAX": "1000"}
    if store is not None:
        environment["HOLDFAST_STORE"] = store
    began = time.monotonic()
    with log.open("wb") as out:
        popen = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            _await(f"http://127.0.0.1:{port}{path}", popen, log)
            made = Process(popen, port, time.monotonic() - began)
            if file is None:
                _await(f"http://127.0.0.1:{port}/ready", popen, log)
            yield made
        finally:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()


def _await(url: str, popen: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if popen.poll() is not None:
            raise RuntimeError(f"the process ended with {popen.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.01)
    raise RuntimeError(f"no answer from {url}:\n{log.read_text()}")
