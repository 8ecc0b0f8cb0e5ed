"""Several processes on one Postgres store that serve the same Dockfile."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.cli.commands import Started, serving
from tests.integration.dockfile.test_serving import project
from tests.support.postgres import PostgresServer
from tests.support.stores import new_postgres_store

pytestmark = pytest.mark.slow

TEXT = """\
version: "1.0"
agent: {name: tutor, handler: "service:handle"}
io_schema: {}
expose: {host: 127.0.0.1}
auth: {roles: [{name: user, permissions: [invoke]}]}
secrets: {optional: [{name: GREETING, default: hello}]}
"""


def test_every_process_of_a_port_knows_what_the_file_says_and_a_worker_executes_for_them(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    file = project(tmp_path / "project", TEXT)
    (file.parent / ".env").write_text("HOLDFAST_API_KEY=main\n")
    (tmp_path / "given.env").write_text("HOLDFAST_API_KEY_USER=user\n")
    with new_postgres_store(postgres) as settings:
        environment = {**settings, "HOLDFAST_KEYS": ""}
        options = ("--workers", 2, "--no-worker", "--env-file", tmp_path / "given.env")
        worker = Started("worker", file, folder=tmp_path / "worker", **environment)
        try:
            with serving(tmp_path / "served", *options, target=file, **environment) as server:
                # A connection each, so that both processes get some.
                replies = [
                    httpx.post(f"{server.url}/invoke", headers={"x-api-key": key}, json={}, timeout=60, trust_env=False)
                    for key in ("main", "user", "nobody") * 4
                ]
        finally:
            worker.kill()

    assert [reply.status_code for reply in replies] == [200, 200, 401] * 4
    assert replies[0].json()["output"]["greeting"] == "hello"
