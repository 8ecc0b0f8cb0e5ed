"""
The sender is killed while receivers hold its requests open: every event of a run that was acknowledged arrives, in the
same bytes, and twice at most what was on its way at a kill.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.forks import Nursery, shared_nursery
from tests.support.hook_receiver import HookReceiver, Received, hook_receiver
from tests.support.postgres import PostgresServer
from tests.support.server import ServerProcess, start_server
from tests.support.tasks import start

AGENTS: Final = Path(__file__).parents[1] / "support" / "workflow_agents.py"
# Of one endpoint; only these can be on their way when the process dies.
AT_ONCE: Final = 4
EVENTS: Final = ("run.started", "run.completed")


@pytest.fixture
def nursery() -> Nursery:
    return shared_nursery()


class Sending:
    """A server that its receiver kills in the middle of a delivery, and that comes back."""

    def __init__(self, data: Path, settings: dict[str, str], nursery: Nursery, receiver: HookReceiver) -> None:
        self._data, self._settings, self._nursery, self._receiver = data, settings, nursery, receiver
        self.is_dead = threading.Event()
        self._lock = threading.Lock()
        self._kill_at: list[int] = []
        self._count = 0
        self.kills = 0
        self.server = self._begin()
        with self.server.client() as client:
            self.endpoint = client.post("/webhooks", json={"url": f"{receiver.url}/hooks"}).json()

    def kill_at(self, counts: list[int]) -> None:
        """Kill it over its n-th deliveries, counted from now."""
        self._kill_at = counts
        self._receiver.answer = self._on_request

    def start_runs(self, count: int) -> list[int]:
        """The numbers of so many runs that were acknowledged."""
        numbers: list[int] = []
        while len(numbers) < count:
            self.revive()
            with self.server.client() as client:
                try:
                    while len(numbers) < count and not self.is_dead.is_set():
                        numbers.append(start(client, "say", str(len(numbers))).number)
                except httpx.TransportError:
                    continue
        return numbers

    def wait_for_all(self, numbers: list[int]) -> list[Received]:
        """Everything that came, once each of these runs was told of, whatever is killed meanwhile."""
        wanted = {(number, name) for number in numbers for name in EVENTS}

        def is_enough(found: list[Received]) -> bool:
            return self.is_dead.is_set() or wanted <= {(item.event["task_id"], item.event["type"]) for item in found}

        while True:
            self.revive()
            found = self._receiver.wait("/hooks", is_enough)
            if not self.is_dead.is_set():
                return found

    def revive(self) -> None:
        """Start it again, if it was killed."""
        if self.is_dead.is_set():
            self.is_dead.clear()
            self.server = self._begin()

    def _begin(self) -> ServerProcess:
        environment = {**self._settings, "HOLDFAST_WEBHOOK_ALLOW": "127.0.0.1"}
        return start_server(self._data, agents=AGENTS, environment=environment, nursery=self._nursery)

    def _on_request(self, _: Received) -> int:
        with self._lock:
            self._count += 1
            if self._count in self._kill_at and not self.is_dead.is_set():
                self.server.kill()
                self.kills += 1
                self.is_dead.set()
                self._receiver.poke()
        return 200


def kill_and_count(sending: Sending, *, runs: int, kills: int) -> None:
    sending.kill_at([place * runs * 2 // (kills + 1) for place in range(1, kills + 1)])

    numbers = sending.start_runs(runs)
    found = sending.wait_for_all(numbers)

    sending.server.kill()
    bodies = {item.event["event_id"]: item.body for item in found}
    counts = Counter(item.event["event_id"] for item in found)
    assert sending.kills == kills
    assert all(item.body == bodies[item.event["event_id"]] for item in found)
    assert sum(counts.values()) - len(counts) <= AT_ONCE * kills


@pytest.mark.crash
def test_a_sender_that_is_killed_three_times_loses_no_event(tmp_path: Path, nursery: Nursery) -> None:
    with hook_receiver() as receiver:
        kill_and_count(Sending(tmp_path / "data", {}, nursery, receiver), runs=30, kills=3)


@pytest.mark.crash
def test_a_test_that_a_crash_cut_off_is_not_sent_again(tmp_path: Path, nursery: Nursery) -> None:
    """Its effect is at the receiver, and nobody knows whether it happened."""
    with hook_receiver() as receiver:
        sending = Sending(tmp_path / "data", {}, nursery, receiver)
        path = f"/webhooks/{sending.endpoint['id']}/test"
        sending.kill_at([1])
        with sending.server.client() as client, pytest.raises(httpx.TransportError):
            client.post(path, headers={"Idempotency-Key": "k"})
        assert sending.is_dead.wait(20)
        sending.revive()
        with sending.server.client() as client:
            again = client.post(path, headers={"Idempotency-Key": "k"})
            other = client.post(path, headers={"Idempotency-Key": "l"})
        sending.server.kill()

    assert (again.status_code, again.json()["detail"]["code"]) == (409, "idempotency_in_progress")
    assert "unknown" in again.json()["detail"]["message"]
    assert other.json()["status"] == "delivered"
    assert len(receiver.received("/hooks")) == 2


@pytest.mark.faults
@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_sender_that_is_killed_twenty_times_in_a_thousand_events_loses_none(
    tmp_path: Path, nursery: Nursery, kind: str, request: pytest.FixtureRequest
) -> None:
    settings: dict[str, str] = {}
    if kind == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        settings = {"HOLDFAST_STORE": postgres.url(await postgres.make_database()), "HOLDFAST_LEASE_SECONDS": "3"}
    with hook_receiver() as receiver:
        receiver.wait_seconds = 60
        kill_and_count(Sending(tmp_path / "data", settings, nursery, receiver), runs=500, kills=20)
