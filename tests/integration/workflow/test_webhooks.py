"""Webhooks of a real server: endpoints, signed deliveries of runs of all APIs, and the endpoint of a single run."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from holdfast.client.workflow import WebhookRejected, verify_webhook
from tests.integration.workflow.conftest import WEBHOOK_SECRET
from tests.support.hook_receiver import HookReceiver, Received, hook_receiver
from tests.support.server import ServerProcess
from tests.support.sockets import open_socket
from tests.support.tasks import result, start

OWN_SECRET: Final = "whsec_b3RoZXItaG9sZGZhc3Qtc2VjcmV0LTMyLWJ5dGVzLWxvbmc="


@pytest.fixture(scope="module")
def receiver() -> Iterator[HookReceiver]:
    with hook_receiver() as made:
        yield made


@pytest.fixture
def endpoint(client: httpx.Client, receiver: HookReceiver) -> Iterator[dict[str, Any]]:
    """An endpoint with a path of its own at the receiver."""
    made = create(client, receiver)
    yield made
    client.delete(f"/webhooks/{made['id']}")


def create(client: httpx.Client, receiver: HookReceiver, **fields: Any) -> dict[str, Any]:
    reply = client.post("/webhooks", json={"url": f"{receiver.url}/{uuid.uuid4()}", **fields})
    assert reply.status_code == 200, reply.text
    made: dict[str, Any] = reply.json()
    return made


def path_of(endpoint: dict[str, Any]) -> str:
    url: str = endpoint["url"]
    return "/" + url.rpartition("/")[2]


def check(received: Received, secret: str) -> None:
    """An outside library and ours take the delivery."""
    assert Webhook(secret).verify(received.body, dict(received.headers)) == received.event
    assert verify_webhook(received.body, received.headers, secret) == received.event


def refused(reply: httpx.Response, status: int, code: str) -> None:
    assert (reply.status_code, reply.json()["detail"]["code"]) == (status, code), reply.text


# Endpoints


def test_an_endpoint_is_made_shown_changed_and_removed(client: httpx.Client, receiver: HookReceiver) -> None:
    fields = {"events": ["run.completed"], "agents": ["say"], "environments": ["test"], "description": "mine"}
    made = create(client, receiver, **fields, secret=OWN_SECRET)

    path = f"/webhooks/{made['id']}"
    shown = client.get(f"{path}/").json()
    assert made == {**shown, "secret": OWN_SECRET}
    assert {name: shown[name] for name in fields} == fields
    assert (shown["enabled"], shown["disabled_reason"]) == (True, None)
    assert shown in client.get("/webhooks").json()["endpoints"]

    changed = client.patch(path, json={"enabled": False, "events": []}).json()
    assert changed == {**shown, "enabled": False, "disabled_reason": "caller", "events": []}
    assert client.patch(path, json={"enabled": True}).json()["disabled_reason"] is None
    assert client.delete(path).json() == {"success": True}
    for call in (client.get, client.delete):
        refused(call(path), 404, "endpoint_not_found")
    for name in ("rotate", "test"):
        refused(client.post(f"{path}/{name}"), 404, "endpoint_not_found")
    refused(client.get(f"{path}/deliveries"), 404, "endpoint_not_found")
    refused(client.post(f"{path}/replay", json={"status": "held"}), 404, "endpoint_not_found")
    refused(client.patch(path, json={"enabled": True}), 404, "endpoint_not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"url": 1}, "invalid_request"),
        ({"url": "https://10.0.0.1/"}, "webhook_url_refused"),
        ({"url": "https://2130706433/"}, "webhook_url_refused"),
        ({"url": "http://example.com/"}, "webhook_url_refused"),
        ({"url": "https://a@example.com/"}, "webhook_url_refused"),
        ({"url": "https://example.com/", "events": ["run.ended"]}, "invalid_request"),
        ({"url": "https://example.com/", "events": "run.failed"}, "invalid_request"),
        ({"url": "https://example.com/", "environments": ["moon"]}, "invalid_request"),
        ({"url": "https://example.com/", "agents": [1]}, "invalid_request"),
        ({"url": "https://example.com/", "secret": "whsec_short"}, "invalid_request"),
        ({"url": "https://example.com/", "unknown": 1}, "invalid_request"),
        ({"url": "https://example.com/", "enabled": True}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
@pytest.mark.one_store("what a body means does not depend on the store")
def test_an_endpoint_that_is_refused_is_not_made(client: httpx.Client, body: Any, code: str) -> None:
    before = client.get("/webhooks").json()

    refused(client.post("/webhooks", json=body), 422, code)
    assert client.get("/webhooks").json() == before


@pytest.mark.one_store("what a body means does not depend on the store")
def test_what_does_not_fit_is_refused_and_changes_nothing(client: httpx.Client, endpoint: dict[str, Any]) -> None:
    path = f"/webhooks/{endpoint['id']}"
    before = client.get(path).json()

    refused(client.patch(path, json={"secret": OWN_SECRET}), 422, "invalid_request")
    refused(client.patch(path, json={"url": "https://127.1/"}), 422, "webhook_url_refused")
    refused(client.patch(path, json={"enabled": 1}), 422, "invalid_request")
    for seconds in (-1, 604_801, True, "1"):
        refused(client.post(f"{path}/rotate", json={"overlap_seconds": seconds}), 422, "invalid_request")
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"status": "held", "since": "2026-11-20T00:00:00Z"},
        {"until": "2026-11-20T00:00:00Z"},
        {"status": "lost"},
        {"since": "yesterday"},
        {"event_ids": []},
        {"event_ids": "msg_1"},
    )
    for which in ways:
        refused(client.post(f"{path}/replay", json=which), 422, "invalid_request")
    for query in ("status=lost", "limit=0", "limit=1001", "task_id=0", "unknown=1"):
        refused(client.get(f"{path}/deliveries?{query}"), 422, "invalid_request")
    assert client.get(path).json() == before


def test_webhooks_are_for_operators_and_of_their_tenant(
    client: httpx.Client, server: ServerProcess, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    made = {}
    for name, role, tenant in (
        ("run", "executor", "default"),
        ("ops", "operator", "default"),
        ("acme", "admin", "acme"),
    ):
        key = {"name": f"hooks-{name}", "role": role, "tenant": tenant}
        made[name] = client.post("/_holdfast/keys", json=key).json()["key"]

    path = f"/webhooks/{endpoint['id']}"
    with server.client(made["run"]) as executor:
        refused(executor.get("/webhooks"), 403, "forbidden")
        refused(executor.post("/webhooks", json={"url": "https://example.com/"}), 403, "forbidden")
    with server.client(made["ops"]) as operator:
        assert operator.get(path).status_code == 200
    with server.client(made["acme"]) as other:
        refused(other.get(path), 404, "endpoint_not_found")
        theirs = create(other, receiver)
        number = start(other, "say", "x").number
        assert receiver.events_of(path_of(theirs), number, "run.completed")
        assert other.get("/webhooks").json()["endpoints"] == [
            {name: value for name, value in theirs.items() if name != "secret"}
        ]
        other.delete(f"/webhooks/{theirs['id']}")
    assert receiver.received(path_of(endpoint)) == []


# Deliveries


def test_every_event_of_a_run_arrives_signed(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    path = path_of(endpoint)
    task = start(client, "rounds", "2", "2", metadata={"order": "A-7"}, environment="test")
    asked: list[list[dict[str, Any]]] = []
    for number in range(2):
        (pause,) = [
            item.event
            for item in receiver.wait(path, lambda found, n=number: len(pauses(found)) > n)  # type: ignore[misc]
            if item.event["type"] == "run.awaiting_tool_calls" and item.event["round"] == number + 1
        ]
        asked.append(pause["pending_tool_calls"])
        task.post(*(result(call["call_id"]) for call in pause["pending_tool_calls"]))

    received = receiver.events_of(path, task.number, "run.completed")
    received = receiver.wait_for(path, 6)

    events = sorted((item.event for item in received), key=lambda event: event["seq"])
    assert [(event["type"], event["status"]) for event in events] == [
        ("run.started", events[0]["status"]),
        ("run.awaiting_tool_calls", "awaiting_tool_calls"),
        ("run.tool_calls_answered", "running"),
        ("run.awaiting_tool_calls", "awaiting_tool_calls"),
        ("run.tool_calls_answered", "running"),
        ("run.completed", "completed"),
    ]
    assert [len(calls) for calls in asked] == [2, 2]
    for item in received:
        check(item, endpoint["secret"])
        assert item.headers["webhook-id"] == item.event["event_id"]
    row = client.get(f"/api/workflow/run/{task.number}").json()
    last = events[-1]
    assert {
        name: last[name] for name in ("task_id", "run_id", "result", "completed_at", "metadata", "environment")
    } == {name: row[name] for name in ("task_id", "run_id", "result", "completed_at", "metadata", "environment")}
    assert last["executed_node_records"] == row["prior_nodes_execution_records"]
    assert (last["prior_nodes_execution_records"], last["pending_tool_calls"]) == ([], [])
    assert len({event["event_id"] for event in events}) == 6


def pauses(found: list[Received]) -> list[Received]:
    return [item for item in found if item.event["type"] == "run.awaiting_tool_calls"]


def test_runs_of_all_apis_reach_the_same_endpoint(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    runtime = client.post("/invoke?agent=broken", json={"a": 1}).json()["run_id"]
    with client.stream(
        "POST", "/execute", json={"task_id": str(uuid.uuid4()), "agent": "broken", "message": "x"}
    ) as reply:
        engine = reply.status_code, reply.read()
    workflow = start(client, "broken", "x")

    found = receiver.wait(path_of(endpoint), lambda found: len(ends(found)) >= 3)

    assert engine[0] == 200
    assert {runtime, workflow.run_id} < {item.event["run_id"] for item in ends(found)}
    assert {item.event["type"] for item in ends(found)} == {"run.failed"}
    assert {item.event["failure_reason"] for item in ends(found)} == {"ValueError: no such topic"}


def ends(found: list[Received]) -> list[Received]:
    return [item for item in found if item.event["type"] in ("run.completed", "run.failed", "run.cancelled")]


def test_questions_wait_and_cancelled_runs_say_so(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    task = start(client, "asking")
    waiting = receiver.wait(path_of(endpoint), lambda found: any(item.event["type"] == "run.waiting" for item in found))
    client.post(f"/api/workflow/runs/{task.number}/schedule-cancel", json={"reason": "enough"})

    events = [item.event for item in receiver.events_of(path_of(endpoint), task.number, "run.cancelled")]

    question = next(item.event for item in waiting if item.event["type"] == "run.waiting")
    assert [item["question"] for item in question["waiting_for"]] == ["Which one?"]
    assert (events[-1]["status"], events[-1]["cancel_reason"], events[-1]["pending_tool_calls"]) == (
        "cancelled",
        "enough",
        [],
    )


def test_deliveries_are_listed_in_pages_and_sent_again(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    path, calls = path_of(endpoint), f"/webhooks/{endpoint['id']}"
    tasks = [start(client, "say", text) for text in "abc"]
    for task in tasks:
        receiver.events_of(path, task.number, "run.completed")
    receiver.wait_for(path, 6)
    until(lambda: len(listed(client, calls, "status=delivered")) == 6)

    pages: list[list[str]] = []
    before = ""
    while True:
        page = client.get(f"{calls}/deliveries?limit=4{before}").json()
        pages.append([item["id"] for item in page["deliveries"]])
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert [len(page) for page in pages] == [4, 2]
    assert [item for page in pages for item in page] == [item["id"] for item in listed(client, calls)]
    mine = listed(client, calls, f"task_id={tasks[1].number}")
    assert {(item["task_id"], item["status"]) for item in mine} == {(tasks[1].number, "delivered")}
    assert [attempt["status_code"] for item in mine for attempt in item["attempts"]] == [200, 200]

    first = receiver.received(path)
    reply = client.post(f"{calls}/replay", json={"event_ids": [mine[0]["event_id"], "msg_unknown"]})
    assert reply.json() == {"scheduled": 1}
    again = receiver.wait_for(path, 7)[-1]
    assert again.body in [item.body for item in first]
    assert client.post(f"{calls}/replay", json={"since": "2020-01-01T00:00:00Z"}).json() == {"scheduled": 6}
    assert client.post(f"{calls}/replay", json={"status": "failed"}).json() == {"scheduled": 0}
    receiver.wait_for(path, 13)


def listed(client: httpx.Client, calls: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{calls}/deliveries?{query}").json()["deliveries"]
    return found


def until(holds: Callable[[], bool]) -> None:
    """The server notes an answer a moment after it came; each look asks it."""
    for _ in range(2000):
        if holds():
            return
    raise AssertionError("it never held")


def test_an_endpoint_that_hangs_delays_no_other(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    slow = create(client, receiver)
    is_over = threading.Event()
    receiver.answer = lambda item: is_over.wait(20) and 200 if item.path == path_of(slow) else 200
    tasks = [start(client, "say", str(number)) for number in range(8)]

    for task in tasks:
        receiver.events_of(path_of(endpoint), task.number, "run.completed")
    held = len(receiver.wait_for(path_of(slow), 4))
    is_over.set()

    assert held == 4
    receiver.wait_for(path_of(slow), 16)
    client.delete(f"/webhooks/{slow['id']}")


def test_an_endpoint_that_is_gone_is_disabled_and_its_events_are_held(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    path, calls = path_of(endpoint), f"/webhooks/{endpoint['id']}"
    receiver.answer = lambda item: 410 if item.path == path and len(receiver.received(path)) == 1 else 200
    client.patch(calls, json={"events": ["run.completed"]})
    start(client, "say", "a").ended()
    until(lambda: not client.get(calls).json()["enabled"])
    start(client, "say", "b").ended()
    until(lambda: len(listed(client, calls, "status=held")) == 2)

    assert client.get(calls).json()["disabled_reason"] == "gone"
    assert len(receiver.received(path)) == 1
    refused(client.post(f"{calls}/replay", json={"status": "held"}), 422, "invalid_request")
    client.patch(calls, json={"enabled": True})
    assert client.post(f"{calls}/replay", json={"status": "held"}).json() == {"scheduled": 2}
    found = receiver.wait_for(path, 3)
    assert sorted(item.event["result"] for item in found) == ["a", "a", "b"]


def test_a_test_sends_one_event_and_its_key_sends_no_second(
    client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    path, calls = path_of(endpoint), f"/webhooks/{endpoint['id']}"
    key = {"Idempotency-Key": str(uuid.uuid4())}

    first = client.post(f"{calls}/test", headers=key)
    second = client.post(f"{calls}/test", headers=key)
    client.patch(calls, json={"url": f"{receiver.url}/nobody"})
    receiver.answer = lambda item: 500 if item.path == "/nobody" else 200
    failed = client.post(f"{calls}/test").json()

    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    (received,) = receiver.received(path)
    check(received, endpoint["secret"])
    assert (received.event["type"], received.event["status"]) == ("endpoint.test", "test")
    assert (first.json()["status"], first.json()["task_id"], first.json()["event_id"]) == (
        "delivered",
        None,
        received.event["event_id"],
    )
    assert (failed["status"], failed["attempts"][0]["status_code"], failed["attempts"][0]["error"]) == (
        "failed",
        500,
        "status",
    )
    assert failed["next_attempt_at"] is None


def test_both_secrets_verify_during_a_rotation_under_load_and_only_the_new_one_after_it(
    client: httpx.Client, server: ServerProcess, receiver: HookReceiver, endpoint: dict[str, Any]
) -> None:
    path, calls = path_of(endpoint), f"/webhooks/{endpoint['id']}"
    old = endpoint["secret"]
    started: list[int] = []

    def load() -> None:
        with server.client() as own:
            started.extend(start(own, "say", "x").number for _ in range(15))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    new = client.post(f"{calls}/rotate", json={"overlap_seconds": 3600}).json()["secret"]
    for thread in threads:
        thread.join()
    started.append(start(client, "say", "z").number)
    during = receiver.wait_for(path, 2 * len(started))
    after = client.post(f"{calls}/rotate", json={"overlap_seconds": 0}).json()["secret"]
    number = start(client, "say", "y").number
    alone = receiver.events_of(path, number, "run.completed")

    assert len({old, new, after}) == 3
    for item in during:
        check(item, old)
    assert [item for item in during if len(item.headers["webhook-signature"].split()) == 2]
    for item in during:
        if len(item.headers["webhook-signature"].split()) == 2:
            check(item, new)
    for item in alone:
        check(item, after)
        for secret in (old, new):
            with pytest.raises(WebhookRejected):
                verify_webhook(item.body, item.headers, secret)


# The endpoint of a single run


def test_a_start_makes_an_endpoint_for_its_run_alone(client: httpx.Client, receiver: HookReceiver) -> None:
    path = f"/{uuid.uuid4()}"
    body = {
        "inputs": {"strings": {"1": "x"}},
        "webhook_url": f"{receiver.url}{path}",
        "webhook_events": ["run.completed"],
        "webhook_secret": OWN_SECRET,
    }
    key = {"Idempotency-Key": str(uuid.uuid4())}

    first = client.post("/api/workflow/execute/say", json=body, headers=key)
    again = client.post("/api/workflow/execute/say", json=body, headers=key)
    start(client, "say", "another").ended()
    (received,) = receiver.wait_for(path, 1)

    endpoint_id = first.json()["webhook_endpoint_id"]
    assert again.content == first.content
    check(received, OWN_SECRET)
    assert (received.event["task_id"], received.event["type"]) == (first.json()["task_id"], "run.completed")
    assert client.get(f"/webhooks/{endpoint_id}").json()["events"] == ["run.completed"]
    assert endpoint_id not in [item["id"] for item in client.get("/webhooks").json()["endpoints"]]
    assert len(receiver.received(path)) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"webhook_url": "https://10.0.0.1/"}, "webhook_url_refused"),
        ({"webhook_url": "https://example.com/", "webhook_events": ["x"]}, "invalid_request"),
        ({"webhook_url": "https://example.com/", "webhook_secret": "x"}, "invalid_request"),
        ({"webhook_events": ["run.failed"]}, "invalid_request"),
        ({"webhook_secret": OWN_SECRET}, "invalid_request"),
    ],
)
@pytest.mark.one_store("what a body means does not depend on the store")
def test_a_start_whose_endpoint_is_refused_starts_nothing(
    client: httpx.Client, fields: dict[str, Any], code: str
) -> None:
    before = client.get("/api/agent/say/runs?limit=1").json()["runs"]

    refused(client.post("/api/workflow/execute/say", json=fields), 422, code)
    assert client.get("/api/agent/say/runs?limit=1").json()["runs"] == before


def test_the_runtime_api_takes_an_endpoint_by_http_by_socket_and_for_a_fork(
    client: httpx.Client, server: ServerProcess, receiver: HookReceiver
) -> None:
    path = f"/{uuid.uuid4()}"
    url = f"{receiver.url}{path}"
    run_id = client.post("/runs", params={"agent": "broken", "webhook_url": url}, json={}).json()["run_id"]
    streamed = client.post("/invoke/stream", params={"agent": "broken", "webhook_url": url}, json={})
    with open_socket(server, "/invoke/ws") as socket:
        socket.say("start", agent="broken", input={}, webhook_url=url)
        by_socket = socket.until("error")["run_id"]
    fork = client.post(f"/runs/{run_id}/fork", params={"webhook_url": url}, json={"from_sequence": 0})
    plain = client.post(f"/runs/{run_id}/fork", json={"from_sequence": 0}).json()["run_id"]

    found = receiver.wait(path, lambda found: len(ends(found)) >= 4)

    for item in found:
        check(item, WEBHOOK_SECRET)
    ids = {item.event["run_id"] for item in found}
    assert ids == {run_id, streamed.headers["x-run-id"], by_socket, fork.json()["run_id"]}
    assert plain not in ids


def test_awkward_text_arrives_as_it_was(client: httpx.Client, receiver: HookReceiver, endpoint: dict[str, Any]) -> None:
    awkward = '\u2028 \u0085 \x00 \U0001f600 ä "\\ \n end'
    task = start(client, "steps", "1")
    task.post(result(task.paused()[0], awkward))
    received = receiver.events_of(path_of(endpoint), task.number, "run.completed")[-1]

    nodes = received.event["executed_node_records"]
    assert received.event["result"] == awkward
    assert nodes[1]["tool_call_responses"][0]["output"] == awkward
    assert nodes[-1]["full_output"] == awkward
