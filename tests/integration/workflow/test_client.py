"""
The async client against a small fake server, which shows what a real one shows rarely.
"""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.
# ruff: noqa: ARG005

from __future__ import annotations

import asyncio
import json
import math
import ssl
import threading
import time
from typing import Any

import httpx2
import pytest

from holdfast.client.backoff import Backoff
from holdfast.client.workflow import (
    ToolError,
    WorkflowClient,
    WorkflowConnectionError,
    WorkflowHTTPError,
    WorkflowTimeout,
)
from holdfast.settings import Settings
from tests.support.fake_workflow import AGENT_ID, FakeServer


def client_of(fake: FakeServer, **options: Any) -> WorkflowClient:
    """A client whose delays are a hundredth of what they are."""
    client = WorkflowClient(fake.url, **options)
    client._http.backoff = lambda: Backoff(0.005, 0.1)
    return client


def posted(fake: FakeServer) -> list[dict[str, Any]]:
    """The results of all posts, in their order."""
    bodies = [json.loads(body)["results"] for _, body in fake.made("POST", "/tool_responses")]
    return [result for results in bodies for result in results]


async def test_the_documented_call_returns_the_finished_run(fake: FakeServer) -> None:
    calls: list[tuple[Any, ...]] = []

    async def get_current_time(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append((args, agent_id, task_id))
        return "noon"

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": (None, get_current_time)})
        final = await client.run_agent(
            agent_id="clock", string_inputs={"1": "What time is it?"}, environment="playground"
        )

    assert (final.status, final.result) == ("completed", "noon")
    assert calls == [({}, AGENT_ID, 1)]
    assert final.executed_node_records[-1].full_output == "noon"
    assert json.loads(fake.made("POST", "/execute/")[0][1]) == {
        "inputs": {"strings": {"1": "What time is it?"}, "images": {}},
        "environment": "playground",
    }


async def test_three_rounds_of_several_calls_are_answered_each_once(fake: FakeServer) -> None:
    fake.rounds = [[("a", '{"n":1}'), ("crm.a", '{"n":2}')], [("a", '{"n":3}')], [("a", "{}"), ("a", '{"n":5}')]]
    calls: list[Any] = []

    def general(args: dict[str, Any], agent_id: str, task_id: int) -> Any:
        calls.append(args.get("n"))
        return args

    def of_crm(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        calls.append(-args["n"])
        return "crm"

    async with client_of(fake) as client:
        client.set_tools({"a": general, "crm.a": of_crm})
        final = await client.run_agent("clock")

    assert final.status == "completed"
    assert sorted(calls[:2]) == [-2, 1]
    assert calls[2] == 3
    assert sorted(calls[3:], key=str) == [5, None]
    assert {result["call_id"]: result["output"] for result in posted(fake)}["call_1_0_0"] == '{"n":1}'


async def test_a_handle_awaits_once_and_for_all(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})
        run = await client.execute_agent("clock")
        first = await run.get_response()

        assert await run.get_response() is first
        assert (run.task_id, run.run_id, run.agent_id, run.last_seq) == (1, "run-1", AGENT_ID, 3)
        assert (await run.status()).completed


async def test_failed_and_cancelled_runs_are_returned(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        cancelled = await client.execute_agent("clock")
        assert await cancelled.cancel("no longer needed") == "cancelled"
        failed = await client.execute_agent("clock")
        fake.change(lambda: fake.runs[2].end("failed"))

        assert (await cancelled.get_response()).status == "cancelled"
        assert (await failed.get_response()).status == "failed"


async def test_an_await_that_times_out_ends_the_waiting_only(fake: FakeServer) -> None:
    may_end = threading.Event()

    def slow(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        may_end.wait(20)
        return "late"

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": slow})
        run = await client.execute_agent("clock")
        with pytest.raises(WorkflowTimeout) as raised:
            await run.get_response(timeout=0.05)
        may_end.set()
        await fake.happens(lambda: fake.runs[1].answers)

        assert raised.value.task_id == 1
        assert (await run.get_response(timeout=math.inf)).result == "late"


async def test_a_good_a_raising_an_unknown_and_an_ill_formed_call_in_one_round(fake: FakeServer) -> None:
    fake.rounds = [
        [("good", "{}"), ("raises", "{}"), ("unknown", "{}"), ("good", "[1]"), ("good", "{"), ("says", "{}")]
    ]
    told: list[tuple[str, str, str]] = []

    def raises(args: dict[str, Any], agent_id: str, task_id: int) -> None:
        raise RuntimeError("the password is hunter2")

    def says(args: dict[str, Any], agent_id: str, task_id: int) -> None:
        raise ToolError("no such customer")

    async with client_of(
        fake, on_tool_error=lambda stage, call, error: told.append((stage, call.name, str(error)))
    ) as client:
        client.set_tools({"good": lambda args, agent_id, task_id: None, "raises": raises, "says": says})
        run = await client.execute_agent("clock", response_timeout=0.05)
        with pytest.raises(WorkflowTimeout):
            await run.get_response()
        await fake.happens(lambda: len(fake.runs[1].answers) == 5)
        unhandled = run.unhandled_calls

    outputs = {name: (answer["output"], answer["errored"]) for name, answer in fake.runs[1].answers.items()}
    assert outputs == {
        "call_1_0_0": ("", None),
        "call_1_0_1": ("tool raises failed (execution)", True),
        "call_1_0_3": ("tool good failed (arguments): they are no JSON object", True),
        "call_1_0_4": ("tool good failed (arguments): they are no JSON", True),
        "call_1_0_5": ("no such customer", True),
    }
    assert [call["name"] for call in unhandled] == ["unknown"]
    assert ("execution", "raises", "the password is hunter2") in told


async def test_a_definition_is_checked_before_its_handler_is_called(fake: FakeServer) -> None:
    fake.rounds = [[("find", '{"name":7}'), ("find", '{"name":"x"}')]]
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    calls: list[Any] = []

    async with client_of(fake) as client:
        client.set_tools(
            {"find": ({"name": "find", "schema_data": schema}, lambda args, agent_id, task_id: calls.append(args))}
        )
        await client.run_agent("clock")

    assert calls == [{"name": "x"}]
    assert fake.runs[1].answers["call_1_0_0"]["output"] == (
        "tool find failed (arguments): name: 7 is not of type 'string'"
    )


async def test_unknown_tools_are_answered_where_that_is_asked_for(fake: FakeServer) -> None:
    async with client_of(fake, unknown_tools="error") as client:
        final = await client.run_agent("clock")

    assert final.result == "tool get_current_time failed (no handler)"


async def test_a_handler_that_takes_too_long_is_one_fault(fake: FakeServer) -> None:
    may_end = threading.Event()

    def slow(args: dict[str, Any], agent_id: str, task_id: int, call: Any) -> str:
        may_end.wait(20)
        return "late"

    async with client_of(fake, tool_timeout=0.05) as client:
        client.set_tools({"get_current_time": slow})
        final = await client.run_agent("clock")
        may_end.set()

    assert final.result == "tool get_current_time failed (timeout)"


async def test_a_handler_learns_that_its_run_was_cancelled(fake: FakeServer) -> None:
    begun, seen = threading.Event(), threading.Event()

    def patient(args: dict[str, Any], agent_id: str, task_id: int, call: Any) -> str:
        begun.set()
        deadline = time.monotonic() + 20
        while not call.cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        if call.cancelled:
            seen.set()
        return "nobody needs it"

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": patient})
        run = await client.execute_agent("clock")
        with pytest.raises(WorkflowTimeout):
            await run.get_response(timeout=0.01)
        await fake.happens(begun.is_set)
        await run.cancel()

        assert (await run.get_response()).status == "cancelled"
    await fake.happens(seen.is_set)
    assert posted(fake) == []


async def test_every_frame_doubled_calls_each_handler_once(fake: FakeServer) -> None:
    fake.is_doubling = True
    fake.rounds = [[("a", "{}"), ("a", "{}")], [("a", "{}")]]
    calls: list[int] = []

    async with client_of(fake) as client:
        client.set_tools({"a": lambda args, agent_id, task_id: calls.append(1)})
        final = await client.run_agent("clock")

    assert final.status == "completed"
    assert len(calls) == 3


@pytest.mark.parametrize("first", range(0, 900, 60))
async def test_a_stream_that_is_cut_again_and_again_gives_the_same(fake: FakeServer, first: int) -> None:
    fake.cuts = [first, first + 7, first + 23, 0, first + 41]
    fake.rounds = [[("a", "{}")], [("a", "{}")]]
    calls: list[int] = []

    async with client_of(fake) as client:
        client.set_tools({"a": lambda args, agent_id, task_id: calls.append(1)})
        final = await client.run_agent("clock")

    assert final.status == "completed"
    assert len(calls) == 2


async def test_behind_a_proxy_that_holds_streams_back_the_client_polls(fake: FakeServer) -> None:
    fake.is_holding_streams = True

    async with client_of(fake) as client:
        client._first_frame_seconds = 0.05
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})
        final = await client.run_agent("clock")

    assert final.result == "noon"
    assert len(fake.made("GET", "/events")) == 2


async def test_a_post_whose_reply_is_lost_is_repeated_under_its_key(fake: FakeServer) -> None:
    fake.drop_reply = ["/tool_responses"]
    calls: list[int] = []

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: calls.append(1)})
        final = await client.run_agent("clock")
        keys = {headers["Idempotency-Key"] for headers, _ in fake.made("POST", "/tool_responses")}

    assert final.status == "completed"
    assert (len(calls), len(keys)) == (1, 1)


