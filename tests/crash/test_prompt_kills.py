"""
`kill -9` inside the request of a prompt to the model, on both stores: prompt skills in a turn, and steps of a skill that
a prompt fulfils. The provider counts what it was asked: a request that was answered is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engine.support import Engine
from tests.support.catalogs import write_agent, write_skill
from tests.support.providers import PROTOCOLS, Provider, Reply, provider
from tests.support.server import ServerProcess, start_server

SECONDS = 60.0


class Dying:
    """Servers on the same data, one after the other, and a provider that kills the one that asks it where a test says so."""

    def __init__(self, data: Path, model: Provider, environment: dict[str, str]) -> None:
        self.model = model
        self._data = data
        self._environment = {**model.settings, "HOLDFAST_LEARNING": "false", **environment}
        self._servers: list[ServerProcess] = []

    @property
    def asked(self) -> list[str]:
        """What each request said last."""
        return [str(request["messages"][-1]["content"]) for request in self.model.requests]

    def start(self) -> ServerProcess:
        self._servers.append(start_server(self._data, agents=None, environment=self._environment))
        return self._servers[-1]

    def killing(self, text: str) -> Reply:
        """An answer of which all but the end arrives; then whoever asked is dead."""
        return Reply(text, before_end=self._kill, cut=True)

    def _kill(self) -> None:
        self._servers[-1].kill()

    def end(self) -> None:
        for server in self._servers:
            server.kill()


@pytest.fixture
def dying(own_store: dict[str, str], tmp_path: Path) -> Iterator[Dying]:
    with provider(PROTOCOLS[0]) as model:
        roots = {"HOLDFAST_CATALOG": str(tmp_path / "catalog"), "HOLDFAST_SKILLS_ROOTS": str(tmp_path / "skills")}
        (tmp_path / "catalog").mkdir()
        made = Dying(tmp_path / "data", model, {**roots, **own_store})
        try:
            yield made
        finally:
            made.end()


def test_a_prompt_skill_of_a_turn_is_asked_again_where_it_was_cut_off_and_nowhere_else(
    dying: Dying, tmp_path: Path
) -> None:
    write_agent(tmp_path / "catalog", "writer", "You write.", tools=["skill.*"], default=True)
    write_skill(tmp_path / "catalog", "brief", "Brief: {{text}}")
    first, second = (Reply(calls=[(f"c{n}", "skill__brief", {"text": f"text {n}"})]) for n in (1, 2))
    dying.model.reset(
        first,
        dying.killing("One, cut"),
        Reply("One."),
        second,
        Reply("Two."),
        dying.killing("Done, cut"),
        Reply("Done."),
    )

    server = dying.start()
    with server.client() as client:
        run = client.post("/agents/writer/runs", params={"thread_id": "t"}, json={"message": "Write."}).json()
    for _ in range(2):
        server.wait(SECONDS)
        server = dying.start()
    with server.client(timeout=SECONDS) as client:
        ended = client.get(f"/runs/{run['run_id']}?wait=60").json()
        found = Engine(client).replay(task_id="t")

    assert (ended["status"], ended["output"]) == ("completed", "Done.")
    assert dying.asked == ["Write.", "Brief: text 1", "Brief: text 1", "One.", "Brief: text 2", "Two.", "Two."]
    results = [(frame.data["tool_call_id"], frame.data["output"]) for frame in found if frame.event == "tool_result"]
    assert results == [("c1", "One."), ("c2", "Two.")]
    told = [frame.data["input_tokens"] for frame in found if frame.event == "usage"]
    assert found[-1].data["usage"]["input_tokens"] == sum(told)


def test_a_step_that_a_prompt_fulfils_is_asked_again_where_it_was_cut_off_and_nowhere_else(
    dying: Dying, tmp_path: Path
) -> None:
    write_prompted_skill(tmp_path / "skills")
    dying.model.reset(Reply("One."), dying.killing("Two, cut"), Reply("Two."), Reply("Three."))

    server = dying.start()
    with server.client() as client:
        run_id = client.post("/v1/skills/tell/execute/async", json={"inputs": {"text": "x"}}).json()["run_id"]
    server.wait(SECONDS)
    with dying.start().client(timeout=SECONDS) as client, client.stream("GET", f"/v1/runs/{run_id}/stream") as reply:
        frames = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]

    assert (frames[-1]["status"], frames[-1]["outputs"]) == ("completed", {"result": "Three."})
    assert dying.asked == ["Say x", "Say One.", "Say One.", "Say Two."]
    starts = [
        (frame["step_id"], (frame["data"] or {}).get("attempt", 1)) for frame in frames if frame["type"] == "step_start"
    ]
    assert starts == [("first", 1), ("second", 1), ("second", 2), ("third", 1)]
    assert [frame["sequence"] for frame in frames] == list(range(len(frames)))


def write_prompted_skill(root: Path) -> None:
    """`tell`: three steps, each of which asks the model about what the one before it got."""
    capability: dict[str, Any] = {
        "id": "test.say",
        "version": "1.0.0",
        "description": "Says.",
        "inputs": {"text": {"type": "string"}},
        "outputs": {"text": {"type": "string"}},
        "bind": {"prompt": {"template": "Say {{text}}"}},
    }
    steps = [
        {
            "id": step,
            "uses": "test.say",
            "input": {"text": reads},
            "output": {"text": writes},
            "config": {"stream": True},
        }
        for step, reads, writes in [
            ("first", "inputs.text", "vars.first"),
            ("second", "vars.first", "vars.second"),
            ("third", "vars.second", "outputs.result"),
        ]
    ]
    skill = {
        "id": "tell",
        "version": "1.0.0",
        "name": "Tell",
        "description": "Three questions.",
        "inputs": {"text": {"type": "string", "required": True}},
        "outputs": {"result": {"type": "string"}},
        "steps": steps,
    }
    for path, content in (("capabilities/test.say.yaml", capability), ("skills/tell.skill.yaml", skill)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps(content))
