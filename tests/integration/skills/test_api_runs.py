"""Runs over the Skills API, on both stores: read, approved, cancelled, replayed and forked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.skills.api_skills import Functions, serving
from tests.support.skills_server import SkillsServer

Served = tuple[SkillsServer, Functions]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("skills"), store=module_store) as made:
        yield made


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    yield shared
    shared[1].gate.set()
    shared[1].reset()


async def ended(server: SkillsServer, run_id: str) -> dict[str, Any]:
    """The last frame of a run, once it is over."""
    return (await server.frames("GET", f"/v1/runs/{run_id}/stream", key="operator"))[-1]


# Approvals


async def test_a_run_that_asks_is_shown_and_goes_on_when_it_is_approved_over_another_api(served: Served) -> None:
    server, _ = served

    reply = await server.post("/v1/skills/asks/execute", {"inputs": {"text": "x"}})

    answer = reply.json()
    asked, run_id = answer["interrupt"], answer["run_id"]
    assert (reply.status_code, answer["status"], answer["outputs"]) == (202, "waiting_for_human", {})
    assert {name: asked[name] for name in ("kind", "reason", "question", "step_id", "choices", "input", "default")} == {
        "kind": "approval",
        "reason": "confirm",
        "question": "Go on?",
        "step_id": "work",
        "choices": ["approve", "deny"],
        "input": {"text": "x"},
        "default": None,
    }
    record = (await server.get(f"/v1/runs/{run_id}")).json()
    assert (record["status"], record["state"], record["interrupts"]) == ("waiting_for_human", "waiting", [asked])
    listed = (await server.get("/v1/runs?status=waiting_for_human&skill_id=asks")).json()
    assert [item["run_id"] for item in listed["runs"]] == [run_id]

    path = f"/runs/{run_id}/interrupts/{asked['interrupt_id']}"
    refused = await server.post(path, {"answer": True})
    approved = await server.post(path, {"answer": True}, key="operator")

    assert (refused.status_code, approved.status_code) == (403, 200)
    frames = await server.frames("GET", f"/v1/runs/{run_id}/stream")
    (shown,) = [frame for frame in frames if frame["type"] == "interrupt"]
    assert shown["step_id"] == "work"
    assert shown["data"] == {name: value for name, value in asked.items() if name != "step_id"}
    assert (frames[-1]["type"], frames[-1]["outputs"]) == ("done", {"result": "X"})


async def test_the_first_decision_stands_and_may_be_repeated(served: Served) -> None:
    server, functions = served
    run_id = (await server.execute("asks", {"text": "x"}))["run_id"]
    body = {"approver": "jane", "notes": "not today"}

    by_executor = await server.post(f"/v1/runs/{run_id}/deny", body)
    first, again = [await server.post(f"/v1/runs/{run_id}/deny", body, key="operator") for _ in range(2)]
    other = await server.post(f"/v1/runs/{run_id}/approve", body, key="operator")

    assert by_executor.status_code == 403
    assert (first.status_code, again.status_code) == (200, 200)
    decision = first.json()
    assert (decision["run_id"], decision["answer"], decision["approver"]) == (run_id, "deny", "jane")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "already_answered")
    done = await ended(server, run_id)
    assert (done["error"]["code"], done["error"]["status"]) == ("safety_denied", 403)
    assert functions.calls == {}
    events = await server.frames("GET", f"/runs/{run_id}/events")
    (resolved,) = [event for event in events if event["type"] == "interrupt_resolved"]
    assert (resolved["answer"], resolved["caller"], resolved["note"]) == (False, "operator", "jane: not today")


@pytest.mark.one_store("which question is meant is decided before any store is asked")
async def test_one_of_several_questions_has_to_be_named(served: Served) -> None:
    server, _ = served
    run_id = (await server.execute("asks.twice"))["run_id"]
    record = (await server.get(f"/v1/runs/{run_id}")).json()
    left, right = sorted(record["interrupts"], key=lambda asked: asked["step_id"])

    unnamed = await server.post(f"/v1/runs/{run_id}/approve", {}, key="operator")
    named = await server.post(f"/v1/runs/{run_id}/approve", {"interrupt_id": right["interrupt_id"]}, key="operator")
    the_other = await server.post(f"/v1/runs/{run_id}/approve", {}, key="operator")

    error = unnamed.json()["error"]
    assert (unnamed.status_code, error["code"]) == (409, "interrupt_ambiguous")
    assert set(error["interrupt_ids"]) == {left["interrupt_id"], right["interrupt_id"]}
    assert (named.status_code, the_other.status_code) == (200, 200)
    assert the_other.json()["interrupt_id"] == left["interrupt_id"]
    assert (await ended(server, run_id))["status"] == "completed"


@pytest.mark.one_store("roles and options are the same on every store")
async def test_nobody_is_asked_where_the_caller_wants_no_waiting(served: Served) -> None:
    server, _ = served

    reply = await server.post("/v1/skills/asks/execute", {"inputs": {"text": "x"}, "on_confirmation": "fail"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (428, "confirmation_required")


async def test_a_question_that_nobody_answers_takes_its_default(served: Served) -> None:
    server, _ = served
    run_id = (await server.post("/v1/skills/expires/execute/async", {"inputs": {"text": "x"}})).json()["run_id"]

    assert (await ended(server, run_id))["error"]["code"] == "safety_denied"
    late = await server.post(f"/v1/runs/{run_id}/approve", {}, key="operator")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "already_answered")


@pytest.mark.one_store("roles and options are the same on every store")
async def test_an_operator_may_confirm_beforehand_and_nobody_below(served: Served) -> None:
    server, _ = served
    body = {"inputs": {"text": "x"}, "options": {"confirmed_capabilities": ["test.careful"]}}

    by_executor = await server.post("/v1/skills/careful/execute", body)
    by_operator = await server.post("/v1/skills/careful/execute", body, key="operator")
    unconfirmed = await server.post("/v1/skills/careful/execute", {"inputs": {"text": "x"}})

    assert (by_executor.status_code, by_executor.json()["error"]["code"]) == (403, "forbidden")
    assert (by_operator.status_code, by_operator.json()["outputs"]) == (200, {"result": "X"})
    assert unconfirmed.json()["interrupt"]["reason"] == "requires_confirmation"


async def test_only_what_waits_is_approved(served: Served) -> None:
    server, _ = served
    run_id = (await server.execute("my.skill", {"text": "x"}))["run_id"]
    asks = (await server.execute("asks", {"text": "x"}))["run_id"]
    cases = [
        (run_id, {}, 409, "not_waiting"),
        (asks, {"interrupt_id": "int_unknown"}, 404, "not_found"),
        (asks, {"output": {"text": "made up"}}, 400, "invalid_request"),
        (asks, {"notes": 5}, 400, "invalid_request"),
        ("unknown", {}, 404, "not_found"),
    ]

    for which, body, status, code in cases:
        reply = await server.post(f"/v1/runs/{which}/approve", body, key="operator")

        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


async def test_a_run_whose_tool_its_caller_executes_waits_for_a_signal(served: Served) -> None:
    server, _ = served

    reply = await server.post("/v1/skills/called/execute", {"inputs": {"text": "x"}})

    answer = reply.json()
    asked, run_id = answer["interrupt"], answer["run_id"]
    assert (reply.status_code, answer["status"]) == (202, "waiting_for_signal")
    assert (asked["kind"], asked["step_id"], asked["tool_calls"][0]["tool"]) == ("tool", "work", "crm.find")
    assert (await server.get(f"/v1/runs/{run_id}")).json()["interrupts"] == [asked]
    run = (await server.get(f"/runs/{run_id}")).json()
    result = {"call_id": asked["tool_calls"][0]["tool_call_id"], "output": "found"}
    path = f"/api/agent/skill:called/{run['number']}/tool_responses"
    assert (await server.post(path, {"results": [result]})).status_code == 200
    assert (await ended(server, run_id))["outputs"] == {"result": "found"}


# Cancelling


async def test_cancelling_ends_a_call_and_may_be_repeated(served: Served) -> None:
    server, functions = served
    run_id = (await server.post("/v1/skills/slow/execute/async", {"inputs": {"text": "x"}})).json()["run_id"]
    await functions.began.wait()

    first, again = [await server.post(f"/v1/runs/{run_id}/cancel", {"reason": "enough"}) for _ in range(2)]

    assert first.status_code == 200
    assert (first.json()["status"], first.json()["error_detail"]["code"]) == ("failed", "cancelled")
    assert again.json() == first.json()
    done = await ended(server, run_id)
    assert (done["type"], done["error"]["code"]) == ("done", "cancelled")


async def test_what_is_over_cannot_be_cancelled(served: Served) -> None:
    server, _ = served
    run_id = (await server.execute("my.skill", {"text": "x"}))["run_id"]

    reply = await server.post(f"/v1/runs/{run_id}/cancel")

    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "already_finished")
    assert reply.json()["run_id"] == run_id


# Replays and forks


async def test_a_replay_calls_everything_again(served: Served) -> None:
    server, functions = served
    old = await server.execute("chain", {"text": "x"})

    reply = await server.post(f"/v1/runs/{old['run_id']}/replay", {}, x_trace_id="t9")

    body = reply.json()
    assert (reply.status_code, body["source_run_id"], body["trace_id"]) == (202, old["run_id"], "t9")
    assert reply.headers["x-run-id"] == body["run_id"] != old["run_id"]
    assert (await ended(server, body["run_id"]))["outputs"] == old["outputs"]
    assert set(functions.calls.values()) == {2}


async def test_a_fork_calls_its_step_and_what_depends_on_it(served: Served) -> None:
    server, functions = served
    functions.is_broken = True
    body = {"inputs": {"text": "x"}, "options": {"max_workers": 1}}
    failed = (await server.post("/v1/skills/chain/execute", body)).json()["run_id"]
    functions.is_broken = False
    functions.calls.clear()

    reply = await server.post(f"/v1/runs/{failed}/fork", {"from_step": "second"})

    answer = reply.json()
    assert (reply.status_code, answer["reused"], answer["source_run_id"]) == (202, ["first", "apart"], failed)
    assert (await ended(server, answer["run_id"]))["outputs"] == {"result": "X"}
    assert functions.calls == {"fail X": 1, "shout X": 1}
    record = (await server.get(f"/v1/runs/{answer['run_id']}")).json()
    assert record["metadata"]["source_run_id"] == failed
    started = (await server.frames("GET", f"/runs/{answer['run_id']}/events"))[0]
    assert started["forked_from"] == {"run_id": failed, "step": "second"}


async def test_a_fork_may_have_other_inputs_and_keeps_what_was_made_of_the_old_ones(served: Served) -> None:
    server, functions = served
    old = (await server.execute("chain", {"text": "old"}))["run_id"]
    functions.calls.clear()

    reply = await server.post(f"/v1/runs/{old}/fork", {"from_step": "second", "inputs": {"text": "new"}})
    whole = await server.post(f"/v1/runs/{old}/fork", {"from_step": "first", "inputs": {"text": "new"}})
    wrong = await server.post(f"/v1/runs/{old}/fork", {"from_step": "first", "inputs": {"text": 5}})

    assert (await ended(server, reply.json()["run_id"]))["outputs"] == {"result": "OLD"}
    assert (await ended(server, whole.json()["run_id"]))["outputs"] == {"result": "NEW"}
    assert wrong.status_code == 422


async def test_what_cannot_be_forked_is_refused(served: Served) -> None:
    server, functions = served
    over = (await server.execute("chain", {"text": "x"}))["run_id"]
    slow = (await server.post("/v1/skills/slow/execute/async", {"inputs": {"text": "x"}})).json()["run_id"]
    bare = (await server.post("/v1/capabilities/text.shout/execute", {"inputs": {"text": "x"}})).json()["run_id"]
    functions.is_broken = True
    failed = (await server.post("/v1/skills/chain/execute", {"inputs": {"text": "x"}})).json()["run_id"]
    cases = [
        (slow, {"from_step": "work"}, 409, "not_finished"),
        (over, {}, 400, "invalid_request"),
        (over, {"from_step": "fourth"}, 400, "invalid_request"),
        (over, {"from_step": "first", "definition": "older"}, 400, "invalid_request"),
        (bare, {"from_step": "call"}, 400, "invalid_request"),
        (failed, {"from_step": "third"}, 409, "fork_conflict"),
    ]

    for run_id, body, status, code in cases:
        reply = await server.post(f"/v1/runs/{run_id}/fork", body)

        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), body


# Who sees what


async def test_below_operator_a_key_sees_its_own_runs(served: Served) -> None:
    server, _ = served
    run_id = (await server.execute("my.skill", {"text": "x"}, key="admin"))["run_id"]

    calls = [("GET", ""), ("GET", "/stream"), ("POST", "/cancel"), ("POST", "/replay"), ("POST", "/fork")]
    for method, path in calls:
        body = {"from_step": "work"} if path == "/fork" else None
        reply = await server.call(method, f"/v1/runs/{run_id}{path}", body)
        assert reply.status_code == 404, path
        assert "x-run-id" not in reply.headers
    mine = (await server.get("/v1/runs?limit=1000")).json()
    everybodys = (await server.get("/v1/runs?limit=1000", key="operator")).json()
    assert run_id not in {item["run_id"] for item in mine["runs"]}
    assert everybodys["runs"][0]["run_id"] == run_id
    assert mine["pagination"]["total"] < everybodys["pagination"]["total"]


async def test_runs_are_listed_page_by_page(served: Served) -> None:
    server, functions = served
    functions.is_broken = True
    ids = [(await server.execute("my.skill", {"text": "x"}))["run_id"] for _ in range(3)]
    await server.execute("broken", {"text": "x"})

    page = (await server.get("/v1/runs?skill_id=my.skill&limit=2")).json()
    following = (await server.get("/v1/runs?skill_id=my.skill&limit=2&offset=1")).json()
    failed = (await server.get("/v1/runs?status=failed&skill_id=broken&limit=1")).json()

    assert [item["run_id"] for item in page["runs"]] == ids[:0:-1]
    assert [item["run_id"] for item in following["runs"]] == ids[1::-1]
    assert (page["pagination"]["has_more"], page["pagination"]["next_offset"]) == (True, 2)
    assert (failed["runs"][0]["error_detail"]["code"], failed["runs"][0]["result"]) == ("upstream_failure", None)


async def test_the_runtime_api_lists_the_skills_that_there_are_at_this_moment(served: Served) -> None:
    server, _ = served

    async def found() -> tuple[bool, bool, int, int]:
        agents = (await server.get("/agents", key=None)).json()["agents"]
        document = (await server.get("/openapi.json", key=None)).json()
        return (
            "skill:my.skill" in [agent["name"] for agent in agents],
            "skill_my.skill.input" in document["components"]["schemas"],
            (await server.get("/agents/skill:my.skill/schema", key=None)).status_code,
            (await server.get("/agents/skill:my.skill/info", key=None)).status_code,
        )

    kept = server.library.by_id["my.skill"]

    assert await found() == (True, True, 200, 200)
    del server.library.by_id["my.skill"]
    try:
        assert await found() == (False, False, 404, 404)
    finally:
        server.library.by_id["my.skill"] = kept
    assert await found() == (True, True, 200, 200)


async def test_a_run_of_another_api_has_a_record_and_a_trace(served: Served) -> None:
    server, _ = served
    schema = (await server.get("/agents/skill:my.skill/schema")).json()["input_schema"]
    run_id = (await server.post("/agents/skill:my.skill/runs", {"text": "x"})).json()["run_id"]

    frames = await server.frames("GET", f"/v1/runs/{run_id}/stream")
    record = (await server.get(f"/v1/runs/{run_id}")).json()

    assert {frame["trace_id"] for frame in frames} == {run_id}
    assert (record["trace_id"], record["metadata"]["execution_channel"]) == (run_id, "runtime")
    assert record["skill_version"] == "1.0.0"
    assert schema["required"] == ["text"]
