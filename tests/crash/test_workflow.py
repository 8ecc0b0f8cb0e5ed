"""
`kill -9` of the server at each point of a round: asked, answered in part, answered, resumed, and in the delivery of a webhook.
Every tool's effect is there once, the run completes, and the receiver saw every event, signed.
"""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.backoff import Backoff
from holdfast.client.workflow import WorkflowClient
from tests.crash.test_kill import free_port
from tests.support.forks import Nursery, shared_nursery
from tests.support.hooked import Received, Receiver, receiving
from tests.support.postgres import PostgresServer
from tests.support.server import ServerProcess, start_server

AGENTS = Path(__file__).with_name("workflow_agents.py")
POINTS = [
    ["before:interrupt:1"],
    ["after:interrupt:1"],
    ["after:tool_result:1"],
    ["before:interrupt_resolved:1"],
    ["after:interrupt_resolved:1"],
    ["after:interrupt:1", "take_up:1", "after:interrupt_resolved:1", "before:complete:1"],
    ["in delivery"],
]
EVENTS = Counter({"run.started": 1, "run.awaiting_tool_calls": 2, "run.tool_calls_answered": 2, "run.completed": 1})

pytestmark = [pytest.mark.slow, pytest.mark.crash]


@pytest.fixture
def nursery() -> Nursery:
    return shared_nursery()


class Deaths:
    """A server that is started anew whenever it died, dying at the next point; at the end it lives."""

    def __init__(self, data: Path, points: list[str], nursery: Nursery, environment: dict[str, str]) -> None:
        self._data, self._points, self._nursery = data, list(points), nursery
        self._environment = {**environment, "HOLDFAST_PORT": str(free_port())}
        self._is_over = False
        self._started = threading.Condition()
        self.deaths = 0
        self.server = self._start()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def wait(self, deaths: int, seconds: float = 60.0) -> None:
        """Until it died so often and lives again; the last death may come after all else is done."""
        with self._started:
            assert self._started.wait_for(lambda: self.deaths >= deaths, seconds), self.deaths

    def end(self) -> None:
        self._is_over = True
        self.kill()
        self._thread.join()

    def kill(self) -> None:
        """Only the watching thread waits for its end."""
        os.kill(self.server.pid, signal.SIGKILL)

    def _start(self) -> ServerProcess:
        crash_at = {"CRASH_AT": self._points.pop(0)} if self._points and ":" in self._points[0] else {}
        environment = {**self._environment, **crash_at}
        return start_server(self._data, agents=AGENTS, environment=environment, nursery=self._nursery)

    def _watch(self) -> None:
        while True:
            self.server.popen.wait()
            if self._is_over:
                return
            server = self._start()
            with self._started:
                self.server = server
                self.deaths += 1
                self._started.notify_all()


async def round_trips(deaths: Deaths, receiver: Receiver) -> tuple[str, Counter[Any], str]:
    """A run of two rounds of two calls: its result, how often each call had its effect, and the endpoint's secret."""
    effects: Counter[Any] = Counter()

    def handler(name: str) -> Any:
        async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
            effects[name, args["round"]] += 1
            return f"{name}{args['round']}"

        return find

    async with WorkflowClient(deaths.server.url) as client:
        client.set_api_key("test-key")
        client._http.backoff = lambda: Backoff(0.02, 0.2)
        endpoint = await client.webhooks.create(receiver.url)
        client.set_tools({f"find_{index}": handler(str(index)) for index in range(2)})
        key = "one-start-however-often-it-is-asked-for"
        final = await client.run_agent("rounds", {"1": "2", "2": "2"}, idempotency_key=key)
    return str(final.result), effects, str(endpoint.secret)


def check(tmp_path: Path, points: list[str], nursery: Nursery, environment: dict[str, str]) -> None:
    with receiving() as receiver:
        allow = {"HOLDFAST_WEBHOOK_ALLOW": receiver.url.split("/")[2]}
        deaths = Deaths(tmp_path / "data", points, nursery, environment | allow)
        if points == ["in delivery"]:
            once = threading.Lock()

            def answer(received: Received) -> int:
                if received.event["type"] == "run.awaiting_tool_calls" and once.acquire(blocking=False):
                    deaths.kill()
                return 200

            receiver.answer = answer
        try:
            result, effects, secret = asyncio.run(round_trips(deaths, receiver))
            receiver.wait(lambda found: kinds(found) == EVENTS, seconds=90)  # on Postgres a delivery is taken for 30 s
            deaths.wait(len(points))
        finally:
            deaths.end()

    assert result == '[["00","10"],["01","11"]]'
    assert effects == Counter({(name, number): 1 for name in "01" for number in range(2)})
    assert deaths.deaths == len(points)
    for received in receiver.received:
        received.verify(secret)
    bodies = {(item.headers["webhook-id"], item.body) for item in receiver.received}
    assert len(bodies) == len({event_id for event_id, _ in bodies}), "an event was sent with other bytes"


def kinds(found: list[Received]) -> Counter[str]:
    """How many different events of each type were received."""
    return Counter(kind for _, kind in {(item.headers["webhook-id"], item.event["type"]) for item in found})


@pytest.mark.parametrize("points", POINTS, ids=" ".join)
def test_a_death_of_the_server_repeats_no_tool_and_loses_no_event(
    tmp_path: Path, nursery: Nursery, points: list[str]
) -> None:
    check(tmp_path, points, nursery, {})


@pytest.mark.faults
@pytest.mark.parametrize("points", POINTS, ids=" ".join)
def test_nor_on_postgres(
    tmp_path: Path, nursery: Nursery, postgres: PostgresServer, database: str, points: list[str]
) -> None:
    check(tmp_path, points, nursery, {"HOLDFAST_STORE": postgres.url(database), "HOLDFAST_LEASE_SECONDS": "1"})
