"""`holdfast serve --workers N`: one port, N processes, one command to start and stop them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.integration.cli.commands import AGENTS, KEY, Server, holdfast, succeeded, until
from tests.integration.scale_out.processes import SECRET, Fleet, Travel

pytestmark = pytest.mark.slow

# The run that they execute never ends by itself, and their clients' streams neither.
STOPPED_SECONDS = 60.0


def members(server: Server) -> set[int]:
    """The processes behind the port."""
    return {child.pid for child in psutil.Process(server.popen.pid).children()}


def serving_members(server: Server) -> set[int]:
    """Those of them that have executed a run for us by now."""
    with server.client() as client:
        reply = client.post("/invoke", params={"agent": "greeter"}, json={}, headers={"Connection": "close"})
    assert reply.status_code == 200, reply.text
    return {reply.json()["output"]["pid"]}


def test_every_process_behind_the_port_takes_calls(fleet: Fleet) -> None:
    server = fleet.serve("--workers", 2)
    until(lambda: len(members(server)) == 2)
    seen: set[int] = set()

    def all_have_answered() -> bool:
        seen.update(serving_members(server))
        return seen == members(server)

    server.until(all_have_answered)

    assert server.stdout.count("listens on") == 1
    assert "workers 2" in server.stdout


def test_a_process_that_dies_comes_back_and_meanwhile_no_call_is_refused(fleet: Fleet) -> None:
    server = fleet.serve("--workers", 2)
    server.until(lambda: len(members(server)) == 2)
    travel = Travel(fleet.folder, server, "walker")
    server.until(lambda: travel.holders)
    before = members(server)

    psutil.Process(travel.holders[-1]).kill()
    server.until(lambda: len(members(server) - before) == 1 and travel.holders[-1] != travel.holders[0])
    travel.open_gate()

    assert server.finished(travel.run_id)["status"] == "completed"
    assert "worker_died" in server.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_them_all(fleet: Fleet, number: int) -> None:
    server = fleet.serve("--workers", 2, HOLDFAST_DRAIN_SECONDS="1")
    server.until(lambda: len(members(server)) == 2)
    travel = Travel(fleet.folder, server, "walker")
    server.until(lambda: travel.holders)
    before = members(server)

    server.signal(number)
    status = server.wait(STOPPED_SECONDS)

    assert status == 0
    assert not any(psutil.pid_exists(pid) for pid in before)
    assert not (server.folder / ".holdfast" / "server.json").exists()


def test_none_outlives_the_one_that_started_them(fleet: Fleet) -> None:
    server = fleet.serve("--workers", 2)
    server.until(lambda: len(members(server)) == 2)
    before = members(server)

    server.kill()

    until(lambda: not any(psutil.pid_exists(pid) for pid in before))


def test_the_command_line_reaches_any_of_them(fleet: Fleet) -> None:
    server = fleet.serve("--workers", 2)
    server.start_run("greeter")

    for _ in range(4):
        listed = json.loads(succeeded("runs", "list", "--json", folder=server.folder))
        assert [run["agent"] for run in listed] == ["greeter"]


def test_the_first_key_is_made_and_shown_once(fleet: Fleet) -> None:
    server = fleet.serve("--workers", 3, HOLDFAST_KEYS="")
    server.until(lambda: len(members(server)) == 3)

    assert server.stdout.count("Your API key") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--workers", "2"], "more than one process needs a Postgres store"),
        (["serve", "--no-worker"], "a server that executes nothing needs a Postgres store"),
        (["worker"], "a worker of its own needs a Postgres store"),
    ],
)
def test_an_embedded_store_is_refused_where_others_have_to_share_it(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = holdfast(arguments[0], AGENTS, *arguments[1:], folder=tmp_path, HOLDFAST_PORT="0")

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".holdfast").exists()


def test_what_none_of_them_can_open_is_told_once(fleet: Fleet) -> None:
    url = fleet.url.rpartition("/")[0] + "/no_such_database"

    done = holdfast(
        "serve", AGENTS, "--port", 0, "--workers", 3, folder=fleet.folder, HOLDFAST_STORE=url, HOLDFAST_KEYS=KEY
    )

    assert done.returncode == 1
    assert done.stderr.count("no_such_database") >= 1
    assert done.stderr.count("holdfast:") == 1
    assert SECRET not in done.stdout + done.stderr
