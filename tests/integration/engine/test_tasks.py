"""Tasks: listing, looking, cancelling, deleting, and that tenants and roles are kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.integration.engine.support import Engine
from tests.support.server import ServerProcess


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def path_of(task_id: str, rest: str = "") -> str:
    return f"/tasks/{quote(task_id, safe='')}{rest}"


# Cancelling


@pytest.mark.parametrize("named", [False, True])
def test_a_running_turn_is_cancelled(engine: Engine, task_id: str, named: bool) -> None:
    turn_id = engine.begin("x", task_id, agent="stuck")

    response = engine.cancel(task_id, **({"turn_id": turn_id} if named else {}))

    assert response.status_code == 202
    assert response.json() == {"status": "cancelling", "task_id": task_id, "turn_id": turn_id}
    found = engine.replay(task_id=task_id)
    assert (found[-1].data["phase"], found[-1].data["reason"]) == ("errored", "cancelled")
    assert "error" not in [frame.event for frame in found]
    again = engine.cancel(task_id, turn_id=turn_id)
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_a_waiting_turn_is_cancelled(engine: Engine, task_id: str) -> None:
    engine.begin("{}", task_id, agent="ask")

    assert engine.cancel(task_id).status_code == 202

    assert engine.replay(task_id=task_id)[-1].data["reason"] == "cancelled"


def test_a_turn_that_is_over_says_how_it_ended(engine: Engine, task_id: str) -> None:
    done = engine.execute("x", task_id)[0].data["turn_id"]
    failed = engine.execute("x", task_id, agent="fail")[0].data["turn_id"]

    for turn_id, status in ((done, "completed"), (failed, "failed")):
        response = engine.cancel(task_id, turn_id=turn_id)
        assert (response.status_code, response.json()["status"]) == (200, status)


def test_what_cannot_be_cancelled(engine: Engine, task_id: str) -> None:
    turn_id = engine.execute("x", task_id)[0].data["turn_id"]
    engine.execute("x", f"{task_id} other")

    assert error(engine.cancel(task_id)) == (409, "NO_ACTIVE_TURN")
    assert error(engine.cancel("nope")) == (404, "TASK_NOT_FOUND")
    assert error(engine.cancel(task_id, turn_id="nope")) == (404, "TURN_NOT_FOUND")
    assert error(engine.cancel(f"{task_id} other", turn_id=turn_id)) == (404, "TURN_NOT_FOUND")


# Looking


def test_a_task_tells_what_it_is_at(engine: Engine, task_id: str) -> None:
    done = engine.execute("x", task_id, metadata={"a": 1})
    idle = engine.client.get(path_of(task_id)).json()
    turn_id = engine.begin("{}", task_id, agent="ask")
    waiting = engine.client.get(path_of(task_id)).json()
    engine.cancel(task_id)
    engine.replay(task_id=task_id)
    running_turn = engine.begin("x", task_id, agent="stuck")
    running = engine.client.get(path_of(task_id)).json()
    engine.cancel(task_id)

    assert (idle["status"], idle["agent"], idle["active_turn_id"]) == ("idle", "say", None)
    assert idle["last_timestamp"] == done[-1].data["timestamp"]
    assert idle["turns"][0]["metadata"] == {"a": 1}
    assert (waiting["status"], waiting["agent"], waiting["active_turn_id"]) == ("waiting", "ask", turn_id)
    assert [item["kind"] for item in waiting["pending"]] == ["question"]
    assert (running["status"], running["active_turn_id"]) == ("running", running_turn)
    assert [turn["status"] for turn in running["turns"]] == ["running", "cancelled", "completed"]
    assert error(engine.client.get(path_of("nope"))) == (404, "TASK_NOT_FOUND")


def test_a_failed_turn_tells_why_and_keeps_its_message(engine: Engine, task_id: str) -> None:
    engine.execute("x", task_id, agent="fail")

    turn = engine.client.get(path_of(task_id)).json()["turns"][0]
    messages = engine.client.get(path_of(task_id, "/messages")).json()["messages"]

    assert turn["status"] == "failed"
    assert turn["error"] == {"error": "AGENT_EXECUTION_ERROR", "message": "ValueError: no such topic"}
    assert [(item["role"], item["content"], item["turn_id"]) for item in messages] == [("user", "x", turn["turn_id"])]


def pages(engine: Engine, path: str, name: str, **query: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        page = engine.client.get(path, params=query).json()
        assert len(page[name]) <= query["limit"]
        found += page[name]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def test_lists_have_pages(engine: Engine, task_id: str) -> None:
    tasks = [f"{task_id} {number}" for number in range(5)]
    for task in tasks:
        engine.execute("x", task)
    for text in "abcde":
        engine.execute(text, task_id)

    listed = [item["task_id"] for item in pages(engine, "/tasks", "tasks", limit=2)]
    messages = [item["content"] for item in pages(engine, path_of(task_id, "/messages"), "messages", limit=3)]

    assert [item for item in listed if item.startswith(task_id)] == [task_id, *reversed(tasks)]
    assert messages == [text for text in "abcde" for _ in range(2)]


def test_tasks_are_filtered_by_status(engine: Engine, task_id: str) -> None:
    engine.execute("x", f"{task_id} idle")
    engine.begin("{}", f"{task_id} waiting", agent="ask")
    engine.begin("x", f"{task_id} running", agent="stuck")

    for status in ("idle", "waiting", "running"):
        listed = pages(engine, "/tasks", "tasks", limit=2, status=status)
        mine = [item["task_id"] for item in listed if item["task_id"].startswith(task_id)]
        assert mine == [f"{task_id} {status}"]
    engine.cancel(f"{task_id} waiting")
    engine.cancel(f"{task_id} running")


@pytest.mark.parametrize("name", ["cursor", "limit", "status", "superseded"])
def test_what_is_no_page_is_refused_by_name(engine: Engine, task_id: str, name: str) -> None:
    engine.execute("x", task_id)
    path = path_of(task_id, "/messages") if name == "superseded" else "/tasks"
    for value in ("0x", "-1", "%%", "W10", "🎣", "x" * 5000):
        response = engine.client.get(path, params={name: value})
        assert error(response) == (422, "INVALID_REQUEST")
        assert response.json()["details"]["field"] == name


# Deleting


def test_a_deleted_task_is_gone_and_its_name_is_free(engine: Engine, task_id: str) -> None:
    turn_id = engine.execute("x", task_id)[0].data["turn_id"]

    response = engine.client.delete(path_of(task_id))

    assert (response.status_code, response.json()) == (200, {"status": "deleted", "task_id": task_id})
    assert error(engine.client.delete(path_of(task_id))) == (404, "TASK_NOT_FOUND")
    assert error(engine.client.get(path_of(task_id))) == (404, "TASK_NOT_FOUND")
    assert error(engine.client.get("/execute/replay", params={"turn_id": turn_id})) == (404, "TURN_NOT_FOUND")
    assert engine.execute("y", task_id, agent="echo")[-1].data["output"]["history"] == []


def test_an_active_task_is_not_deleted(engine: Engine, task_id: str) -> None:
    engine.begin("x", task_id, agent="stuck")
    engine.begin("{}", f"{task_id} 2", agent="ask")

    assert error(engine.client.delete(path_of(task_id))) == (409, "TASK_BUSY")
    assert error(engine.client.delete(path_of(f"{task_id} 2"))) == (409, "HITL_REQUIRED")
    engine.cancel(task_id)
    engine.cancel(f"{task_id} 2")


# Keys


@pytest.fixture(scope="module")
def keys(server: ServerProcess) -> Iterator[dict[str, str]]:
    """Keys of each role, and one of another tenant, by name."""
    with server.client() as client:
        found = {}
        for name, role, tenant in (
            ("reader", "reader", "default"),
            ("executor", "executor", "default"),
            ("operator", "operator", "default"),
            ("stranger", "admin", "elsewhere"),
        ):
            body = {"name": f"e-{name}", "role": role, "tenant": tenant}
            found[name] = client.post("/_holdfast/keys", json=body).json()["key"]
        yield found


def test_a_role_that_is_too_low_is_told_what_is_needed(
    engine: Engine, server: ServerProcess, keys: dict[str, str], task_id: str
) -> None:
    engine.execute("x", task_id)
    calls = [
        ("POST", "/execute", {"message": "x", "task_id": task_id}, "reader", "executor"),
        ("POST", "/execute/cancel", {"task_id": task_id}, "reader", "executor"),
        ("POST", "/hitl/respond", {"task_id": task_id, "answer": "x"}, "reader", "executor"),
        ("DELETE", path_of(task_id), None, "executor", "operator"),
    ]
    for method, path, body, role, needed in calls:
        with server.client(keys[role]) as client:
            response = client.request(method, path, json=body)
        assert error(response) == (403, "PERMISSION_DENIED")
        assert response.json()["details"] == {"needed": needed}
    with server.client(keys["reader"]) as client:
        for path in (
            "/tasks",
            path_of(task_id),
            path_of(task_id, "/messages"),
            "/hitl/pending",
            "/execute/replay?follow=0",
        ):
            assert client.get(path).status_code == 200
    with server.client(keys["operator"]) as client:
        assert client.delete(path_of(task_id)).status_code == 200


def test_what_belongs_to_another_tenant_is_unknown(
    engine: Engine, server: ServerProcess, keys: dict[str, str], task_id: str, tmp_path: Path
) -> None:
    turn_id = engine.execute("mine", task_id)[0].data["turn_id"]
    engine.begin("{}", f"{task_id} asks", agent="ask")
    with server.client(keys["stranger"]) as client:
        stranger = Engine(client)
        assert error(client.get(path_of(task_id))) == (404, "TASK_NOT_FOUND")
        assert error(client.get(path_of(task_id, "/messages"))) == (404, "TASK_NOT_FOUND")
        assert error(client.get("/execute/replay", params={"task_id": task_id})) == (404, "TASK_NOT_FOUND")
        assert error(client.get("/execute/replay", params={"turn_id": turn_id})) == (404, "TURN_NOT_FOUND")
        assert error(stranger.cancel(task_id)) == (404, "TASK_NOT_FOUND")
        assert error(stranger.respond(f"{task_id} asks", "x")) == (404, "TASK_NOT_FOUND")
        assert error(client.delete(path_of(task_id))) == (404, "TASK_NOT_FOUND")
        assert client.get("/hitl/pending").json()["pending"] == []
        assert stranger.replay(follow=0) == []
        found = stranger.execute("theirs", task_id, agent="echo")
        assert found[-1].data["output"]["history"] == []
        assert [frame.data["turn_id"] for frame in stranger.replay()] == [found[0].data["turn_id"]] * 2
    assert turn_id in {frame.data["turn_id"] for frame in engine.replay(task_id=task_id)}
    engine.cancel(f"{task_id} asks")
