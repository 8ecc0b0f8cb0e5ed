"""
`kill -9` of a server that executes skills: at the boundaries of steps, inside of them, and while a person is asked.

What must hold afterwards: the journal has no gap and begins with what was seen before; no step that had ended was
started again; what has effects was called once for each step that ended before the kill.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hook_receiver import HookReceiver, Received, hook_receiver
from tests.support.postgres import PostgresServer
from tests.support.server import ServerProcess, start_server
from tests.support.stores import LEASE_SECONDS

AGENTS = Path(__file__).with_name("skill_agents.py")
ENDS = ("step_completed", "step_skipped", "step_degraded", "step_failed")
SECONDS = 30.0

CAPABILITY = """
id: kill.note
version: 1.0.0
description: Writes a line into a file.
inputs: {value: {type: integer}, file: {type: string}}
outputs: {value: {type: integer}}
bind: {python: "killnotes:note"}
"""
MODULE = """
import os

def note(value, file, context):
    with open(file, "a") as out:
        out.write(f"{context.idempotency_key} {os.getpid()}\\n")
    return {"value": value}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a skill of ten steps, each of which has an effect."""
    made = tmp_path / "root"
    (made / "skills").mkdir(parents=True)
    (made / "capabilities").mkdir()
    (made / "capabilities" / "kill.note.yaml").write_text(CAPABILITY)
    (made / "killnotes.py").write_text(MODULE)
    steps = [
        {
            "id": f"s{n}",
            "uses": "kill.note",
            "input": {"value": n, "file": "inputs.file"},
            "output": {"value": f"vars.v{n}"},
        }
        for n in range(1, 11)
    ]
    skill = {
        "id": "kill.ten",
        "version": "1.0.0",
        "name": "Ten",
        "description": "Ten steps.",
        "outputs": {},
        "steps": steps,
    }
    skill["inputs"] = {"file": {"type": "string", "required": True}}
    (made / "skills" / "kill.ten.skill.yaml").write_text(json.dumps(skill))
    return made


def served(tmp_path: Path, root: Path, crash_at: str = "", store: str | None = None) -> ServerProcess:
    environment = {"HOLDFAST_SKILLS_ROOTS": str(root), "HOLDFAST_SKILLS_HTTP_ALLOW": "127.0.0.1"}
    if store is not None:
        environment |= {"HOLDFAST_STORE": store, "HOLDFAST_LEASE_SECONDS": LEASE_SECONDS}
    return start_server(tmp_path / "data", agents=AGENTS, environment=environment | {"CRASH_AT": crash_at})


def frames(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line[6:])


def all_frames(server: ServerProcess, run_id: str) -> list[dict[str, Any]]:
    """The whole stream, to its end."""
    with server.client(timeout=SECONDS) as client, client.stream("GET", f"/v1/runs/{run_id}/stream") as reply:
        return list(frames(reply.iter_lines()))


def check_journal(shown: list[dict[str, Any]]) -> None:
    assert [frame["sequence"] for frame in shown] == list(range(len(shown)))
    assert [frame["type"] for frame in shown].count("done") == 1
    assert shown[-1]["type"] == "done"
    ended: set[str] = set()
    for frame in shown:
        step = frame["step_id"]
        if frame["type"] == "step_start":
            assert step not in ended, f"{step} was started again"
        elif frame["type"] in ENDS and not (frame["data"] or {}).get("will_retry"):
            assert step not in ended, f"{step} ended twice"
            ended.add(step)


def killed_after(tmp_path: Path, root: Path, kill_at: int, store: str | None = None) -> None:
    effects = tmp_path / "effects"
    server = served(tmp_path, root, store=store)
    seen: list[dict[str, Any]] = []
    run_id = ""
    body = {"inputs": {"file": str(effects)}}
    try:
        with (
            server.client(timeout=SECONDS) as client,
            client.stream("POST", "/v1/skills/kill.ten/execute/stream", json=body) as reply,
        ):
            run_id = reply.headers["x-run-id"]
            for frame in frames(reply.iter_lines()):
                seen.append(frame)
                if frame["type"] == "step_completed" and frame["step_id"] == f"s{kill_at}":
                    server.kill()
                    break
    except httpx.TransportError:
        pass  # it died while we read
    finally:
        server.kill()
    again = served(tmp_path, root, store=store)
    try:
        shown = all_frames(again, run_id)
    finally:
        again.kill()

    check_journal(shown)
    assert shown[: len(seen)] == seen
    assert shown[-1]["status"] == "completed"
    calls = Counter(line.split()[0].rpartition("/")[2] for line in effects.read_text().splitlines())
    assert set(calls) == {f"s{n}" for n in range(1, 11)}
    assert [calls[f"s{n}"] for n in range(1, kill_at + 1)] == [1] * kill_at
    assert sum(calls.values()) <= 11, "more than the one step in flight was called again"


def test_steps_that_were_seen_to_end_are_called_once(tmp_path: Path, root: Path) -> None:
    killed_after(tmp_path, root, 4)


@pytest.mark.faults
@pytest.mark.parametrize("kill_at", range(1, 11))
def test_wherever_the_kill_comes_steps_are_called_once(tmp_path: Path, root: Path, kill_at: int) -> None:
    killed_after(tmp_path, root, kill_at)


@pytest.mark.faults
async def test_on_postgres_another_process_goes_on_where_it_died(
    tmp_path: Path, root: Path, postgres: PostgresServer
) -> None:
    store = postgres.url(await postgres.make_database())

    await asyncio.to_thread(killed_after, tmp_path, root, 4, store)


# The sample skills, one inside of the other


class Publishing:
    """A run of news.publish that a crash interrupts, and its end."""

    def __init__(self, tmp_path: Path, root: Path, hook: HookReceiver) -> None:
        self._tmp_path, self._root, self._hook = tmp_path, root, hook
        self.run_id = ""

    def start(self, server: ServerProcess) -> None:
        """Start the run, or find it, whether or not the answer comes."""
        body = {"inputs": {"articles": ["One about cats.", "One about ships."], "hook": self._hook.url}}
        with server.client(timeout=SECONDS) as client:
            headers = {"Idempotency-Key": "publish"}
            try:
                reply = client.post("/v1/skills/news.publish/execute/async", json=body, headers=headers)
            except httpx.TransportError:
                return
            self.run_id = reply.json()["run_id"]

    def record(self, server: ServerProcess) -> dict[str, Any]:
        with server.client(timeout=SECONDS) as client:
            found: dict[str, Any] = client.get(f"/v1/runs/{self.run_id}").json()
            return found

    def until(self, server: ServerProcess, *statuses: str) -> dict[str, Any]:
        ends = time.monotonic() + SECONDS
        while (record := self.record(server))["status"] not in statuses:
            assert time.monotonic() < ends, record
            time.sleep(0.02)
        return record

    def approve(self, server: ServerProcess, **answer: Any) -> None:
        with server.client(timeout=SECONDS) as client:
            reply = client.post(f"/v1/runs/{self.run_id}/approve", json=answer)
            assert reply.status_code == 200 or reply.json()["error"]["code"] == "not_waiting", reply.text

    def end(self, server: ServerProcess) -> list[dict[str, Any]]:
        """Approve, as often as it asks, and return the frames."""
        while True:
            record = self.until(server, "waiting_for_human", "completed", "failed")
            if record["status"] != "waiting_for_human":
                return all_frames(server, self.run_id)
            self.approve(server)
            self.until_answered(server, record["interrupts"][0]["interrupt_id"])

    def go_on_until_it_dies(self, server: ServerProcess) -> None:
        """Approve what it asks, for as long as it answers."""
        try:
            while self.run_id:
                if self.record(server)["status"] == "waiting_for_human":
                    self.approve(server)
                time.sleep(0.02)
        except httpx.TransportError:
            return

    def until_answered(self, server: ServerProcess, interrupt_id: str) -> None:
        ends = time.monotonic() + SECONDS
        while any(item["interrupt_id"] == interrupt_id for item in self.record(server)["interrupts"]):
            assert time.monotonic() < ends
            time.sleep(0.02)


def died_at(tmp_path: Path, root: Path, point: str) -> None:
    with hook_receiver() as hook:
        publishing = Publishing(tmp_path, root, hook)
        server = served(tmp_path, root, point)
        try:
            publishing.start(server)
            publishing.go_on_until_it_dies(server)
            server.wait(SECONDS)
        finally:
            server.kill()
        again = served(tmp_path, root)
        try:
            publishing.start(again)
            shown = publishing.end(again)
        finally:
            again.kill()
        posts = len(hook.received("/"))

    check_journal(shown)
    assert shown[-1]["status"] == "completed", shown[-1]
    asked = [frame for frame in shown if frame["type"] == "interrupt" and frame["data"]["reason"] == "outcome_unknown"]
    assert posts == 1 + len(asked), "it is made again where a person has said so, and nowhere else"
    assert [frame["type"] for frame in shown].count("skill_completed") == 1


POINTS = ["before:step_completed:2"]
MORE_POINTS = [
    "after:interrupt:1",
    "after:interrupt_resolved:1",
    *(f"{where}:step_started:{n}" for where in ("before", "after") for n in range(1, 7)),
    *(f"{where}:step_completed:{n}" for where in ("before", "after") for n in range(1, 6)),
    "before:step_skipped:1",
    "after:step_skipped:1",
    "before:interrupt:1",
    "before:interrupt_resolved:1",
    "before:complete:1",
]


@pytest.mark.parametrize("point", POINTS)
def test_the_sample_skills_go_on_where_they_died(tmp_path: Path, root: Path, point: str) -> None:
    died_at(tmp_path, root, point)


@pytest.mark.faults
@pytest.mark.parametrize("point", MORE_POINTS)
def test_the_sample_skills_go_on_wherever_they_died(tmp_path: Path, root: Path, point: str) -> None:
    died_at(tmp_path, root, point)


def test_a_post_that_a_kill_cut_off_is_not_made_again_without_asking(
    own_store: dict[str, str], tmp_path: Path, root: Path
) -> None:
    store = own_store.get("HOLDFAST_STORE")
    with hook_receiver() as hook:
        publishing = Publishing(tmp_path, root, hook)
        server = served(tmp_path, root, store=store)

        def kill(_: Received) -> int:
            server.kill()
            return 200

        hook.answer = kill
        publishing.start(server)
        publishing.until(server, "waiting_for_human")
        publishing.approve(server)
        server.wait(SECONDS)
        again = served(tmp_path, root, store=store)
        try:
            record = publishing.until(again, "waiting_for_human")
            publishing.approve(again, output={"status_code": 200, "headers": {}, "text": ""})
            publishing.until(again, "completed", "failed")
            shown = all_frames(again, publishing.run_id)
        finally:
            again.kill()
        posts = len(hook.received("/"))

    assert [item["reason"] for item in record["interrupts"]] == ["outcome_unknown"]
    check_journal(shown)
    assert (posts, shown[-1]["status"], shown[-1]["outputs"]) == (1, "completed", {"status_code": 200})
