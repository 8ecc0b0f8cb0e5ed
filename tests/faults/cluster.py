"""Server processes that share a database, each behind a line of its own that can be cut; and doors to any of them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.recorder import Stream, Target
from tests.support.server import KEY, ServerProcess, start_server

AGENTS = Path(__file__).with_name("agents.py")
START_TRIES_MAX = 20


class Line(Proxy):
    """The way from one server to the database."""

    @property
    def count(self) -> int:
        return len(self._links)

    def snapshot(self) -> set[int]:
        """What is open now."""
        return {id(link) for link in self._links}

    def drop_frozen(self) -> None:
        """The database, too, learns at last that nobody is there."""
        for link in list(self._links):
            if link.is_frozen:
                link.close()


class Slot:
    """A place for a server process; the next one comes when one died."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.life = 0
        self.server: ServerProcess | None = None
        self.is_up = False  # it listens, and is not stopped
        self.is_busy = False  # something is being done to it
        self.line: Line | None = None

    @property
    def name(self) -> str:
        """Of the process that is there now."""
        return f"server-{self.number}.{self.life}"


class Cluster:
    """As an async context manager: `count` servers that run, until the end."""

    def __init__(
        self, directory: Path, postgres: PostgresServer, url: str, *, count: int, environment: Mapping[str, str]
    ) -> None:
        self.slots = [Slot(number) for number in range(count)]
        self.up = asyncio.Event()
        self.failed_starts = 0
        self._directory = directory
        self._postgres = postgres
        self._url = url
        self._environment = dict(environment)

    async def __aenter__(self) -> Self:
        for slot in self.slots:
            slot.line = await Line("127.0.0.1", self._postgres.port).__aenter__()
        await self.start(self.slots[0])
        await asyncio.gather(*(self.start(slot) for slot in self.slots[1:]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for slot in self.slots:
            if slot.server is not None:
                slot.server.kill()
        for slot in self.slots:
            assert slot.line is not None
            await slot.line.__aexit__()

    async def start(self, slot: Slot) -> None:
        """A new process in a slot; while the database is away, one after the other."""
        assert slot.line is not None
        parts = urlsplit(self._url)
        store = f"postgresql://{parts.username}@127.0.0.1:{slot.line.port}{parts.path}"
        for number in range(START_TRIES_MAX):
            slot.life += 1
            environment = {**self._environment, "HOLDFAST_STORE": store, "FAULTS_NAME": slot.name}
            data = self._directory / f"server-{slot.number}"
            try:
                slot.server = await asyncio.to_thread(
                    start_server, data, agents=AGENTS, environment=environment, main="tests.faults.serve_main"
                )
                break
            except RuntimeError:
                self.failed_starts += 1
                if number == START_TRIES_MAX - 1:
                    raise
        slot.is_up = True
        self.up.set()

    def kill(self, slot: Slot) -> None:
        assert slot.server is not None
        assert slot.server.popen.poll() is None, f"{slot.name} ended by itself: {slot.server.log()[-3000:]}"
        self._down(slot)
        slot.server.kill()

    def stop(self, slot: Slot) -> None:
        assert slot.server is not None
        self._down(slot)
        slot.server.popen.send_signal(signal.SIGSTOP)

    def go_on(self, slot: Slot) -> None:
        assert slot.server is not None
        slot.server.popen.send_signal(signal.SIGCONT)
        slot.is_up = True
        self.up.set()

    def _down(self, slot: Slot) -> None:
        slot.is_up = False
        if not any(slot.is_up for slot in self.slots):
            self.up.clear()

    def ports(self, *, but: int | None = None) -> list[int]:
        """Of the servers that are up; that of slot `but` only when there is no other."""
        up = [slot for slot in self.slots if slot.is_up and slot.server is not None]
        others = [slot for slot in up if slot.number != but] or up
        return [slot.server.port for slot in others if slot.server is not None]

    def number_of(self, port: int) -> int | None:
        return next((s.number for s in self.slots if s.server is not None and s.server.port == port), None)


class Door(Target):
    """Any server that is up, another one with each connection. Each caller has its own."""

    def __init__(self, cluster: Cluster, *, but: int | None = None) -> None:
        super().__init__(0, KEY)
        self.up = cluster.up
        self._cluster = cluster
        self._but = but

    async def open(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Stream:
        ports = self._cluster.ports(but=self._but)
        if not ports:
            raise OSError("no server is up")
        self.port = random.choice(ports)
        return await super().open(method, path, headers=headers, body=body)

    @property
    def number(self) -> int | None:
        """Of the slot that was called last."""
        return self._cluster.number_of(self.port)
