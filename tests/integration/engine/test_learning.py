"""The assistant of a real server learns from a turn, in a run of its own, and what it learned is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
        (run,) = engine.client.get("/runs", params={"agent": "assistant.learning"}).json()["runs"]
        return bool(run["status"] == "completed")

    await until(is_over)
    listed = engine.client.get("/tasks").json()["tasks"]
    assert [task["task_id"] for task in listed] == [task_id]  # what learns belongs to no task
