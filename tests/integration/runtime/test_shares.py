"""Limits over the wire: what is over one is queued, and what finds no place in the queue is refused and changes nothing."""

from __future__ import annotations

from pathlib import Path

from tests.support.server import ServerProcess, running_server

LIMITS = {"HOLDFAST_TENANT_RUNS_MAX": "1", "HOLDFAST_TENANT_QUEUE_MAX": "1", "HOLDFAST_QUEUE_MAX": "2"}


def key_of(server: ServerProcess, tenant: str) -> str:
    with server.client() as client:
        made = client.post("/_holdfast/keys", json={"name": tenant, "tenant": tenant})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def test_limits_are_told_in_the_words_of_each_api(own_store: dict[str, str], tmp_path: Path) -> None:
    with running_server(tmp_path, environment={**own_store, **LIMITS}) as server:
        for tenant in ("a", "b"):
            with server.client(key_of(server, tenant)) as client:
                begun = [client.post(f"/agents/stuck/runs?run_id=r{index}", json={}) for index in range(2)]
                assert [answer.status_code for answer in begun] == [202, 202]
                states = [client.get(f"/runs/r{index}").json()["status"] for index in range(2)]
                assert states == ["running", "accepted"]
                if tenant == "b":
                    break
                full = [
                    client.post("/agents/stuck/runs?run_id=late", json={}),
                    client.post("/agents/stuck/invoke?run_id=late", json={}),
                    client.post("/agents/stuck/invoke/stream?run_id=late", json={}),
                ]
                task = client.post("/execute", json={"task_id": "late", "message": "hello", "agent": "stuck"})

                for answer in full:
                    assert answer.status_code == 429
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert int(answer.headers["retry-after"]) >= 1
                    assert answer.json()["code"] == "RATE_LIMIT_EXCEEDED"
                assert (task.status_code, task.json()["error"]) == (429, "RATE_LIMITED")
                assert int(task.headers["retry-after"]) == task.json()["details"]["retry_after"] >= 1
                assert client.get("/runs/late").status_code == 404
                assert client.get("/tasks/late").status_code == 404
                assert len(client.get("/runs").json()["runs"]) == 2
        with server.client(key_of(server, "c")) as client:
            assert client.post("/agents/stuck/runs", json={}).status_code == 202

            overall = client.post("/agents/stuck/runs?run_id=late", json={})
            turn = client.post("/execute", json={"task_id": "late", "message": "hello", "agent": "stuck"})

            assert (overall.status_code, overall.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(overall.headers["retry-after"]) >= 1
            assert (turn.status_code, turn.json()["error"]) == (503, "CAPACITY_EXHAUSTED")
            assert int(turn.headers["retry-after"]) == turn.json()["details"]["retry_after"] >= 1
            assert client.get("/runs/late").status_code == 404
