"""Several processes on one Postgres: what one begins, others show, answer, cancel and carry on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.cli.commands import Server, until
from tests.integration.scale_out.processes import Fleet, Reader, Travel

pytestmark = pytest.mark.slow

# What is promised with a lease of 8 s. Here one of a dead process lasts 3 s, and whoever may take it over looks once a
# second: the rest is for a busy machine.
TAKEN_OVER_SECONDS = 10.0
SHORT_LEASE = "3"
# A lease that was given back is taken at the next look; one that was not lasts 40 s more at the least.
HANDED_OVER_SECONDS = 20.0
LONG_LEASE = "60"


def answer(server: Server, run_id: str, value: str) -> None:
    with server.client() as client:
        (interrupt,) = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]
        reply = client.post(f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}", json={"answer": value})
    assert reply.status_code == 200, reply.text


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    until(condition)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("end", "lease_seconds", "seconds_max"),
    [(signal.SIGKILL, SHORT_LEASE, TAKEN_OVER_SECONDS), (signal.SIGTERM, LONG_LEASE, HANDED_OVER_SECONDS)],
)
def test_a_run_begins_here_is_watched_there_answered_elsewhere_and_outlives_its_process(
    fleet: Fleet, end: int, lease_seconds: str, seconds_max: float
) -> None:
    first = fleet.serve(HOLDFAST_DRAIN_SECONDS="1", HOLDFAST_LEASE_SECONDS=lease_seconds)
    second, third = fleet.serve("--no-worker"), fleet.serve("--no-worker")
    travel = Travel(fleet.folder, first, "traveller")
    reader = Reader(second, travel.run_id)
    reader.saw("interrupt")
    answer(third, travel.run_id, "north")
    until(lambda: travel.held_by(first.popen.pid))
    fourth = fleet.serve()

    first.signal(end)
    first.wait()
    seconds = seconds_until(lambda: travel.held_by(fourth.popen.pid))
    travel.open_gate()
    reader.finish()

    assert seconds < seconds_max
    assert travel.holders == [first.popen.pid, fourth.popen.pid]
    assert reader.ids == [str(number) for number in range(len(reader.ids))]
    assert reader.types[-1] == "complete"
    assert reader.types.count("interrupt_resolved") == 1
    for server in (second, third, fourth):
        run = server.finished(travel.run_id)
        assert (run["status"], run["output"]) == ("completed", {"way": "north"})


def test_a_run_is_cancelled_from_a_process_that_does_not_execute_it(fleet: Fleet) -> None:
    first, second = fleet.serve(), fleet.serve("--no-worker")
    travel = Travel(fleet.folder, first, "walker")
    until(lambda: travel.holders)

    with second.client() as client:
        reply = client.post(f"/runs/{travel.run_id}/cancel?wait=0", json={"reason": "enough"})
        assert reply.status_code in (200, 202)
        # The receipt is told before the process that executes the run has heard of it.
        assert reply.json()["reason"] == "enough"
        assert reply.json()["requested"] is not None
    seconds = seconds_until(lambda: second.finished(travel.run_id)["status"] == "cancelled")

    assert seconds < 5
    assert first.finished(travel.run_id)["status"] == "cancelled"


def test_a_server_that_executes_nothing_accepts_for_those_that_do(fleet: Fleet) -> None:
    server = fleet.serve("--no-worker")
    travel = Travel(fleet.folder, server, "walker")
    reader = Reader(server, travel.run_id)
    reader.saw("started")
    with server.client() as client:
        before = client.get(f"/runs/{travel.run_id}").json()["status"]

    worker = fleet.work()
    until(lambda: travel.held_by(worker.popen.pid))
    travel.open_gate()
    reader.finish()

    assert before == "accepted"
    assert "executed by other processes" in server.stdout
    assert reader.types[-1] == "complete"


def test_a_worker_that_is_asked_to_stop_hands_over_what_it_executes(fleet: Fleet) -> None:
    server, worker = (
        fleet.serve("--no-worker"),
        fleet.work(HOLDFAST_DRAIN_SECONDS="1", HOLDFAST_LEASE_SECONDS=LONG_LEASE),
    )
    travel = Travel(fleet.folder, server, "walker")
    until(lambda: travel.held_by(worker.popen.pid))
    other = fleet.work()

    worker.signal(signal.SIGTERM)
    status = worker.wait()
    seconds = seconds_until(lambda: travel.held_by(other.popen.pid))
    travel.open_gate()

    assert status == 0
    assert seconds < HANDED_OVER_SECONDS
    assert server.finished(travel.run_id)["status"] == "completed"


def test_a_key_made_at_one_process_opens_the_others(fleet: Fleet) -> None:
    first, second = fleet.serve(), fleet.serve()
    with first.client() as client:
        key = client.post("/_holdfast/keys", json={"name": "web", "role": "reader"}).json()["key"]

    def opens() -> bool:
        with second.client(key) as client:
            return client.get("/runs").status_code == 200

    until(opens)
