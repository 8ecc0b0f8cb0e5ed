"""Everything goes through pgbouncer in transaction mode, as the guide allows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.commands import holdfast, until
from tests.integration.scale_out.processes import Reader, Travel, fleet_on
from tests.integration.scale_out.proxies import free_port, listens, program
from tests.support.postgres import UNPRIVILEGED, PostgresServer

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def pgbouncer(folder: Path, postgres: PostgresServer, database: str) -> Iterator[str]:
    """The URL of the database behind a pooler with fewer connections than its clients have."""
    port = free_port()
    ini = folder / "pgbouncer.ini"
    ini.write_text(
        f"[databases]\n{database} = host=127.0.0.1 port={postgres.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 4\nmax_client_conn = 200\nunix_socket_dir =\nserver_tls_sslmode = disable\n"
    )
    as_user = ["-u", UNPRIVILEGED] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log, ini.open() as configuration:
        # Read from a descriptor: the unprivileged user may not enter the folder.
        command = [program("pgbouncer"), *as_user, "/dev/stdin"]
        with subprocess.Popen(command, stdin=configuration, stdout=log, stderr=log) as popen:
            try:
                until(lambda: listens(port) or popen.poll() is not None, (folder / "log").read_text)
                assert popen.poll() is None, (folder / "log").read_text()
                yield f"postgresql://postgres@127.0.0.1:{port}/{database}"
            finally:
                popen.kill()


async def test_processes_work_together_by_polling_alone(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    """A run is read through another process, and goes on at a third when its own stops."""
    with pgbouncer(tmp_path, postgres, database) as url, fleet_on(tmp_path, url) as fleet:
        pooled = {"HOLDFAST_STORE_POOLED": "true", "HOLDFAST_DRAIN_SECONDS": "0.5"}
        first, other = fleet.serve(**pooled), fleet.serve("--no-worker", **pooled)
        travel = Travel(tmp_path, other, "walker")
        reader = Reader(other, travel.run_id)
        reader.saw("token")
        second = fleet.work(**pooled)
        first.signal(signal.SIGTERM)
        until(lambda: travel.held_by(second.popen.pid))
        travel.open_gate()
        reader.finish()

    assert reader.ids == [str(number) for number in range(len(reader.ids))]
    assert reader.types[-1] == "complete"


async def test_a_database_that_is_exchanged_behind_the_pooler_is_noticed(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    """The connections to the pooler stay as they are."""
    with pgbouncer(tmp_path, postgres, database) as url, fleet_on(tmp_path, url) as fleet:
        server = fleet.serve(HOLDFAST_STORE_POOLED="true")
        travel = Travel(tmp_path, server, "walker")
        reader = Reader(server, travel.run_id)
        reader.saw("token")
        elsewhere = "UPDATE holdfast.meta SET value = 'elsewhere' WHERE key = 'place'"
        await postgres.execute(elsewhere, database=database)
        reader.finish()
        travel.open_gate()
        again = Reader(server, travel.run_id)
        again.finish()

    assert reader.types[-1] != "complete"
    assert again.types[-1] == "complete"
    assert {number.partition("@")[2] for number in again.ids} == {"1"}


async def test_a_pooler_that_is_not_told_of_is_refused(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    with pgbouncer(tmp_path, postgres, database) as url:
        refused = holdfast("serve", "--port", 0, "--store", url, folder=tmp_path)

    assert refused.returncode == 1
    assert "HOLDFAST_STORE_POOLED" in refused.stderr
