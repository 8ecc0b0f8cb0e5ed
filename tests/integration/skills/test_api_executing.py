"""Executing skills and capabilities over the Skills API, on both stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.skills.api_skills import Functions, serving
from tests.support.skills_server import SkillsServer

Served = tuple[SkillsServer, Functions]

pytestmark = pytest.mark.asyncio(loop_scope="module")
ONE_STORE = pytest.mark.one_store("what is spoken and what is allowed does not depend on the store")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("skills"), store=module_store) as made:
        yield made


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    yield shared
    shared[1].gate.set()
    shared[1].reset()


def names(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


WHOLE = ["skill_start", "step_start", "step_completed", "skill_completed", "done"]


async def test_a_stream_shows_each_step_and_ends_with_the_outputs(served: Served) -> None:
    server, _ = served
    awkward = "ä\x85\u2028\u2029\r\nend"

    async with server.stream(
        "POST", "/v1/skills/my.skill/execute/stream", {"inputs": {"text": awkward}}, x_trace_id="abc-123"
    ) as reply:
        text = (await reply.aread()).decode()
        headers = reply.headers

    frames = [frame.split("\n") for frame in text.split("\n\n")[1:-1]]
    assert text.startswith("retry: 2000\n\nid: 0\nevent: skill_start\ndata: {")
    assert [frame[1].removeprefix("event: ") for frame in frames] == WHOLE
    assert len(text.splitlines()) == text.count("\n")
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["x-trace-id"] == "abc-123"
    record = (await server.get(f"/v1/runs/{headers['x-run-id']}")).json()
    assert record["result"]["outputs"] == {"result": awkward.upper()}
    assert (record["trace_id"], record["metadata"]["execution_channel"]) == ("abc-123", "http-stream")


async def test_a_stream_that_is_cut_is_gone_on_with(served: Served) -> None:
    """Disconnecting never cancels, and the frames are those of the journal on every API."""
    server, functions = served
    async with server.stream("POST", "/v1/skills/slow/execute/stream", {"inputs": {"text": "x"}}) as reply:
        run_id = reply.headers["x-run-id"]
        async for line in reply.aiter_lines():
            if line == "event: step_start":
                break
    functions.gate.set()

    rest = await server.frames("GET", f"/v1/runs/{run_id}/stream", last_event_id="1")
    ended = await server.get(f"/v1/runs/{run_id}/stream", last_event_id="4")
    later = await server.frames("GET", f"/v1/runs/{run_id}/stream?from_sequence=3", last_event_id="0")
    canonical = await server.frames("GET", f"/runs/{run_id}/events")

    assert names(rest) == WHOLE[2:]
    assert ended.status_code == 204
    assert names(later) == WHOLE[3:]
    assert [event["sequence"] for event in canonical] == [0, 1, 2, 3, 4]
    assert [event["timestamp"] for event in canonical[2:]] == [frame["timestamp"] for frame in rest]


async def test_a_place_behind_the_end_is_told_first(served: Served) -> None:
    server, functions = served
    run_id = (await server.post("/v1/skills/slow/execute/async", {"inputs": {"text": "x"}})).json()["run_id"]
    await functions.began.wait()

    async with server.stream("GET", f"/v1/runs/{run_id}/stream?from_sequence=70") as reply:
        lines = [line async for line in _until(reply.aiter_lines(), "data: ")]

    assert "event: gap" in lines
    assert not any(line.startswith("id:") for line in lines)


async def _until(lines: AsyncIterator[str], prefix: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith(prefix):
            return


@ONE_STORE
async def test_a_client_that_knows_no_chunks_gets_its_stream_whole(served: Served) -> None:
    server, _ = served
    body = b'{"inputs":{"text":"x"}}'
    reader, writer = await asyncio.open_connection(server.client.base_url.host, server.client.base_url.port)
    writer.write(
        b"POST /v1/skills/my.skill/execute/stream HTTP/1.0\r\nx-api-key: key-of-executor\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )

    head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()

    assert "transfer-encoding" not in head.lower()
    assert "connection: close" in head
    assert text.startswith("retry: 2000\n\nid: 0\n")
    assert text.endswith("\n\n")
    assert text.count("event: ") == len(WHOLE)


async def test_executing_answers_with_the_outputs_and_with_all_frames_if_they_are_wanted(served: Served) -> None:
    server, _ = served

    plain = await server.execute("my.skill", {"text": "hello"}, trace_id="t1")
    traced = await server.execute("my.skill", {"text": "hello"}, include_trace=True)

    run_id = plain.pop("run_id")
    assert plain == {
        "skill_id": "my.skill",
        "status": "completed",
        "outputs": {"result": "HELLO"},
        "trace_id": "t1",
    }
    assert names(traced["events"]) == WHOLE[:-1]
    assert traced["events"][2]["data"]["binding"] == {"binding_id": "text.shout:builtin", "kind": "builtin"}
    shown = await server.frames("GET", f"/v1/runs/{run_id}/stream")
    assert "binding" not in shown[2]["data"]


async def test_who_does_not_want_to_wait_is_told_that_it_runs(served: Served) -> None:
    server, functions = served

    reply = await server.post(
        "/v1/skills/slow/execute", {"inputs": {"text": "x"}, "options": {"wait_seconds": 0.01, "odd": 1}, "more": 2}
    )

    assert reply.status_code == 202
    assert reply.json()["status"] == "running"
    assert reply.headers["x-ignored-fields"] == "more, options.odd"
    functions.gate.set()
    assert (await server.frames("GET", f"/v1/runs/{reply.json()['run_id']}/stream"))[-1]["status"] == "completed"


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ({}, "text", "required"),
        ({"text": None}, "text", "required"),
        ({"text": "x", "odd": 1}, "odd", "undeclared"),
        ({"text": True}, "text", "must be a string"),
    ],
)
async def test_inputs_that_do_not_fit_start_no_run(
    served: Served, inputs: dict[str, Any], field: str, message: str
) -> None:
    server, _ = served
    before = (await server.get("/v1/runs")).json()["pagination"]["total"]

    for path in ("execute", "execute/stream", "execute/async"):
        reply = await server.post(f"/v1/skills/my.skill/{path}", {"inputs": inputs})

        assert reply.status_code == 422
        assert reply.json()["error"]["fields"] == [{"field": field, "message": message}]
    assert (await server.get("/v1/runs")).json()["pagination"]["total"] == before


async def test_a_failed_run_is_answered_with_its_error(served: Served) -> None:
    server, functions = served
    functions.is_broken = True

    reply = await server.post("/v1/skills/broken/execute", {"inputs": {"text": "x"}})

    error = reply.json()["error"]
    assert (reply.status_code, error["status"], error["code"]) == (502, 502, "upstream_failure")
    assert error["type"] == "UpstreamFailureError"
    assert reply.headers["x-run-id"] == reply.json()["run_id"]
    done = (await server.frames("GET", f"/v1/runs/{reply.json()['run_id']}/stream"))[-1]
    assert (done["status"], done["outputs"], done["error"]) == ("failed", {}, error)


@ONE_STORE
@pytest.mark.parametrize(
    ("skill_id", "text", "status", "code", "name"),
    [
        ("gated", "false", 403, "safety_denied", "SafetyDeniedError"),
        ("gated", "maybe", 503, "gate_execution_failure", "GateExecutionError"),
        ("late", "x", 504, "step_timeout", "StepTimeoutError"),
        ("wrong", "x", 409, "invalid_configuration", "InvalidConfigurationError"),
    ],
)
async def test_what_ends_a_run_has_its_status(
    served: Served, skill_id: str, text: str, status: int, code: str, name: str
) -> None:
    server, _ = served

    reply = await server.post(f"/v1/skills/{skill_id}/execute", {"inputs": {"text": text}})

    error = reply.json()["error"]
    assert (reply.status_code, error["status"], error["code"], error["type"]) == (status, status, code, name)
    frames = await server.frames("GET", f"/v1/runs/{reply.json()['run_id']}/stream")
    failed = next(frame for frame in frames if frame["type"] == "step_failed")
    assert (failed["step_id"], failed["data"]["code"], failed["data"]["status"]) == ("work", code, status)
    assert failed["data"]["will_retry"] is False
    assert frames[-1]["error"] == error


async def test_who_waits_for_a_run_that_is_cancelled_is_told(served: Served) -> None:
    server, functions = served

    waiting = asyncio.create_task(server.post("/v1/skills/slow/execute", {"inputs": {"text": "x"}}))
    await functions.began.wait()
    (run,) = (await server.get("/v1/runs?status=running&skill_id=slow")).json()["runs"]
    await server.post(f"/v1/runs/{run['run_id']}/cancel")
    reply = await waiting

    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "cancelled")


async def test_a_server_that_stops_ends_streams_so_that_no_end_is_seen(tmp_path: Path) -> None:
    """The answer to a POST breaks off, that to a GET ends; neither has a last frame, and nothing new begins."""
    body = {"inputs": {"text": "x"}}
    async with serving(tmp_path) as (server, functions):
        async with server.stream("POST", "/v1/skills/slow/execute/stream", body) as posted:
            run_id = posted.headers["x-run-id"]
            await functions.began.wait()
            async with server.stream("GET", f"/v1/runs/{run_id}/stream") as read:
                server.server._shutdown.set()
                text = (await read.aread()).decode()
            with pytest.raises(httpx.RemoteProtocolError):
                await posted.aread()
        refused = await server.post("/v1/skills/slow/execute", body)
        ready = await server.get("/v1/health/ready", key=None)

    assert text.endswith(": shutdown\n\n")
    assert "event: done" not in text
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert (ready.status_code, ready.json()["checks"]["process"]) == (503, "stopping")


async def test_the_same_key_starts_one_run_and_gets_one_answer(served: Served) -> None:
    server, functions = served
    path, body = "/v1/skills/my.skill/execute", {"inputs": {"text": "once"}}

    first, again = [await server.post(path, body, idempotency_key="k1") for _ in range(2)]
    other = await server.post(path, {"inputs": {"text": "twice"}}, idempotency_key="k1")

    assert again.json() == first.json()
    assert again.headers["x-trace-id"] == first.headers["x-trace-id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert functions.calls["shout once"] == 1
    assert (other.status_code, other.json()["error"]["code"]) == (422, "invalid_request")


# Capabilities


async def test_a_bare_capability_is_a_run_of_one_step(served: Served) -> None:
    server, _ = served

    reply = await server.post("/v1/capabilities/text.shout/execute", {"inputs": {"text": "x", "odd": 1}})
    traced = await server.post("/v1/capabilities/text.shout/execute", {"inputs": {"text": "x"}, "include_trace": 1})

    body = reply.json()
    assert (reply.status_code, body["capability_id"], body["outputs"], body["meta"]) == (
        200,
        "text.shout",
        {"text": "X"},
        {},
    )
    assert reply.headers["x-ignored-fields"] == "inputs.odd"
    assert traced.status_code == 400
    frames = await server.frames("GET", f"/v1/runs/{body['run_id']}/stream")
    assert [frame["step_id"] for frame in frames] == [None, "call", "call", None, None]


@ONE_STORE
async def test_a_capability_says_what_fulfils_it(served: Served) -> None:
    server, _ = served

    body = (await server.post("/v1/capabilities/text.shout/explain", {})).json()

    assert (body["capability_id"], body["selection_source"]) == ("text.shout", "builtin")
    assert body["primary_binding_id"] == body["selected_binding"] == body["chain"][0]["binding_id"]


@ONE_STORE
async def test_a_capability_needs_the_trust_that_it_asks_for_on_every_route(served: Served) -> None:
    server, _ = served

    bare = await server.post("/v1/capabilities/test.trusted/execute", {"inputs": {"text": "x"}})
    asked = await server.post(
        "/v1/capabilities/test.trusted/execute", {"inputs": {"text": "x"}, "options": {"trust_level": "privileged"}}
    )

    assert (bare.status_code, bare.json()["error"]["code"]) == (403, "safety_denied")
    assert (asked.status_code, asked.json()["error"]["code"]) == (403, "forbidden")


async def test_a_trusted_key_may_what_others_may_not(tmp_path: Path) -> None:
    async with serving(tmp_path, key_trust=("operator=privileged",)) as (server, _):
        body = {"inputs": {"text": "x"}}

        trusted = await server.post("/v1/capabilities/test.trusted/execute", body, key="operator")
        lowered = await server.post(
            "/v1/capabilities/test.trusted/execute", {**body, "options": {"trust_level": "standard"}}, key="operator"
        )

    assert trusted.json()["outputs"] == {"text": "X"}
    assert (lowered.status_code, lowered.json()["error"]["code"]) == (403, "safety_denied")


# Attached


async def test_a_skill_that_is_attached_to_a_run_is_told_of_it(served: Served) -> None:
    server, _ = served
    target = await server.execute("my.skill", {"text": "x"})

    body = {"target_type": "run", "target_ref": target["run_id"], "inputs": {"text": "y"}}
    reply = await server.post("/v1/skills/attachable/attach", body)

    answer = reply.json()
    about = {"type": "run", "ref": target["run_id"], "skill_id": "my.skill", "status": "completed"}
    assert reply.status_code == 200
    assert answer["attach_context"] == {**about, "outputs": {"result": "X"}}
    assert answer["execution"]["outputs"] == {"result": "Y"}
    record = (await server.get(f"/v1/runs/{answer['execution']['run_id']}")).json()
    assert record["metadata"]["execution_channel"] == "attach:run"
    run = (await server.get(f"/runs/{answer['execution']['run_id']}")).json()
    assert run["input"]["target"] == answer["attach_context"]


async def test_a_skill_is_attached_to_what_it_is_made_for(served: Served) -> None:
    server, _ = served
    others = await server.execute("my.skill", {"text": "x"}, key="admin")
    cases = [
        ("my.skill", "run", "x", 400),
        ("attachable", "file", "x", 400),
        ("attachable", "run", "unknown", 404),
        ("attachable", "run", others["run_id"], 404),
        ("attachable", "ticket", "T-1", 200),
    ]

    for skill_id, kind, ref, status in cases:
        body = {"target_type": kind, "target_ref": ref, "inputs": {"text": "x"}}
        reply = await server.post(f"/v1/skills/{skill_id}/attach", body)

        assert reply.status_code == status, (skill_id, kind, reply.text)


@ONE_STORE
async def test_streams_are_counted_while_they_are_open(served: Served) -> None:
    server, functions = served
    metrics = server.server._services.metrics

    async with server.stream("POST", "/v1/skills/slow/execute/stream", {"inputs": {"text": "x"}}) as reply:
        with contextlib.suppress(StopAsyncIteration):
            await anext(reply.aiter_lines())
        assert metrics.subscribers == 1
    functions.gate.set()