async def test_posts_go_on_after_what_passes(fake: FakeServer) -> None:
    busy = json.dumps({"detail": {"code": "overloaded", "message": "later"}}).encode()
    fake.answer_first = [("/tool_responses", status, {"Retry-After": "0"}, busy) for status in (503, 429, 500)]

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})
        final = await client.run_agent("clock")

    assert final.result == "noon"
    assert len(fake.made("POST", "/tool_responses")) == 4


async def test_an_output_that_the_server_finds_too_large_becomes_an_error(fake: FakeServer) -> None:
    large = json.dumps({"detail": {"code": "tool_output_too_large", "message": "too large"}}).encode()
    fake.answer_first = [("/tool_responses", 413, {}, large)]

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "x" * 300})
        final = await client.run_agent("clock")

    assert final.result == "tool get_current_time failed (output)"


@pytest.mark.parametrize("value", [{1, 2}, math.nan, "x" * (256 * 1024 + 1), "\ud800"])
async def test_an_output_that_cannot_be_posted_is_one_fault(fake: FakeServer, value: Any) -> None:
    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: value})
        final = await client.run_agent("clock")

    assert final.result == "tool get_current_time failed (output)"


async def test_an_answer_that_somebody_else_gave_is_no_error(fake: FakeServer) -> None:
    gate = threading.Event()

    def late(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        gate.wait(20)
        return "ours"

    async with client_of(fake) as client:
        fake.rounds = [[("get_current_time", "{}"), ("other", "{}")]]
        client.set_tools({"get_current_time": late})
        run = await client.execute_agent("clock")
        with pytest.raises(WorkflowTimeout):
            await run.get_response(timeout=0.05)
        fake.change(lambda: fake.runs[1].answers.update(call_1_0_0={"call_id": "call_1_0_0", "output": "theirs"}))
        gate.set()
        await fake.happens(lambda: any("/tool_responses" in path for _, path, _, _ in fake.requests))
        await client.send_tool_responses("clock", 1, [{"call_id": "call_1_0_1", "output": "x"}])
        final = await run.get_response()

    assert final.result == "theirs x"


async def test_attaching_goes_on_where_a_run_stands(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        started = await client.execute_agent_polling("clock", metadata={"order": "A-7"})
        run = client.attach(
            "clock", started.task_id, tools={"get_current_time": lambda args, agent_id, task_id: "noon"}
        )
        final = await run.get_response()

    assert final.result == "noon"
    assert dict(final.metadata) == {"order": "A-7"}
    assert run.agent_id == AGENT_ID


async def test_the_outputs_of_a_webhooks_calls_are_returned_and_made_once(fake: FakeServer) -> None:
    calls: list[int] = []
    tools = {"get_current_time": lambda args, agent_id, task_id: calls.append(1)}

    async with client_of(fake) as client:
        started = await client.execute_agent_polling("clock")
        status = await client.get_agent_task_status("clock", started.task_id)
        body = {"task_id": 1, "agent_id": AGENT_ID, "status": status.status, **status.task_info.to_dict()}
        first = await client.process_webhook_tools(body, tools)
        second = await client.process_webhook_tools(body, tools)
        assert posted(fake) == []
        await client.send_tool_responses("clock", started.task_id, first)
        runs = await client.get_agent_runs("clock")

    assert first == second
    assert [result.call_id for result in first.results] == ["call_1_0_0"]
    assert (len(calls), list(runs.runs)) == (1, [])
    assert fake.runs[1].status == "completed"


async def test_the_handler_of_an_agent_gets_the_result(fake: FakeServer) -> None:
    fake.rounds = []
    async with client_of(fake) as client:
        row = await client.run_agent("clock")
        by_name = await client.process_webhook_agent_completed(row, {"clock": lambda result: result.status})
        by_id = await client.process_webhook_agent_completed(row.to_dict(), {AGENT_ID: lambda result: result.task_id})
        nobody = await client.process_webhook_agent_completed(row, {"other": lambda result: result})

    assert (by_name, by_id, nobody) == ("completed", 1, None)


async def test_a_refusal_is_raised_with_its_code(fake: FakeServer) -> None:
    fake.key = "secret"
    async with client_of(fake) as client:
        with pytest.raises(WorkflowHTTPError) as raised:
            await client.run_agent("clock")
        client.set_api_key("secret")
        with pytest.raises(WorkflowHTTPError, match="run_not_found"):
            await client.attach("clock", 99).get_response()

    assert (raised.value.status_code, raised.value.code) == (401, "unauthorized")


async def test_a_server_that_refuses_our_posts_ends_the_await(fake: FakeServer) -> None:
    refusal = json.dumps({"detail": {"code": "forbidden", "message": "this key only reads"}}).encode()
    fake.answer_first = [("/tool_responses", 403, {}, refusal)]
    calls: list[int] = []

    async with client_of(fake) as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: calls.append(1)})
        run = await client.execute_agent("clock")
        with pytest.raises(WorkflowHTTPError, match="forbidden"):
            await run.get_response()
        final = await run.get_response()

    assert final.status == "completed"
    assert len(calls) == 1


