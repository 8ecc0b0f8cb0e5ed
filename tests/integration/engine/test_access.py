"""Who may call what: key headers, rotated keys, roles on every endpoint, tenants."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from holdfast.api import engine as engine_api
from tests.integration.engine.support import Engine
from tests.support.server import KEY, ServerProcess

ROLES = ("reader", "executor", "operator", "admin")


Open = Callable[[str], httpx.Client]


@pytest.fixture
def open_with(server: ServerProcess) -> Iterator[Open]:
    """Makes clients with a key; they are closed at the end."""
    with ExitStack() as stack:
        yield lambda key: stack.enter_context(server.client(key))


def make_key(client: httpx.Client, role: str, tenant: str = "default") -> tuple[str, str]:
    """A name and a key."""
    name = f"key-{uuid.uuid4().hex[:12]}"
    made = client.post("/_holdfast/keys", json={"name": name, "role": role, "tenant": tenant})
    assert made.status_code == 201, made.text
    return name, made.json()["key"]


def calls() -> list[tuple[str, str, str]]:
    """Every call that asks for a key: method, path with an id in each place, role."""
    found = []
    for handler in engine_api.api().handlers:
        if not handler.opt.get("public"):
            for path in handler.paths:
                filled = re.sub(r"{store:\w+}", "knowledge", path)
                filled = re.sub(r"{\w+:\w+}", "none", filled)
                found += [(str(method), filled, handler.opt.get("role", "reader")) for method in handler.http_methods]
    return sorted(set(found))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Engine-Key": KEY}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"X-Engine-Key": "wrong", "X-API-Key": KEY}, 401),
        ({"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"}, 401),
        ({"X-API-Key": KEY, "Authorization": "Bearer wrong"}, 200),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({}, 401),
    ],
)
def test_the_first_header_decides(server: ServerProcess, headers: dict[str, str], status: int) -> None:
    with server.client(key=None) as client:
        answer = client.get("/tasks", headers=headers)

    assert answer.status_code == status
    assert status == 200 or answer.json()["error"] == "INVALID_KEY"


def test_the_key_is_looked_at_before_path_body_and_limits(server: ServerProcess) -> None:
    with server.client(key=None) as client:
        answers = [
            client.get("/execute/nothing/here"),
            client.post("/execute", content=b"{", headers={"Content-Type": "application/json"}),
            client.post("/execute", json={"surprise": 1}),
            client.post("/execute", content=b"x" * 40_000_000, headers={"Content-Type": "application/json"}),
            client.delete("/assets/connections/none?surprise=1"),
        ]

    assert [(one.status_code, one.json()["error"]) for one in answers] == [(401, "INVALID_KEY")] * 5


def test_a_rotated_key_says_so_after_its_overlap(server: ServerProcess, open_with: Open) -> None:
    with server.client() as client:
        name, first = make_key(client, "reader")
        second = client.post(f"/_holdfast/keys/{name}/rotate", json={"overlap_seconds": 300}).json()["key"]
        in_overlap = [open_with(key).get("/tasks").status_code for key in (first, second)]
        third = client.post(f"/_holdfast/keys/{name}/rotate", json={"overlap_seconds": 0}).json()["key"]
        refused = open_with(second).get("/tasks")
        too_long = client.post(f"/_holdfast/keys/{name}/rotate", json={"overlap_seconds": 301})

        assert in_overlap == [200, 200]
        assert (refused.status_code, refused.json()["error"]) == (401, "KEY_ROTATION_PENDING")
        assert open_with(third).get("/tasks").status_code == 200
        assert too_long.status_code == 422


def test_one_role_too_low_is_refused_on_every_endpoint(server: ServerProcess, open_with: Open) -> None:
    with server.client() as client:
        clients = {role: open_with(make_key(client, role)[1]) for role in ROLES}
    asked = [call for call in calls() if call[2] != "reader"]

    assert len(asked) > 10
    for method, path, role in asked:
        lower = clients[ROLES[ROLES.index(role) - 1]]
        answer = lower.request(method, path, json={} if method in ("POST", "PUT") else None)
        assert (answer.status_code, answer.json()["error"]) == (403, "PERMISSION_DENIED"), (method, path)
        assert answer.json()["details"]["needed"] == role, (method, path)


def test_each_role_is_enough_for_its_endpoints(server: ServerProcess, open_with: Open) -> None:
    """With an empty body no call does anything; what matters is that it is not refused for its role."""
    with server.client() as client:
        tenant = f"t{uuid.uuid4().hex[:8]}"
        clients = {role: open_with(make_key(client, role, tenant)[1]) for role in ROLES}

    for method, path, role in calls():
        query = {"follow": "0"} if path == "/execute/replay" else {}
        answer = clients[role].request(method, path, params=query, json={} if method in ("POST", "PUT") else None)
        assert answer.status_code not in (401, 403, 405, 500), (method, path, answer.text)


def test_a_key_finds_nothing_of_another_tenant(
    server: ServerProcess, engine: Engine, task_id: str, open_with: Open
) -> None:
    canary = f"canary{uuid.uuid4().hex[:8]}"
    frames = engine.execute(canary, task_id)
    turn_id = frames[0].data["turn_id"]
    engine.post("/memory/knowledge", {"id": canary, "content": canary, "subject": canary}).raise_for_status()
    given = engine.post("/feedback", {"task_id": task_id, "feedback_type": "positive", "comment": canary})
    assert given.status_code == 201
    made = engine.post("/skills/create", {"name": canary, "prompt": canary})
    assert made.status_code == 201, made.text
    with server.client() as client:
        other = open_with(make_key(client, "admin", f"t{uuid.uuid4().hex[:8]}")[1])
    task = f"/tasks/{_quoted(task_id)}"

    lists = [
        *(other.get(path) for path in ("/tasks", "/hitl/pending", "/feedback", "/memory/knowledge", "/memory/export")),
        other.get("/execute/replay", params={"follow": 0}),
        other.post("/memory/knowledge/search", json={"query": canary}),
        other.get("/assets/connections"),
        other.get("/skills"),
        other.post("/rpc", json={"method": "memory.search", "params": {"store": "knowledge", "query": canary}}),
    ]
    unknown: list[tuple[httpx.Response, str]] = [
        (other.get(task), "TASK_NOT_FOUND"),
        (other.get(f"{task}/messages"), "TASK_NOT_FOUND"),
        (other.delete(task), "TASK_NOT_FOUND"),
        (other.get("/execute/replay", params={"task_id": task_id, "follow": 0}), "TASK_NOT_FOUND"),
        (other.get("/execute/replay", params={"turn_id": turn_id, "follow": 0}), "TURN_NOT_FOUND"),
        (other.post("/execute/cancel", json={"task_id": task_id}), "TASK_NOT_FOUND"),
        (other.post("/feedback", json={"task_id": task_id, "feedback_type": "positive"}), "TASK_NOT_FOUND"),
        (other.get(f"/memory/knowledge/{canary}"), "ITEM_NOT_FOUND"),
        (other.delete(f"/memory/knowledge/{canary}"), "ITEM_NOT_FOUND"),
        (other.delete(f"{task}/grants"), "TASK_NOT_FOUND"),
        (other.get(f"/skills/{canary}"), "SKILL_NOT_FOUND"),
        (other.put(f"/skills/{canary}", json={"prompt": "x"}), "SKILL_NOT_FOUND"),
        (other.delete(f"/skills/{canary}"), "SKILL_NOT_FOUND"),
    ]

    for answer in lists:
        assert answer.status_code == 200, answer.text
        assert canary not in answer.text
        assert json.dumps(task_id)[1:-1] not in answer.text
    assert [(one.status_code, one.json()["error"]) for one, _ in unknown] == [(404, code) for _, code in unknown]
    assert engine.client.get(task).status_code == 200


def test_one_task_id_in_two_tenants_is_two_tasks(
    server: ServerProcess, engine: Engine, task_id: str, open_with: Open
) -> None:
    with server.client() as client:
        other = Engine(open_with(make_key(client, "executor", f"t{uuid.uuid4().hex[:8]}")[1]))

    engine.execute("mine", task_id)
    other.execute("theirs", task_id)

    def said(each: Engine) -> Any:
        found = each.client.get(f"/tasks/{_quoted(task_id)}/messages").json()["messages"]
        return [message["content"] for message in found if message["role"] == "user"]

    assert (said(engine), said(other)) == (["mine"], ["theirs"])


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
