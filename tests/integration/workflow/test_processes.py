"""Two server processes on one Postgres: started at one, watched at the other, answered at both."""

from __future__ import annotations

from pathlib import Path

from tests.integration.workflow.conftest import AGENTS
from tests.support.postgres import PostgresServer
from tests.support.server import running_server
from tests.support.stores import new_postgres_store
from tests.support.tasks import Task, result, start, syncs


def test_answers_in_reverse_order_by_two_processes(postgres: PostgresServer, tmp_path: Path) -> None:
    with (
        new_postgres_store(postgres) as settings,
        running_server(tmp_path / "one", agents=AGENTS, environment=settings) as one,
        running_server(tmp_path / "two", agents=AGENTS, environment=settings) as two,
        one.client() as here,
        two.client() as there,
    ):
        task = start(here, "rounds", "2", "3")
        other = Task(there, "rounds", task.number, task.run_id)
        with other.stream() as stream:
            for number in range(2):
                calls = other.paused()
                while len(calls) != 3 or other.status()["task_info"]["round"] != number + 1:
                    calls = other.paused()
                for place, side in ((2, other), (1, task), (0, other)):
                    assert side.post(result(calls[place], f"{number}{place}")).status_code == 200
                    again = (task if side is other else other).post(result(calls[place], f"{number}{place}"))
                    assert again.json()["results"] == [{"call_id": calls[place], "state": "repeated"}]
            row = task.ended()
            shown = syncs(stream)
        same = there.get(f"/api/workflow/run/{task.number}").json()
        registered = here.post("/api/tools/register", json={"tools": [{"name": "peek"}]}).json()["tools"]
        known = there.get("/api/tools").json()["schemas"]

    assert row["result"] == '[["00","01","02"],["10","11","12"]]'
    assert same == row
    assert shown[-1]["task_status"]["completed"] is True
    assert [item["seq"] for item in shown] == sorted({item["seq"] for item in shown})
    assert [tool["id"] for tool in known] == [registered[0]["id"]]
