"""What holds for all calls of the Skills API: keys, roles, rates, traces, bodies; and the calls about skills."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.agents.skill.model import Problem
from tests.integration.skills.api_skills import Functions, serving
from tests.support.hook_receiver import hook_receiver
from tests.support.skills_server import SkillsServer

Served = tuple[SkillsServer, Functions]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("skills"), webhook_allow=("127.0.0.1",)) as made:
        yield made


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    yield shared
    shared[1].gate.set()
    shared[1].reset()


@pytest.fixture
def server(served: Served) -> SkillsServer:
    return served[0]


def code_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


# Keys, roles, traces, bodies


async def test_health_needs_no_key(server: SkillsServer) -> None:
    plain = await server.get("/v1/health", key=None)
    deep = await server.get("/v1/health?deep=true", key=None)
    live = await server.get("/v1/health/live", key=None)
    ready = await server.get("/v1/health/ready", key=None)

    assert set(plain.json()) == {"status", "timestamp", "version"}
    assert (plain.json()["status"], deep.json()["status"], live.json()) == ("ok", "healthy", {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"] == deep.json()["checks"] == {"process": "ok", "store": "ok"}


async def test_a_key_comes_in_either_header(server: SkillsServer) -> None:
    own = await server.get("/v1/skills/list")
    bearer = await server.get("/v1/skills/list", key=None, authorization="Bearer key-of-executor")
    none, unknown = await server.get("/v1/skills/list", key=None), await server.get("/v1/nothing", key="odd")

    assert (own.status_code, bearer.status_code) == (200, 200)
    assert code_of(none) == code_of(unknown) == (401, "unauthorized")
    assert none.json()["trace_id"] == none.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/v1/skills/list", "reader"),
        ("GET", "/v1/skills/my.skill/describe", "reader"),
        ("GET", "/v1/skills/diagnostics", "reader"),
        ("GET", "/v1/skills/governance", "reader"),
        ("POST", "/v1/skills/discover", "reader"),
        ("POST", "/v1/skills/none/execute", "executor"),
        ("POST", "/v1/skills/none/execute/stream", "executor"),
        ("POST", "/v1/skills/none/execute/async", "executor"),
        ("POST", "/v1/skills/none/attach", "executor"),
        ("POST", "/v1/capabilities/none/execute", "executor"),
        ("POST", "/v1/capabilities/none/explain", "executor"),
        ("GET", "/v1/runs", "reader"),
        ("GET", "/v1/runs/none", "reader"),
        ("GET", "/v1/runs/none/stream", "reader"),
        ("POST", "/v1/runs/none/cancel", "executor"),
        ("POST", "/v1/runs/none/replay", "executor"),
        ("POST", "/v1/runs/none/fork", "executor"),
        ("POST", "/v1/runs/none/approve", "operator"),
        ("POST", "/v1/runs/none/deny", "operator"),
        ("POST", "/v1/webhooks", "operator"),
        ("GET", "/v1/webhooks", "operator"),
        ("DELETE", "/v1/webhooks/none", "operator"),
        ("GET", "/v1/metrics", "operator"),
        ("GET", "/v1/metrics/prometheus", "operator"),
    ],
)
async def test_each_call_asks_for_its_role_before_anything_else(
    server: SkillsServer, method: str, path: str, least: str
) -> None:
    roles = ["reader", "executor", "operator"]

    statuses = {role: (await server.call(method, path, key=role)).status_code for role in roles}

    assert {role for role, status in statuses.items() if status == 403} == set(roles[: roles.index(least)])


async def test_a_trace_comes_from_the_header_then_the_body_then_the_server(server: SkillsServer) -> None:
    path, body = "/v1/skills/none/execute", {"trace_id": "of the body"}

    by_header = await server.post(path, body, x_trace_id="of the header")
    by_body = await server.post(path, body)
    by_server = await server.post(path)
    wrong = [await server.post(path, x_trace_id=text) for text in ("x" * 129, "")]
    wrong.append(await server.post(path, {"trace_id": "ä"}))

    for reply, trace in ((by_header, "of the header"), (by_body, "of the body")):
        assert (reply.json()["trace_id"], reply.headers["x-trace-id"]) == (trace, trace)
    assert by_server.json()["trace_id"] == by_server.headers["x-trace-id"]
    assert [code_of(reply) for reply in wrong] == [(400, "invalid_request")] * 3


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b'{"inputs":[]}', 400, "invalid_request"),
        (b'{"options":{"max_workers":65}}', 400, "invalid_request"),
        (b'{"options":{"wait_seconds":-1}}', 400, "invalid_request"),
        (b'{"on_confirmation":"ask"}', 400, "invalid_request"),
        (b'{"frame":1}', 400, "invalid_request"),
        (b'{"required_conformance_profile":"strict"}', 412, "conformance_unmet"),
        (b'{"frame":{"text":"' + b"x" * (2 * 1024 * 1024) + b'"}}', 413, "payload_too_large"),
    ],
)
async def test_a_body_is_looked_at_before_its_target(
    server: SkillsServer, content: bytes, status: int, code: str
) -> None:
    headers = {"x-api-key": "key-of-executor", "content-type": "application/json"}

    reply = await server.client.post("/v1/skills/none/execute", content=content, headers=headers)

    assert code_of(reply) == (status, code)


async def test_a_body_may_come_in_chunks(server: SkillsServer) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in json.dumps({"inputs": {"text": "hello"}}).encode().partition(b"text"):
            yield piece

    headers = {"x-api-key": "key-of-executor", "content-type": "application/json"}
    reply = await server.client.post("/v1/skills/my.skill/execute", content=pieces(), headers=headers)

    assert reply.json()["outputs"] == {"result": "HELLO"}


async def test_paths_and_methods_that_there_are_not(server: SkillsServer) -> None:
    path, method = await server.get("/v1/nothing/here"), await server.get("/v1/skills/my.skill/execute")
    query = await server.get("/v1/skills/list?odd=1")

    assert code_of(path) == (404, "not_found")
    assert code_of(method) == (405, "method_not_allowed")
    assert method.headers["allow"] == "OPTIONS, POST"
    assert code_of(query) == (400, "invalid_request")


async def test_a_key_has_its_rate_and_others_theirs(tmp_path: Path) -> None:
    async with serving(tmp_path, skills_rate_limit=3) as (server, _):
        counted = [
            await server.get("/v1/skills/list"),
            await server.get("/v1/nothing"),
            await server.post("/v1/webhooks"),
        ]
        refused = await server.get("/v1/skills/list")
        unknown = await server.get("/v1/nothing")
        forbidden = await server.get("/v1/metrics")
        other = await server.get("/v1/skills/list", key="reader")
        health = await server.get("/v1/health")

    assert [reply.status_code for reply in counted] == [200, 404, 403]
    assert [reply.headers["x-ratelimit-remaining"] for reply in counted] == ["2", "1", "0"]
    assert code_of(refused) == code_of(unknown) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("3", "0")
    assert int(refused.headers["x-ratelimit-reset"]) > 1_700_000_000
    assert forbidden.status_code == 403
    assert other.status_code == 200
    assert "x-ratelimit-limit" not in health.headers


async def test_clients_of_old_get_errors_with_200(tmp_path: Path) -> None:
    async with serving(tmp_path, skills_legacy_status_200=True) as (server, functions):
        functions.is_broken = True
        failed = await server.post("/v1/skills/broken/execute", {"inputs": {"text": "x"}})
        unknown = [
            await server.get("/v1/skills/none/describe"),
            await server.post("/v1/skills/none/execute"),
            await server.post("/v1/capabilities/none/execute"),
            await server.post("/v1/capabilities/none/explain"),
        ]
        others = [
            await server.post("/v1/skills/none/execute/stream"),
            await server.get("/v1/runs/none"),
            await server.post("/v1/skills/my.skill/execute", {"inputs": 1}),
            await server.get("/v1/skills/my.skill/describe", key="odd"),
        ]

    assert code_of(failed) == (200, "upstream_failure")
    assert failed.json()["error"]["status"] == 502
    assert [code_of(reply) for reply in unknown] == [(200, "not_found")] * 4
    assert [reply.status_code for reply in others] == [404, 404, 400, 401]


# Skills


async def test_skills_are_listed_and_described(server: SkillsServer) -> None:
    page = (await server.get("/v1/skills/list?limit=3&offset=1", key="reader")).json()
    mine = (await server.get("/v1/skills/list?domain=my&status=stable", key="reader")).json()
    described = (await server.get("/v1/skills/my.skill/describe", key="reader")).json()

    total = len(server.library.by_id)
    assert page["pagination"] == {"offset": 1, "limit": 3, "total": total, "has_more": True, "next_offset": 4}
    assert len(page["skills"]) == 3
    assert [(item["id"], item["status"], item["tags"]) for item in mine["skills"]] == [("my.skill", "stable", ["text"])]
    assert described["inputs"]["text"]["type"] == "string"
    assert described["steps"][0] == {
        "id": "work",
        "uses": "text.shout",
        "input": {"text": "inputs.text"},
        "output": {"text": "outputs.result"},
        "config": {},
    }


async def test_skills_are_found_by_what_is_wanted(server: SkillsServer) -> None:
    found = (await server.post("/v1/skills/discover", {"intent": "my attachable thing", "limit": 1})).json()
    nothing = (await server.post("/v1/skills/discover", {"intent": "weather"})).json()
    wrong = await server.post("/v1/skills/discover", {})

    assert [(item["id"], item["score"]) for item in found["results"]] == [("attachable", 0.5)]
    assert nothing["results"] == []
    assert code_of(wrong) == (400, "invalid_request")


async def test_a_skill_with_errors_cannot_run_and_says_why(server: SkillsServer) -> None:
    problem = Problem(
        file="skills/slow.skill.yaml",
        line=3,
        column=5,
        skill_id="slow",
        step_id="work",
        severity="error",
        code="unknown_capability",
        message="there is no capability test.wait",
    )
    server.library.wrong.append(problem)
    try:
        refused = [
            await server.post("/v1/skills/slow/execute", {"inputs": {"text": "x"}}),
            await server.get("/v1/skills/slow/describe"),
        ]
        diagnostics = (await server.get("/v1/skills/diagnostics", key="reader")).json()
    finally:
        server.library.wrong.clear()

    assert [code_of(reply) for reply in refused] == [(409, "invalid_configuration")] * 2
    shown = {name: getattr(problem, name) for name in Problem.__struct_fields__}
    assert refused[0].json()["error"]["problems"] == diagnostics["problems"] == [shown]
    assert diagnostics["skills"]["failed"] == 1
    assert diagnostics["gateway"] == {"process": "ok", "cache": "ok", "persistence": "ok"}


async def test_governance_and_metrics_count_runs(served: Served) -> None:
    server, functions = served
    functions.is_broken = True
    await server.execute("broken", {"text": "x"})

    governance = (await server.get("/v1/skills/governance", key="reader")).json()
    stable = (await server.get("/v1/skills/governance?min_state=stable&limit=1", key="reader")).json()
    metrics = (await server.get("/v1/metrics", key="operator")).json()
    text = (await server.get("/v1/metrics/prometheus", key="operator")).text

    of_broken = next(item for item in governance["skills"] if item["id"] == "broken")
    assert (of_broken["state"], of_broken["failed"]) == ("draft", of_broken["runs"])
    assert governance["summary"] == {"draft": len(server.library.by_id) - 2, "experimental": 0, "stable": 2}
    assert (stable["summary"], len(stable["skills"]), stable["min_state"]) == ({"stable": 2}, 1, "stable")
    name = 'holdfast_skills_runs_total{skill_id="broken",status="failed"}'
    assert metrics["counters"][name] == of_broken["failed"]
    assert f"{name} {of_broken['failed']:.1f}" in text
    assert all(line.split()[2].startswith("holdfast_skills_") for line in text.splitlines() if line.startswith("# "))
    assert metrics["histograms"]['holdfast_skills_call_seconds{endpoint="/v1/skills/{id}/execute"}']["count"] >= 1


# Webhooks


async def test_a_webhook_hears_of_skills_and_runs_until_it_is_deleted(server: SkillsServer) -> None:
    with hook_receiver() as receiver:
        made = await server.post("/v1/webhooks", {"url": f"{receiver.url}/all", "events": ["*"]}, key="operator")
        own = {"url": f"{receiver.url}/some", "events": ["run.waiting"], "secret": "mine"}
        other = await server.post("/v1/webhooks", own, key="operator")
        listed = (await server.get("/v1/webhooks", key="operator")).json()["subscriptions"]

        await server.execute("my.skill", {"text": "x"}, trace_id="t7")
        run_id = (await server.execute("asks", {"text": "x"}))["run_id"]
        heard = await _in_thread(receiver.wait, "/all", lambda found: len(found) >= 5)
        waits = await _in_thread(receiver.wait, "/some", lambda found: len(found) >= 1)
        gone = [await server.call("DELETE", f"/v1/webhooks/{item['id']}", key="operator") for item in listed]
        again = await server.call("DELETE", f"/v1/webhooks/{listed[0]['id']}", key="operator")

    assert (made.status_code, other.status_code) == (201, 201)
    assert made.json()["secret"].startswith("whsec_")
    assert "secret" not in other.json()
    assert [(item["events"], item["active"]) for item in listed] == [(["*"], True), (["run.waiting"], True)]
    bodies = {item.event["event"]: item.event for item in heard}
    assert set(bodies) == {"skill.started", "skill.completed", "run.completed", "run.waiting"}
    assert bodies["run.completed"]["trace_id"] == "t7"
    assert bodies["run.completed"]["data"]["outputs"] == {"result": "X"}
    assert waits[0].event["data"]["run_id"] == run_id
    assert waits[0].event["data"]["interrupt"]["question"] == "Go on?"
    assert _signature(waits[0].body, "mine") == waits[0].headers["x-webhook-signature"]
    assert [reply.json()["deleted"] for reply in gone] == [True, True]
    assert code_of(again) == (404, "not_found")


async def _in_thread(function: Any, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


def _signature(body: bytes, secret: str) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize(
    "body",
    [
        {"events": ["*"]},
        {"url": "https://example.com", "events": []},
        {"url": "https://example.com", "events": ["run.started"]},
        {"url": "http://10.0.0.1/hooks", "events": ["*"]},
    ],
)
async def test_a_webhook_that_could_hear_of_nothing_is_refused(server: SkillsServer, body: dict[str, Any]) -> None:
    assert code_of(await server.post("/v1/webhooks", body, key="operator")) == (400, "invalid_request")
