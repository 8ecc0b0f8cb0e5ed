"""Servers and workers on one database, runs with a ledger, and readers that keep their place."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from tests.integration.cli.commands import Server, Started, until

AGENTS = Path(__file__).with_name("agents.py")
SECRET = "s3cret-w0rd"

S = TypeVar("S", bound=Started)


class Fleet:
    """Processes of one test on one database; all are gone when it is over."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        # Trusted connections need no password; so whatever shows it got it from the URL.
        self.url = url.replace("postgres@", f"postgres:{SECRET}@")
        self._started: list[Started] = []

    def serve(self, *arguments: object, **more: str) -> Server:
        """A server that listens."""
        folder = self.folder / f"server{len(self._started)}"
        return self._kept(Server(folder, *arguments, target=AGENTS, HOLDFAST_STORE=self.url, **more))

    def work(self, *arguments: object, **more: str) -> Started:
        """A worker that works."""
        folder = self.folder / f"worker{len(self._started)}"
        worker = self._kept(Started("worker", AGENTS, *arguments, folder=folder, HOLDFAST_STORE=self.url, **more))
        worker.until(lambda: "works on" in worker.stdout)
        return worker

    def end(self) -> None:
        for started in self._started:
            started.kill()

    def _kept(self, started: S) -> S:
        self._started.append(started)
        return started


class Travel:
    """A run with its ledger and its gate."""

    def __init__(self, folder: Path, server: Server, agent: str) -> None:
        self._ledger, self._gate = folder / f"{agent}.ledger", folder / f"{agent}.gate"
        self.run_id = server.start_run(agent, ledger=str(self._ledger), gate=str(self._gate))

    @property
    def holders(self) -> list[int]:
        """The processes that executed it so far."""
        return [int(line) for line in self._ledger.read_text().split()] if self._ledger.exists() else []

    def held_by(self, pid: int) -> bool:
        return self.holders[-1:] == [pid]

    def open_gate(self) -> None:
        self._gate.touch()


class Reader:
    """A documented reader: one that is cut comes back with the id that it had last. Here none should be cut."""

    def __init__(self, server: Server, run_id: str) -> None:
        self.ids: list[str] = []
        self.types: list[str] = []
        self._server, self._run_id = server, run_id
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def saw(self, type: str) -> None:
        """Wait until an event of this type came."""
        until(lambda: type in self.types, lambda: f"{self.types}\n{self._server.stderr}")

    def finish(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), self.types

    def _read(self) -> None:
        path = f"/runs/{self._run_id}/events"
        with self._server.client() as client, client.stream("GET", path) as reply:
            for line in reply.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self.ids.append(value)
                elif name == "event":
                    self.types.append(value)


@contextlib.contextmanager
def fleet_on(folder: Path, url: str) -> Iterator[Fleet]:
    fleet = Fleet(folder, url)
    try:
        yield fleet
    finally:
        fleet.end()