async def test_a_redirect_is_not_followed(fake: FakeServer) -> None:
    fake.answer_first = [("/execute/", 307, {"Location": "/api/workflow/execute/other"}, b"")]

    async with client_of(fake) as client:
        with pytest.raises(WorkflowHTTPError) as raised:
            await client.execute_agent_polling("clock")

    assert raised.value.status_code == 307
    assert fake.runs == {}


async def test_a_start_is_tried_five_times_under_one_key(fake: FakeServer) -> None:
    fake.drop_reply = ["/execute/"] * 5

    async with client_of(fake) as client:
        with pytest.raises(WorkflowConnectionError):
            await client.execute_agent_polling("clock")
        keys = [headers["Idempotency-Key"] for headers, _ in fake.made("POST", "/execute/")]

    assert len(keys) == 5
    assert len(set(keys)) == 1


async def test_an_error_frame_ends_the_await(fake: FakeServer) -> None:
    fake.first_frames = [b'data: {"type":"error","seq":3,"code":"unauthorized","message":"the key was revoked"}\n\n']

    async with client_of(fake) as client:
        run = await client.execute_agent("clock")
        with pytest.raises(WorkflowHTTPError) as raised:
            await run.get_response()

    assert (raised.value.status_code, raised.value.code) == (401, "unauthorized")


