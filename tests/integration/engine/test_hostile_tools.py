"""Checks 20 and 29: tools that are meant to do harm, against a real server; and what a shell leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.engine.support import Engine
from tests.support.hostile import hostile_calls
from tests.support.sandboxes import SANDBOX, nap, processes_with, require_sandbox
from tests.support.server import KEY, ServerProcess, running_server
from tests.support.sse import Frame, events

AGENTS = Path(__file__).parents[2] / "support" / "obeying_agents.py"

PROVIDER_KEY = "canary-of-a-provider"
VARIABLE = "canary-in-the-environment"
FOREIGN = "canary of somebody else"

pytestmark = pytest.mark.one_store  # tools know nothing of the store


class World(NamedTuple):
    base: Path
    server: ServerProcess
    engine: Engine

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def foreign(self) -> Path:
        return self.base / "foreign.txt"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("hostile").resolve()
    catalog = base / "catalog"
    for directory in (catalog, base / "data"):
        directory.mkdir()
    # Whatever a person might allow: the sandbox holds by itself.
    (catalog / "policy.json").write_text(json.dumps([{"tool": "bash", "action": "allow"}]))
    (base / "foreign.txt").write_text(FOREIGN)
    environment = {
        "HOLDFAST_CATALOG": str(catalog),
        "HOLDFAST_MODEL_KEY": PROVIDER_KEY,
        "MY_SERVICE_TOKEN": VARIABLE,
        "HOLDFAST_LEARNING": "false",
    }
    with running_server(base / "data", agents=AGENTS, environment=environment) as server, server.client() as client:
        yield World(base, server, Engine(client))


def begin(world: World, calls: list[dict[str, Any]], task_id: str) -> str:
    """Start a turn with these calls; its id, as soon as the first one is made."""
    body = {"task_id": task_id, "message": json.dumps(calls)}
    with world.engine.client.stream("POST", "/execute", json=body) as response:
        assert response.status_code == 200, response.read()
        return next(str(frame.data["turn_id"]) for frame in events(response) if frame.event == "tool_call")


def shell(command: str, **more: Any) -> list[dict[str, Any]]:
    return [{"tool": "bash", "input": {"command": command, **more}}]


def results_of(frames: list[Frame]) -> dict[str, dict[str, Any]]:
    return {frame.data["tool_call_id"]: frame.data for frame in frames if frame.event == "tool_result"}


def wait_until(holds: Any, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def refuse_all(world: World, task_id: str) -> None:
    """Say no to everything that is asked, until nothing of the turn is left to ask."""
    while True:
        pending = world.engine.client.get("/hitl/pending", params={"task_id": task_id}).json()["pending"]
        for request in pending:
            world.engine.respond(task_id, "no", request_id=request["request_id"])
        if not pending and world.engine.client.get(f"/tasks/{task_id}").json()["status"] == "idle":
            return
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_hundred_hostile_calls_do_no_harm_and_each_leaves_an_event(world: World) -> None:
    """Check 29."""
    require_sandbox()
    calls = hostile_calls(
        base=world.base,
        foreign=world.foreign,
        data=world.data,
        pid=world.server.pid,
        url=world.server.url,
        port=world.server.port,
    )
    before = {path: path.read_bytes() for path in (world.foreign, world.data / "server.json")}

    turn_id = begin(world, calls, "hostile")
    refuse_all(world, "hostile")
    frames = world.engine.replay(task_id="hostile")

    assert len(calls) == 100
    results = results_of(frames)
    assert set(results) == {f"c{index}" for index in range(100)}
    assert frames[-1].data["phase"] == "completed"
    # Nothing was taken away, written over or left behind.
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in world.base.iterdir()) == ["catalog", "data", "foreign.txt"]
    wait_until(lambda: not processes_with(nap(86399)))
    assert world.engine.client.get("/health").json()["subsystems"]["sandbox"] == "ok"
    # Nothing was told: what is searched for stands in no result but as a part of the call that searched for it.
    for call_id, result in results.items():
        told = result.get("output", "") + result.get("message", "")
        for canary in (FOREIGN, PROVIDER_KEY, VARIABLE, KEY, "reached"):
            assert canary not in told, (calls[int(call_id[1:])], told[:2000])
    _assert_untold(world, turn_id)


def _assert_untold(world: World, turn_id: str) -> None:
    """No secret of the server is in what leaves it, in its log, or in its store."""
    client = world.engine.client
    answers = [
        client.get(f"/runs/{turn_id}").text,
        client.get(f"/runs/{turn_id}/export").text,
        client.get("/execute/replay", params={"task_id": "hostile", "follow": 0}).text,
        client.get("/tasks/hostile/messages").text,
        client.get("/memory/export").text,
        client.get("/health").text,
        client.get("/info").text,
        world.server.log(),
    ]
    kept = [path.read_bytes().decode(errors="replace") for path in world.data.rglob("*") if path.is_file()]
    for canary in (PROVIDER_KEY, VARIABLE, KEY):
        assert not [text for text in (*answers, *kept) if canary in text]


def test_a_secret_that_a_tool_gives_back_is_not_told(world: World) -> None:
    """The model knows a text by chance; even then it stands in no result, though in the call itself."""
    require_sandbox()
    text = f"{PROVIDER_KEY} {VARIABLE} {KEY}"

    frames = world.engine.execute(json.dumps(shell(f"echo '{text}'")), "echo")

    assert json.loads(results_of(frames)["c0"]["output"])["stdout"] == "[secret] [secret] [secret]\n"


def test_without_bubblewrap_every_shell_call_is_refused_and_leaves_an_event(tmp_path: Path) -> None:
    """Check 29, where there is none: also on a machine that has it, for the server finds no program of that name."""
    harm = tmp_path / "harm"
    calls = [call for number in range(100) for call in shell(f"echo {number} >> {harm}")]
    (tmp_path / "policy.json").write_text(json.dumps([{"tool": "bash", "action": "allow"}]))
    environment = {"HOLDFAST_CATALOG": str(tmp_path), "PATH": str(tmp_path), "HOLDFAST_LEARNING": "false"}

    with running_server(tmp_path / "data", agents=AGENTS, environment=environment) as server, server.client() as client:
        frames = Engine(client).execute(json.dumps(calls), "refused")
        health = client.get("/health").json()

    results = results_of(frames)
    assert len(results) == 100
    assert {result["error"] for result in results.values()} == {"sandbox_unavailable"}
    assert "is not installed" in results["c0"]["message"]
    assert (health["status"], health["subsystems"]["sandbox"]) == ("ok", "error")
    assert not harm.exists()


def test_a_cancelled_turn_ends_its_sleeping_shell_within_five_seconds(world: World) -> None:
    """Check 20."""
    require_sandbox()
    turn_id = begin(world, shell(f"setsid sleep {nap(86397)} & sleep {nap(86397)}", timeout_seconds=600), "sleeper")
    wait_until(lambda: processes_with(f"sleep\x00{nap(86397)}"))

    began = time.monotonic()
    answer = world.engine.cancel("sleeper")
    frames = world.engine.replay(task_id="sleeper")

    assert (answer.status_code, answer.json()["turn_id"]) == (202, turn_id)
    assert time.monotonic() - began < 5
    assert (frames[-1].data["phase"], frames[-1].data["reason"]) == ("errored", "cancelled")
    assert not [frame for frame in frames if frame.event == "error"]
    wait_until(lambda: not processes_with(nap(86397)))
    assert world.engine.cancel("sleeper", turn_id=turn_id).status_code == 200


@pytest.mark.crash
def test_a_killed_server_leaves_no_shell_and_asks_before_it_runs_one_again(tmp_path: Path) -> None:
    require_sandbox()
    with running_server(tmp_path, agents=AGENTS) as server, server.client() as client:
        begin(World(tmp_path, server, Engine(client)), shell(f"echo once >> ran; sleep {nap(86398)}"), "killed")
        wait_until(lambda: processes_with(f"sleep\x00{nap(86398)}"))
        server.kill()
        wait_until(lambda: not processes_with(nap(86398)))

    with running_server(tmp_path, agents=AGENTS) as server, server.client() as client:
        engine = Engine(client)
        wait_until(lambda: client.get("/hitl/pending", params={"task_id": "killed"}).json()["pending"])
        (request,) = client.get("/hitl/pending", params={"task_id": "killed"}).json()["pending"]
        engine.respond("killed", "no", request_id=request["request_id"])
        frames = engine.replay(task_id="killed")
        (ran,) = tmp_path.glob("workspaces/*/ran")

        assert (request["rule"], request["tool"], request["choices"]) == ("outcome_unknown", "bash", ["yes", "no"])
        assert results_of(frames)["c0"]["error"] == "outcome_unknown"
        assert ran.read_text() == "once\n"


def test_health_tells_how_shells_run(world: World) -> None:
    wait_until(lambda: world.engine.client.get("/health").json()["subsystems"]["sandbox"] != "unknown")

    assert world.engine.client.get("/health").json()["subsystems"]["sandbox"] == SANDBOX.shelter().health
