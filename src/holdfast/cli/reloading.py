"""
`holdfast dev`: a server that is started anew when a file changes.

    file changes ──► ask the server to stop, wait for it ──► start it with the new code
    server ends  ──► its error is on the screen; wait for a change, then start it
    Ctrl-C       ──► passed on to the server; a second one ends it at once
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from holdfast.agents.target import folder_of
from holdfast.api.http.auth import DEVELOPMENT_KEY
from holdfast.cli.child import ServerProcess
from holdfast.cli.screen import note
from holdfast.cli.watch import Watch

LOOK_SECONDS = 0.25
# Who changes code does not want to wait for what the old code is doing.
DRAIN_SECONDS = 1.0


class Reloader:
    """Keeps a server of the target running, with the newest code."""

    def __init__(self, target: str | None, options: Sequence[str]) -> None:
        self._arguments = [*([target] if target is not None else []), "--host", "127.0.0.1", *options]
        self._watch = Watch(folder_of(target)) if target is not None else None
        self._server: ServerProcess | None = None
        self._starts = 0
        self._is_told = False  # that the server ended by itself
        self._signal: int | None = None
        self._pause = threading.Event()

    def run(self) -> int:
        """Until a signal, or until a server without a target ends by itself; the exit status comes back."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._keep_running()
        finally:
            if self._server is not None:
                self._server.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keep_running(self) -> int:
        if self._watch is not None:
            note(f"Watching the Python files in {self._watch.folder}.")
        server = self._start()
        while True:
            status = server.exit_code
            if self._signal is not None and status is not None:
                return 128 + self._signal if status < 0 or status > 128 else status
            if status is not None and self._watch is None:
                return status
            changed = self._watch.changed() if self._watch is not None and self._signal is None else []
            if changed:
                note(f"{_named(changed)} changed; starting anew.", "cyan")
                server.stop(DRAIN_SECONDS)
                if self._signal is None:
                    server = self._start()
                continue
            if status is not None and not self._is_told:
                self._is_told = True
                note("The server ended. It starts again when a file changes; Ctrl-C leaves.", "yellow")
            self._pause.wait(LOOK_SECONDS)

    def _start(self) -> ServerProcess:
        self._starts += 1
        self._is_told = False
        brief = ["--brief"] if self._starts > 1 else []
        server = self._server = ServerProcess([*self._arguments, *brief], data=Path(), environment=_environment())
        if self._signal is not None:
            server.send(self._signal)  # it came while there was none
        return server

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if self._server is not None:
            self._server.send(number)
        self._pause.set()


def _environment() -> dict[str, str]:
    """Ours, with the development key beside the keys that are set, and a short farewell."""
    keys = [key for key in os.environ.get("HOLDFAST_KEYS", "").split(",") if key.strip()]
    ours = {"HOLDFAST_KEYS": ",".join([*keys, DEVELOPMENT_KEY])}
    return {"HOLDFAST_DRAIN_SECONDS": f"{DRAIN_SECONDS:g}", **os.environ, **ours}


def _named(changed: Sequence[Path]) -> str:
    return changed[0].name if len(changed) == 1 else f"{changed[0].name} and {len(changed) - 1} more"
