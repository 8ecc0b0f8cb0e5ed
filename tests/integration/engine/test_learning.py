"""The assistant of a real server learns from a turn, in a run of its own, and what it learned is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.engine.support import Engine
from tests.support.server import ServerProcess, running_server
from tests.support.until import until


@pytest.fixture(scope="module")
def server(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {**module_store, "HOLDFAST_OFFLINE_WORD_DELAY_SECONDS": "0"}
    with running_server(tmp_path_factory.mktemp("learning"), agents=None, environment=environment) as process:
        yield process


async def test_a_completed_turn_becomes_an_episode_that_the_next_turn_is_given(engine: Engine, task_id: str) -> None:
    turn = engine.execute("Say hello to the Café Zanzibar.", task_id)
    turn_id = turn[0].data["turn_id"]

    def learned() -> dict[str, Any] | None:
        found: list[dict[str, Any]] = engine.post("/memory/episodes/search", {"query": "zanzibar"}).json()
        return found[0] if found else None

    episode = await until(learned)
    assert (episode["id"], episode["source"]) == (f"turn_{turn_id}", f"turn:{turn_id}")
    assert (episode["key"], episode["description"]) == ("turn", "Say hello to the Café Zanzibar.")
    assert episode["value"] == turn[-1].data["output"]
    assert episode["task_id"] == task_id

    def is_over() -> bool:
        runs = engine.client.get("/runs", params={"agent": "assistant.learning"}).json()["runs"]
        return all(run["status"] == "completed" for run in runs)

    await until(is_over)
    listed = engine.client.get("/tasks").json()["tasks"]
    assert {task["agent"] for task in listed} == {"assistant"}  # what learns belongs to no task


def test_working_memory_is_told_shown_and_taken_back_with_its_turn(engine: Engine, task_id: str) -> None:
    def note(value: str) -> str:
        return f'Use the tool working_memory_write with {{"key": "step", "value": {value}}}'

    first = engine.execute(note("1"), task_id)
    second = engine.execute(note('{"at": 2}'), task_id)

    (told,) = [frame.data for frame in second if frame.event == "working_memory_update"]
    assert (told["key"], told["value"]) == ("step", {"at": 2})
    assert shown(engine, task_id) == {"step": {"at": 2}}

    engine.execute("Hello", task_id, edit_message_id=second[0].data["user_message_id"])
    assert shown(engine, task_id) == {"step": 1}

    engine.execute("Hello", task_id, edit_message_id=first[0].data["user_message_id"])
    assert shown(engine, task_id) == {}


def test_knowledge_that_a_turn_writes_is_told_and_stays_when_the_task_goes(engine: Engine, task_id: str) -> None:
    turn = engine.execute('Use the tool knowledge_write with {"content": "The pangolin pays on the 6th."}', task_id)

    (told,) = [frame.data for frame in turn if frame.event == "memory_update"]
    assert (told["store"], told["action"]) == ("knowledge", "written")
    assert engine.client.delete(f"/tasks/{quote(task_id, safe='')}").status_code == 200
    (hit,) = engine.post("/memory/knowledge/search", {"query": "PANGOLIN"}).json()
    assert (hit["id"], hit["source"]) == (told["item"]["id"], f"turn:{turn[0].data['turn_id']}")


def shown(engine: Engine, task_id: str) -> Any:
    return engine.client.get(f"/tasks/{quote(task_id, safe='')}").json()["working_memory"]