async def test_files_are_sent_as_parts(fake: FakeServer) -> None:
    fake.rounds = []
    async with client_of(fake) as client:
        started = await client.execute_agent_with_files("clock", b"one", b"two", string_inputs={"3": "x"})

    headers, body = fake.made("POST", "/with-files")[0]
    assert started.task_id == 1
    assert headers["Content-Type"].startswith("multipart/form-data")
    for part in (
        b'name="file_1"',
        b'name="file_2"',
        b'name="inputs"',
        b'{"strings":{"3":"x"},"images":{}}',
        b"production",
    ):
        assert part in body


async def test_without_an_address_the_client_goes_where_holdfast_url_says(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", fake.url)

    async with WorkflowClient() as client:
        client.set_tools({"get_current_time": lambda args, agent_id, task_id: "noon"})
        final = await client.run_agent("clock")

    assert final.result == "noon"


async def test_an_address_that_is_given_comes_before_holdfast_url(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:1")

    async with WorkflowClient(fake.url) as client:
        started = await client.execute_agent_polling("clock")

    assert started.task_id == 1


def test_without_any_address_the_client_goes_where_the_server_listens_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    settings = Settings()

    assert WorkflowClient()._http._base_url == f"http://{settings.host}:{settings.port}"


async def test_the_certificates_are_loaded_once_and_not_on_the_event_loop(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = httpx2.create_ssl_context()
    threads: list[int] = []

    def load() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return made

    monkeypatch.setattr(httpx2, "create_ssl_context", load)
    async with client_of(fake) as client:
        client._http._is_secure = True  # as for an https URL
        await asyncio.gather(*(client.execute_agent_polling("clock") for _ in range(10)))

    assert len(threads) == 1
    assert threads != [threading.get_ident()]
