"""
A server as a child process: for `dev`, which starts it anew, and for `demo`, which kills it.

It gets a session of its own, so that Ctrl-C in the terminal reaches only us and we decide what to pass on; and it is
told our pid, so that it stops when we are gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.cli.access import ServerAt, read_server_file
from holdfast.cli.remote import answers
from holdfast.cli.screen import CliError

LOOK_SECONDS = 0.02
# A stop takes the drain time and two seconds at most; who takes longer hangs.
STOP_SECONDS_MORE = 6.0


class ServerProcess:
    """`holdfast serve` with these arguments, running; its environment and its folder are ours, or those given."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        data: Path,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.data = data
        self.log = log
        command = [sys.executable, "-m", "holdfast", "serve", *arguments, "--with-parent", str(os.getpid())]
        output = None if log is None else log.open("ab")
        try:
            self._process = subprocess.Popen(
                command,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=folder,
            )
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return self._process.poll()

    def wait_ready(self, seconds: float) -> ServerAt:
        """
        Where it listens, once it answers calls.

        Raises:
            CliError: it ended, or did not get that far in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.exit_code is not None:
                raise CliError(f"the server ended with status {self.exit_code} before it answered{self._last_words()}")
            at = read_server_file(self.data)
            if at is not None and at.pid == self.pid and answers(at):
                return at
            time.sleep(LOOK_SECONDS)
        raise CliError(f"the server did not answer within {seconds:g} s{self._last_words()}")

    def send(self, number: int) -> None:
        """Pass a signal on; to one that has ended, nothing."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as `kill -9` does, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self, seconds: float) -> None:
        """Ask it to stop; one that has not after this time (and a few seconds) is killed."""
        self.send(signal.SIGTERM)
        try:
            self._process.wait(seconds + STOP_SECONDS_MORE)
        except subprocess.TimeoutExpired:
            self.kill()

    def _last_words(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()[-5:]
        return f": {' / '.join(lines)}" if lines else ""
