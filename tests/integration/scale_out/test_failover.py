"""A standby takes the place of a database that is lost, and a backup that of one that was kept too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.cli.commands import Server, until
from tests.integration.scale_out.processes import fleet_on
from tests.support.postgres import PostgresServer
from tests.support.sse import Frame, frames

pytestmark = pytest.mark.slow


class Pair:
    """A primary and its standby, both killable, and a database on them."""

    def __init__(self) -> None:
        self.primary = PostgresServer()
        self.primary.start()
        try:
            self.database = asyncio.run(self.primary.make_database())
            self.standby = self.primary.standby()
        except BaseException:
            self.primary.remove()
            raise

    @property
    def either(self) -> str:
        """Whichever of them answers, be it the standby that is not promoted yet."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{hosts}/{self.database}"

    @property
    def url(self) -> str:
        """Whichever of them takes writes, as the guide has it."""
        return f"{self.either}?target_session_attrs=read-write"

    def synchronous(self) -> None:
        """Nothing is acknowledged from now on that the standby does not have."""
        on(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        is_sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        until(lambda: on(self.primary, is_sync) == 1)

    def behind(self) -> None:
        """What is committed from now on never reaches the standby."""
        written = on(self.primary, "SELECT pg_current_wal_flush_lsn()::text")
        until(lambda: on(self.standby, f"SELECT pg_last_wal_replay_lsn() >= '{written}'"))
        on(self.standby, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        until(lambda: on(self.primary, "SELECT count(*) FROM pg_stat_replication") == 0)

    def lose(self) -> None:
        """The primary is gone for good."""
        assert self.primary.process is not None
        self.primary.process.kill()
        self.primary.process.wait()

    def promote(self) -> None:
        assert on(self.standby, "SELECT pg_promote(true)") is True

    def remove(self) -> None:
        self.primary.remove()
        self.standby.remove()


def on(server: PostgresServer, *statements: str) -> Any:
    return [asyncio.run(server.execute(statement)) for statement in statements][-1]


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    try:
        yield made
    finally:
        made.remove()


class Told:
    """A run that goes on at each gate."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.gates = [folder / f"gate{number}" for number in range(2)]
        with server.client() as client:
            body = {"gates": [str(path) for path in self.gates]}
            reply = client.post("/agents/teller/runs", params={"thread_id": "t"}, json=body)
        assert reply.status_code == 202, reply.text
        self.run_id: str = reply.json()["run_id"]
        self.path = f"/runs/{self.run_id}/events"
        self.lost_at = 0.0  # where a reader of the Engine API was when the database was lost


def read(client: httpx.Client, told: Told, *, count: int | None = None, after: str | None = None) -> Iterator[Frame]:
    """The frames of a stream, with the comments at its end."""
    headers = {} if after is None else {"Last-Event-ID": after}
    with client.stream("GET", told.path, headers=headers) as response:
        assert response.status_code == 200
        yield from frames(response.iter_lines())


def replay(client: httpx.Client, **query: Any) -> list[Frame]:
    """What the Engine API replays, to its end."""
    with client.stream("GET", "/execute/replay", params=query) as response:
        assert response.status_code == 200, response.read()
        return [frame for frame in frames(response.iter_lines()) if frame.event]


def take(reader: Iterator[Frame], count: int) -> list[Frame]:
    """So many events."""
    found: list[Frame] = []
    while len(found) < count:
        frame = next(reader)
        if frame.event is not None:
            found.append(frame)
    return found


def contents(found: list[Frame]) -> list[str]:
    return [frame.data["content"] for frame in found if frame.event == "token"]


def test_with_a_synchronous_standby_a_failover_loses_nothing(pair: Pair, tmp_path: Path) -> None:
    """
    Every reader is cut once and comes back with its cursor; the run goes on where it was, without a restart. That the
    standby answers before it is promoted, as behind a name that moves too early, makes nothing fail.
    """
    pair.synchronous()
    with fleet_on(tmp_path, pair.either) as fleet:
        executing, other = fleet.serve(), fleet.serve("--no-worker")
        told = Told(tmp_path, other)
        told.gates[0].touch()
        with other.client() as client:
            reader = read(client, told)
            seen = take(reader, 7)
            pair.lose()
            told.gates[1].touch()
            refused = client.post("/runs", params={"agent": "greeter"}, json={})
            pair.promote()
            rest = [frame for frame in reader if frame.event or frame.comments]
            end = rest.pop().comments
            seen += rest
            seen += [frame for frame in read(client, told, after=seen[-1].id) if frame.event]
        run = executing.finished(told.run_id)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert end == ["rolled back"]
    assert (run["status"], run["attempt"]) == ("completed", 1)
    assert [frame.data["sequence"] for frame in seen] == list(range(11))
    assert contents(seen) == ["first ", "0.0 ", "0.1 ", "0.2 ", "1.0 ", "1.1 ", "1.2 "]


def test_with_an_asynchronous_standby_readers_are_told_what_a_failover_lost(pair: Pair, tmp_path: Path) -> None:
    """Nobody is shown new events as if they followed those that are gone, whichever process they read at."""
    with fleet_on(tmp_path, pair.url) as fleet:
        executing, other = fleet.serve(HOLDFAST_LEASE_SECONDS="2"), fleet.serve("--no-worker")
        told = Told(tmp_path, other)
        with executing.client() as here, other.client() as there:
            readers = [read(here, told), read(there, told)]
            kept = [take(reader, 4) for reader in readers]
            pair.behind()
            told.gates[0].touch()
            lost = [take(reader, 3) for reader in readers]
            pair.lose()
            pair.promote()
            told.gates[1].touch()
            ends = [[frame.comments for frame in reader if frame.event or frame.comments] for reader in readers]
            executing.finished(told.run_id)
            again = [[frame for frame in read(client, told, after="6") if frame.event] for client in (here, there)]
            before = [[frame for frame in read(client, told, after="3") if frame.event] for client in (here, there)]
        run = executing.finished(told.run_id)

    assert [contents(found) for found in lost] == [["0.0 ", "0.1 ", "0.2 "]] * 2
    assert ends == [[["rolled back"]]] * 2
    assert (run["status"], run["attempt"]) == ("completed", 2)
    for found, gap_free, first in zip(again, before, kept, strict=True):
        assert (found[0].event, found[0].data["reason"], found[0].data["first_sequence"]) == ("gap", "rolled_back", 4)
        assert found[1:] == gap_free
        assert [frame.data["sequence"] for frame in first + gap_free] == list(range(12))
        assert gap_free[0].event == "restarted"
        assert contents(gap_free) == ["0.0 ", "0.1 ", "0.2 ", "1.0 ", "1.1 ", "1.2 "]


@pytest.mark.parametrize("how", ["dump", "base backup"])
def test_a_restored_backup_is_told_to_readers_first(how: str, tmp_path: Path) -> None:
    source, target = PostgresServer(), PostgresServer()
    try:
        source.start()
        database = asyncio.run(source.make_database())
        restored = _lose_and_restore(how, source, target, database, tmp_path)
        with fleet_on(tmp_path / "after", target.url(restored[0])) as fleet:
            server = fleet.serve()
            told = restored[1]
            with server.client() as client:
                until(lambda: "restored_backup_found" in server.stderr)
                told.gates[1].touch()
                server.finished(told.run_id)
                found = [frame for frame in read(client, told, after="6") if frame.event]
                kept = [frame for frame in read(client, told, after="3") if frame.event]
                replays = [replay(client, task_id="t", after=told.lost_at), replay(client, after=told.lost_at)]
    finally:
        source.remove()
        target.remove()

    assert (found[0].event, found[0].data["reason"], found[0].data["first_sequence"]) == ("gap", "rolled_back", 4)
    assert found[1:] == kept
    assert kept[0].id == "4@1"
    assert kept[-1].event == "complete"
    for replayed in replays:
        gap, following = replayed[0], replayed[1]
        assert (gap.event, gap.data["reason"]) == ("replay_gap", "rolled_back")
        assert following.data["sequence"] == 4


def _lose_and_restore(
    how: str, source: PostgresServer, target: PostgresServer, database: str, folder: Path
) -> tuple[str, Told]:
    """A run, a backup after its first four events, three more events, and the backup in the place of all."""
    with fleet_on(folder / "before", source.url(database)) as fleet:
        server = fleet.serve(HOLDFAST_LEASE_SECONDS="2")
        told = Told(folder, server)
        with server.client() as client:
            reader = read(client, told)
            take(reader, 4)
            _back_up(how, source, target, database)
            told.gates[0].touch()
            lost = take(reader, 3)[-1]
            told.lost_at = replay(client, task_id="t", follow="0")[-1].data["timestamp"]
            assert lost.event == "token"
        server.kill()
    source.stop()
    if how == "dump":
        target.start()
        asyncio.run(target.execute("CREATE DATABASE restored TEMPLATE template0 ENCODING 'UTF8'"))
        target.run("pg_restore", "--exit-on-error", "-d", target.url("restored"), target.directory / "dump")
        return "restored", told
    (target.directory / "data" / "recovery.signal").touch()
    target.options["restore_command"] = "false"
    target.start()
    until(lambda: on(target, "SELECT NOT pg_is_in_recovery()"))
    return database, told


def _back_up(how: str, source: PostgresServer, target: PostgresServer, database: str) -> None:
    if how == "dump":
        target.make_place()
        source.run("pg_dump", "-Fc", "-n", "holdfast", "-f", target.directory / "dump", source.url(database))
    else:
        target.make_place()
        source.back_up(target.directory / "data")
