"""Server processes that share a database, each behind a line of its own that can be cut; and doors to any of them."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

from tests.support.forks import Nursery
from tests.support.postgres import PostgresServer
from tests.support.proxy import Link, Proxy
from tests.support.recorder import Stream, Target
from tests.support.server import KEY, ServerProcess, start_server

AGENTS = Path(__file__).with_name("agents.py")
MAIN = "tests.faults.serve_main"
START_TRIES_MAX = 20

# Of the protocol of Postgres: a Parse message of the statement that commits, under the name that follows its length.
PREPARES_COMMIT: Final = re.compile(rb"P.{4}([^\0]+)\0[^\0]*holdfast\.commit_\d+\(", re.DOTALL)


class Line(Proxy):
    """The way from one server to the database. It knows the call that commits, by the name that the driver gave it."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.loses_commit = False  # the reply to the next commit; its connection is closed
        self.commits_lost = 0
        self._names: WeakKeyDictionary[Link, bytes] = WeakKeyDictionary()
        self._committing: WeakSet[Link] = WeakSet()

    @property
    def count(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def sees_request(self, link: Link, data: bytes) -> None:
        if prepared := PREPARES_COMMIT.search(data):
            self._names[link] = prepared[1]
        name = self._names.get(link)
        if name is not None and re.search(rb"B.{4}\0" + name + rb"\0", data, re.DOTALL):
            self._committing.add(link)

    def loses_reply(self, link: Link, data: bytes) -> bool:
        if link not in self._committing:
            return False
        self._committing.discard(link)
        if not self.loses_commit:
            return False
        self.loses_commit = False
        self.commits_lost += 1
        return True

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
        self._nursery = Nursery(MAIN)

    async def __aenter__(self) -> Self:
        self._nursery.__enter__()
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
        self._nursery.__exit__()

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
                    start_server, data, agents=AGENTS, environment=environment, main=MAIN, nursery=self._nursery
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
