"""Starting runs: who is started, with which input, once per Idempotency-Key; and what is shown of them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.workflow.conftest import AGENTS
from tests.support.server import running_server, start_server
from tests.support.tasks import result, start
from tests.support.workflow_agents import CLOCK_ID


def test_an_agent_has_one_id_by_name_and_by_uuid_in_any_case(client: httpx.Client) -> None:
    by_name = [start(client, name) for name in ("clock", CLOCK_ID, CLOCK_ID.upper())]
    say = client.get(f"/api/workflow/run/{start(client, 'say').number}").json()["agent_id"]

    rows = [client.get(f"/api/workflow/run/{task.number}").json() for task in by_name]
    listed = client.get(f"/api/agent/{CLOCK_ID.upper()}/runs", params={"limit": 3}).json()["runs"]

    assert {row["agent_id"] for row in rows} == {row["workflow_id"] for row in rows} == {CLOCK_ID}
    assert {row["agent_name"] for row in rows} == {"clock"}
    assert [row["task_id"] for row in listed] == [task.number for task in reversed(by_name)]
    assert start(client, say.upper(), "x").ended()["result"] == "x"
    assert uuid.UUID(say).version == 5


def test_the_answer_to_a_start(client: httpx.Client) -> None:
    body = {"inputs": {"strings": {"1": "x"}, "images": {}}, "environment": "playground", "metadata": {"order": "A-7"}}

    reply = client.post("/api/workflow/execute/clock/", json={**body, "unknown": 1, "also": None})

    assert reply.status_code == 200
    assert reply.headers["holdfast-ignored"] == "unknown, also"
    assert reply.json() == {
        "task_id": reply.json()["task_id"],
        "status": "started",
        "run_id": reply.json()["run_id"],
        "agent_id": CLOCK_ID,
        "client_tools": [],
        "webhook_endpoint_id": None,
    }
    row = client.get(f"/api/workflow/run/{reply.json()['task_id']}").json()
    assert (row["environment"], row["metadata"], row["initial_inputs"]) == (
        "playground",
        {"order": "A-7"},
        body["inputs"],
    )
    assert row["run_id"] == reply.json()["run_id"]
    assert client.get(f"/runs/{row['run_id']}").json()["number"] == row["task_id"]


@pytest.mark.one_store("what a body means does not depend on the store")
def test_the_input_of_each_kind_of_agent(client: httpx.Client) -> None:
    plain = start(client, "typed", "Rome", "3", '["a"]').ended()
    named = client.post(
        "/api/workflow/execute/typed",
        json={"inputs": {"strings": {"city": "Rome", "days": 3, "2": "4"}}},
    )
    bad = client.post("/api/workflow/execute/typed", json={"inputs": {"strings": {"1": "Rome", "2": "three"}}})
    missing = client.post("/api/workflow/execute/typed", json={"inputs": {"strings": {}}})
    raw = start(client, "say", {"deep": [1]}).ended()

    assert plain["result"] == '{"city":"Rome","days":3,"tags":["a"]}'
    assert named.status_code == 200
    assert raw["result"] == '{"deep":[1]}'
    assert [reply.status_code for reply in (bad, missing)] == [422, 422]
    assert bad.json()["detail"]["code"] == missing.json()["detail"]["code"] == "invalid_request"


def test_fifty_starts_with_one_key_are_one_run(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"inputs": {"strings": {"1": "x"}}}

    with ThreadPoolExecutor(25) as pool:
        jobs = [pool.submit(client.post, "/api/workflow/execute/say", json=body, headers=headers) for _ in range(50)]
        replies = [job.result() for job in jobs]
    other = client.post("/api/workflow/execute/say", json={"inputs": {"strings": {"1": "y"}}}, headers=headers)

    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 49
    assert (other.status_code, other.json()["detail"]["code"]) == (422, "idempotency_key_reused")


def test_after_a_kill_a_key_gives_the_same_bytes_and_ids_are_the_same(
    tmp_path: Path, own_store: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": "again"}
    body = {"inputs": {"strings": {"1": "x"}}}
    data = tmp_path / "data"
    first = start_server(data, agents=AGENTS, environment=own_store)
    with first.client() as client:
        before = client.post("/api/workflow/execute/clock", json=body, headers=headers)
        task = start(client, "say", "x")
        agent_id = client.get(f"/api/workflow/run/{task.number}").json()["agent_id"]
        (call_id,) = start(client, "clock").paused()
        number = client.get("/api/agent/clock/runs", params={"limit": 1}).json()["runs"][0]["task_id"]
    first.kill()

    with running_server(data, agents=AGENTS, environment=own_store) as second, second.client() as client:
        after = client.post("/api/workflow/execute/clock", json=body, headers=headers)
        answered = client.post(
            f"/api/agent/clock/{number}/tool_responses",
            json={"results": [result(call_id)]},
            headers={"Idempotency-Key": "answer"},
        )
        again = client.post(
            f"/api/agent/clock/{number}/tool_responses",
            json={"results": [result(call_id)]},
            headers={"Idempotency-Key": "answer"},
        )
        row = client.get(f"/api/workflow/run/{task.number}").json()

    assert after.content == before.content
    assert after.headers["idempotent-replayed"] == after.headers["idempotency-replayed"] == "true"
    assert row["agent_id"] == agent_id
    assert answered.json()["results"] == [{"call_id": call_id, "state": "accepted"}]
    assert (again.content, again.headers["idempotent-replayed"]) == (answered.content, "true")


def test_a_thread_has_one_active_run(client: httpx.Client) -> None:
    thread = uuid.uuid4().hex
    first = start(client, "clock", thread_id=thread)

    busy = client.post("/api/workflow/execute/clock", json={"inputs": {}, "thread_id": thread})
    first.post(result(first.paused()[0]))
    first.ended()

    assert (busy.status_code, busy.json()["detail"]["code"]) == (409, "thread_busy")
    assert start(client, "say", "x", thread_id=thread).ended()["result"] == "x"


def test_rows_of_children_and_of_other_apis(client: httpx.Client) -> None:
    family = start(client, "parent")
    while not (children := family.status()["task_info"]["children"]):
        pass
    child = children[0]["task_id"]
    below = client.get(f"/api/workflow/runs/by-parent/{family.number}", params={"recursive": "true"}).json()
    call = start_of(client, child)
    asking = family.status()["task_info"]["children"]
    client.post(f"/api/agent/clock/{child}/tool_responses", json={"results": [result(call)]})
    row = family.ended()
    over = family.status()["task_info"]["children"]
    other = client.post("/agents/say/runs", json={"strings": {"1": "z"}}).json()
    number = client.get(f"/runs/{other['run_id']}?wait=20").json()["number"]
    foreign = client.get(f"/api/workflow/run/{number}").json()

    assert [(item["task_id"], item["parent_task_id"], item["agent_id"]) for item in below] == [
        (child, family.number, CLOCK_ID)
    ]
    assert asking == [{"task_id": child, "agent_id": CLOCK_ID, "status": "awaiting_tool_calls"}]
    assert over == [{"task_id": child, "agent_id": CLOCK_ID, "status": "completed"}]
    assert row["result"] == "It is ok."
    assert (foreign["environment"], foreign["metadata"]) == ("production", {})
    assert foreign["initial_inputs"] == {"strings": {"1": '{"strings":{"1":"z"}}'}, "images": {}}


@pytest.mark.one_store("what is declared of an agent does not depend on the store")
def test_rows_have_the_version_that_their_agent_declares(client: httpx.Client) -> None:
    rows = [start(client, agent, "x").ended() for agent in ("tagged", "say")]

    assert [row["version"] for row in rows] == [3, 1]


def start_of(client: httpx.Client, number: int) -> str:
    """The call that the run of this number asks for."""
    seq = -1
    status: dict[str, Any] = {}
    while status.get("status") != "awaiting_tool_calls":
        query: dict[str, Any] = {} if seq < 0 else {"wait": 20, "since_seq": seq}
        status = client.get(f"/api/agent/clock/status/{number}", params=query).json()
        seq = status["seq"]
    found: str = status["task_info"]["pending_tool_calls"][0]["call_id"]
    return found


def test_lists_are_newest_first_and_go_on(client: httpx.Client) -> None:
    tasks = [start(client, "say", str(index)) for index in range(5)]
    for task in tasks:
        task.ended()
    waiting = start(client, "clock")
    waiting.paused()

    first = client.get("/api/agent/say/runs", params={"limit": 2}).json()
    rest = client.get("/api/agent/say/runs", params={"limit": 3, "before": first["next_before"]}).json()
    paused = client.get("/api/agent/clock/runs", params={"status": "awaiting_tool_calls", "limit": 1}).json()
    none = client.get("/api/agent/say/runs", params={"status": "failed"}).json()

    numbers = [row["task_id"] for row in first["runs"] + rest["runs"]]
    assert numbers == [task.number for task in reversed(tasks)]
    assert all(row["prior_nodes_execution_records"] == [] for row in first["runs"])
    assert [row["task_id"] for row in paused["runs"]] == [waiting.number]
    assert none == {"runs": [], "next_before": None}


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", agents=AGENTS) as process, process.client() as admin:
        key = admin.post("/_holdfast/keys", json={"name": "theirs", "role": "admin", "tenant": "acme"}).json()["key"]
        with process.client(key) as acme:
            mine, theirs = start(admin, "clock"), start(acme, "clock")
            (call,) = mine.paused()
            foreign = [
                acme.get(mine.path),
                acme.get(f"{mine.path}/events"),
                acme.get(f"/api/workflow/run/{mine.number}"),
                acme.get(f"/api/workflow/runs/by-parent/{mine.number}"),
                acme.post(f"/api/agent/clock/{mine.number}/tool_responses", json={"results": [result(call)]}),
                acme.post(f"/api/workflow/runs/{mine.number}/schedule-cancel", json={}),
            ]
            row = acme.get(f"/api/workflow/run/{theirs.number}").json()
            other = acme.post("/api/workflow/execute/clock", json={}, headers={"X-Tenant-Id": "else"})
            labelled = admin.post("/api/workflow/execute/clock", json={}, headers={"X-Tenant-Id": "label"}).json()
            label = admin.get(f"/api/workflow/run/{labelled['task_id']}").json()["tenant_id"]

            assert {reply.status_code for reply in foreign} == {404}
            assert {reply.json()["detail"]["code"] for reply in foreign} == {"run_not_found"}
            assert row["tenant_id"] == "acme"
            assert (other.status_code, other.json()["detail"]["code"]) == (403, "forbidden")
            assert label == "label"
            assert mine.status()["status"] == "awaiting_tool_calls"
