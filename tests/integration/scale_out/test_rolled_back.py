"""Another database takes the place of the one that is read, as after a failover: streams of every kind end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.integration.cli.commands import KEY, Server
from tests.integration.scale_out.processes import fleet_on
from tests.support.postgres import PostgresServer
from tests.support.sse import frames

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def stream(client: httpx.Client, path: str, **query: str) -> Iterator[Iterator[str]]:
    """The lines of a stream, from behind its first event on."""
    with client.stream("GET", path, params=query) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        while not next(lines).startswith("event: "):
            pass
        yield lines


def last_comment(lines: Iterator[str]) -> list[str]:
    """What the last frame says, once the body ended properly."""
    return list(frames(lines))[-1].comments


def begin_turn(server: Server, folder: Path) -> str:
    """A turn of the task `t` that waits at its gate; its run."""
    with server.client() as client:
        reply = client.post(
            "/agents/walker/runs",
            params={"thread_id": "t"},
            json={"ledger": str(folder / "ledger"), "gate": str(folder / "gate")},
        )
    assert reply.status_code == 202, reply.text
    run_id: str = reply.json()["run_id"]
    return run_id


async def test_streams_of_every_kind_end_and_can_be_taken_up(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    with fleet_on(tmp_path, postgres.url(database)) as fleet:
        server = fleet.serve("--no-worker")
        fleet.work()
        run_id = begin_turn(server, tmp_path)
        url = f"{server.url.replace('http', 'ws')}/runs/{run_id}/ws"
        with (
            server.client() as client,
            stream(client, f"/runs/{run_id}/events") as run,
            stream(client, f"/runs/{run_id}/events", view="compact") as compact,
            stream(client, "/execute/replay", turn_id=run_id) as turn,
            stream(client, "/execute/replay", task_id="t") as task,
            stream(client, "/execute/replay") as tenant,
            connect(url, additional_headers={"X-API-Key": KEY}) as socket,
        ):
            socket.recv()
            socket.send('{"type":"subscribe"}')
            await exchange(postgres, database)
            ends = [last_comment(lines) for lines in (run, compact, turn, task, tenant)]
            closed = code_of(socket)
            (tmp_path / "gate").touch()
            finished = client.get(f"/runs/{run_id}", params={"wait": "20"}).json()
            with stream(client, f"/runs/{run_id}/events") as again:
                whole = list(frames(again))

    assert ends == [["rolled back"]] * 5
    assert closed == 1001
    assert finished["status"] == "completed"
    assert [frame.id for frame in whole if frame.id][-1] == f"{finished['tail_sequence']}@1"


async def exchange(postgres: PostgresServer, database: str) -> None:
    """Let the database be another one than it was, and cut all connections."""
    elsewhere = "UPDATE holdfast.meta SET value = 'elsewhere' WHERE key = 'place'"
    await postgres.execute(elsewhere, database=database)
    await postgres.execute(
        f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{database}' "
        "AND application_name = 'holdfast'"
    )


def code_of(socket: Any) -> int | None:
    """With what the server closes the socket."""
    try:
        while True:
            socket.recv(timeout=30)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code
