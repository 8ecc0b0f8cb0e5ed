"""`holdfast store status|migrate|copy` on a real database, and what of its URL is shown anywhere."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path

import httpx
import pytest

from holdfast.errors import StoreRefused
from holdfast.store.postgres import location_of
from tests.integration.cli.commands import Server, holdfast, serving, succeeded, until
from tests.integration.scale_out.processes import AGENTS, SECRET, Fleet, Travel, fleet_on
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.slow


def export(server: Server, run_id: str) -> bytes:
    with server.client() as client:
        return client.get(f"/runs/{run_id}/export").content


def events_after(server: Server, run_id: str, cursor: str) -> str:
    with server.client() as client:
        text = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": cursor}).text
    return text.partition("\n\n")[2]  # the first block says when to come back, which chance decides


def test_status_tells_the_schema_and_the_runs_and_changes_nothing(fleet: Fleet) -> None:
    server = fleet.serve()
    server.finished(server.start_run("greeter"))

    shown = succeeded("store", "status", folder=fleet.folder, HOLDFAST_STORE=fleet.url)
    told = json.loads(succeeded("store", "status", "--json", folder=fleet.folder, HOLDFAST_STORE=fleet.url))

    assert told["kind"] == "postgres"
    assert told["runs"] == {"completed": 1}
    assert (told["schema_found"], told["pending"]) == (told["schema_known"], [])
    assert told["location"].startswith("postgresql://127.0.0.1:")
    assert told["store_id"] in shown
    assert SECRET not in shown


def test_an_embedded_store_has_a_status_while_a_server_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.finished(server.start_run("greeter"))

        told = json.loads(succeeded("store", "status", "--json", folder=tmp_path))
        migrated = holdfast("store", "migrate", folder=tmp_path)

    assert (told["kind"], told["runs"]) == ("sqlite", {"completed": 1})
    assert migrated.returncode == 1
    assert f"a server (pid {server.popen.pid}) runs on" in migrated.stderr


async def test_of_many_that_migrate_an_empty_database_at_once_all_find_it_done(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    await postgres.execute("CREATE DATABASE to_migrate")
    try:
        url = postgres.url("to_migrate")
        before = json.loads(succeeded("store", "status", "--store", url, "--json", folder=tmp_path))

        calls = (asyncio.to_thread(holdfast, "store", "migrate", "--store", url, folder=tmp_path) for _ in range(3))
        done = await asyncio.gather(*calls)

        after = json.loads(succeeded("store", "status", "--store", url, "--json", folder=tmp_path))
    finally:
        await postgres.drop_database("to_migrate")
    assert (before["schema_found"], before["store_id"]) == (0, "")
    assert [item.returncode for item in done] == [0, 0, 0], [item.stderr for item in done]
    assert [item.stdout for item in done if "0001_start" in item.stdout]
    assert (after["pending"], after["runs"]) == ([], {})


def test_a_store_goes_to_postgres_and_back_with_its_journals_and_cursors(fleet: Fleet) -> None:
    folder = fleet.folder / "embedded"
    with serving(folder, target=AGENTS) as server:
        ended = server.start_run("greeter")
        server.finished(ended)
        travel = Travel(fleet.folder, server, "traveller")
        server.finished(travel.run_id)
        exports = {run_id: export(server, run_id) for run_id in (ended, travel.run_id)}
        rest = events_after(server, ended, "1")
        assert server.stop() == 0

    told = succeeded("store", "copy", ".holdfast", "-", folder=folder, HOLDFAST_STORE=fleet.url)
    middle = fleet.serve()
    there = {run_id: export(middle, run_id) for run_id in exports}
    rest_there = events_after(middle, ended, "1")
    assert middle.stop() == 0
    succeeded("store", "copy", "-", "back", folder=folder, HOLDFAST_STORE=fleet.url)
    with serving(folder, "--store", "back", target=AGENTS) as server:
        back = {run_id: export(server, run_id) for run_id in exports}
        rest_back = events_after(server, ended, "1")
        travel.open_gate()
        with server.client() as client:
            (interrupt,) = client.get(f"/runs/{travel.run_id}/interrupts").json()["interrupts"]
            client.post(f"/runs/{travel.run_id}/interrupts/{interrupt['interrupt_id']}", json={"answer": "south"})
        server.until(lambda: server.finished(travel.run_id)["status"] == "completed")

    assert "2 runs" in told
    assert SECRET not in told
    assert there == back == exports
    assert rest_there == rest_back == rest
    assert "event: token" in rest


def test_a_copy_is_refused_while_a_server_runs_on_either_side(fleet: Fleet) -> None:
    folder = fleet.folder / "embedded"
    with serving(folder, target=AGENTS) as embedded:
        from_running = holdfast("store", "copy", ".holdfast", fleet.url, folder=folder)
        embedded.stop()
    server = fleet.serve()
    to_running = holdfast("store", "copy", ".holdfast", fleet.url, folder=folder)
    from_database = holdfast("store", "copy", fleet.url, "new", folder=folder)
    server.stop()

    for done in (from_running, to_running, from_database):
        assert done.returncode == 1
        assert "stop" in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_a_copy_goes_into_an_empty_store_only(fleet: Fleet) -> None:
    server = fleet.serve()
    server.finished(server.start_run("greeter"))
    server.stop()
    folder = fleet.folder / "embedded"
    with serving(folder, target=AGENTS) as embedded:
        embedded.finished(embedded.start_run("greeter"))
        embedded.stop()

    full = holdfast("store", "copy", ".holdfast", fleet.url, folder=folder)
    itself = holdfast("store", "copy", ".holdfast", "./.holdfast", folder=folder)
    nothing = holdfast("store", "copy", "missing", "new", folder=folder)

    assert [done.returncode for done in (full, itself, nothing)] == [1, 1, 1]
    assert "has to be an empty store" in full.stderr
    assert "is the store itself" in itself.stderr
    assert "there is no store in missing" in nothing.stderr
    assert not (folder / "missing").exists()
    assert not (folder / "new").exists()


async def test_a_store_that_may_lose_something_is_refused_or_shown(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    await postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    url = postgres.url(database)

    refused = await asyncio.to_thread(holdfast, "serve", "--port", 0, "--store", url, folder=tmp_path)
    with fleet_on(tmp_path, url) as fleet:
        server = await asyncio.to_thread(lambda: fleet.serve(HOLDFAST_STORE_UNSAFE="true"))
        async with httpx.AsyncClient() as client:
            health = (await client.get(f"{server.url}/health")).json()

    assert refused.returncode == 1
    assert "synchronous_commit is off" in refused.stderr
    assert [notice.partition(":")[0] for notice in health["notices"]] == ["synchronous_commit is off"]


async def test_no_secret_of_the_url_is_shown_anywhere(postgres: PostgresServer, tmp_path: Path) -> None:
    name = await postgres.make_database()
    await asyncio.to_thread(_run_and_lose_the_database, postgres, name, tmp_path)


def _run_and_lose_the_database(postgres: PostgresServer, name: str, folder: Path) -> None:
    with fleet_on(folder, postgres.url(name)) as fleet:
        server, worker = fleet.serve("--no-worker", HOLDFAST_LOG_LEVEL="debug"), fleet.work(HOLDFAST_LOG_LEVEL="debug")
        drop = threading.Thread(target=lambda: asyncio.run(postgres.drop_database(name)))
        drop.start()
        drop.join()
        health = until(lambda: _health(server))
        reply = httpx.post(f"{server.url}/runs", params={"agent": "greeter"}, json={}, headers=KEY_HEADER, timeout=30)
        for process in (server, worker):
            process.signal(signal.SIGTERM)
            process.wait()

        assert reply.status_code >= 500
        for text in (health, reply.text, server.stdout, server.stderr, worker.stdout, worker.stderr):
            assert SECRET not in text
        assert "does not exist" in server.stderr + worker.stderr


KEY_HEADER = {"X-API-Key": "test-key"}


def _health(server: Server) -> str:
    text = httpx.get(f"{server.url}/health", timeout=30).text
    return text if '"error"' in text else ""


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://holdfast:{SECRET}/x@127.0.0.1/db",
        f"postgresql://holdfast:12/{SECRET}@127.0.0.1/db",
        f"postgresql://holdfast:{SECRET}#x@127.0.0.1/db",
        f"postgresql://holdfast:12?{SECRET}@127.0.0.1/db",
        f"postgresql://holdfast:{SECRET}@127.0.0.1:port/db",
        f"postgresql://holdfast:p@x:{SECRET}@127.0.0.1/db",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    done = holdfast("store", "status", folder=tmp_path, HOLDFAST_STORE=url)

    assert done.returncode == 1
    assert "the URL of the store cannot be read" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    with pytest.raises(StoreRefused):
        location_of(url)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        (f"postgresql://u:{SECRET}@db/runs?password={SECRET}", "postgresql://db/runs"),
        (f"postgres://{SECRET}@[::1]:5433/runs", "postgresql://[::1]:5433/runs"),
        (
            f"postgresql://u:{SECRET}@a:5432,b:5433/runs?target_session_attrs=read-write",
            "postgresql://a:5432,b:5433/runs",
        ),
        ("postgresql:///runs", "postgresql://localhost/runs"),
    ],
)
def test_a_location_is_hosts_and_database_and_nothing_else(url: str, location: str) -> None:
    assert location_of(url) == location
