"""Tool responses: in any order and number, the first one wins for ever, and what does not fit says so in order."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.sse import read_all
from tests.support.tasks import Task, result, start

LARGEST = "x" * (256 * 1024)


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["detail"]["code"]


def test_three_answers_in_reverse_order_then_each_again(client: httpx.Client) -> None:
    task = start(client, "rounds", "1", "3")
    calls = task.paused()
    for place in (2, 1, 0):
        assert task.status()["status"] == "awaiting_tool_calls"
        reply = task.post(result(calls[place], str(place))).json()
        assert reply["results"] == [{"call_id": calls[place], "state": "accepted"}]
        assert reply["pending"] == calls[:place]
    row = task.ended()
    again = [task.post(result(call, str(place))).json()["results"] for place, call in enumerate(calls)]

    assert row["result"] == '[["0","1","2"]]'
    assert again == [[{"call_id": call, "state": "repeated"}] for call in calls]


def test_other_content_is_too_late_and_mixed_with_new_is_200(client: httpx.Client) -> None:
    task = start(client, "rounds", "1", "2")
    first, second = task.paused()
    task.post(result(first, "one"))

    other = task.post(result(first, "two"))
    mixed = task.post(result(first, "two"), result(second, "new"))

    assert refused(other) == (409, "tool_responses_already_submitted")
    assert other.json()["detail"]["results"] == [{"call_id": first, "state": "lost", "reason": "answered"}]
    assert mixed.status_code == 200
    assert mixed.json()["results"] == [
        {"call_id": first, "state": "lost", "reason": "answered"},
        {"call_id": second, "state": "accepted"},
    ]
    assert task.ended()["result"] == '[["one","new"]]'


def test_what_is_no_answer_is_refused_in_order_and_then_the_right_one_works(client: httpx.Client) -> None:
    task = start(client, "rounds", "1", "2")
    first, second = task.paused()
    before = task.status()
    unknown = "call_0000000000000000"
    cases: list[tuple[list[Any], tuple[int, str]]] = [
        ([result(unknown, LARGEST + "x"), result(unknown)], (413, "tool_output_too_large")),
        ([result(first, errored=True, error_message="m" * 4097)], (413, "tool_output_too_large")),
        ([], (422, "no_tool_responses")),
        ([result(unknown), result(unknown)], (422, "duplicate_call_ids_in_request")),
        ([result(first), result(unknown)], (422, "tool_call_ids_mismatch")),
        ([{"output": "x"}], (422, "invalid_request")),
        ([result(first, errored="yes")], (422, "invalid_request")),
        ([result(first, claim=0)], (422, "invalid_request")),
    ]
    for results, expected in cases:
        assert refused(task.post(*results)) == expected, results
    assert task.status() == before
    assert task.post(result(second), result(first, LARGEST)).status_code == 200
    row = task.ended()
    assert len(row["result"]) > len(LARGEST)
    assert refused(task.post(result(unknown))) == (409, "run_not_awaiting_tools")


@pytest.mark.one_store("what an output means does not depend on the store")
@pytest.mark.parametrize(
    ("output", "kept"), [(None, ""), ("", ""), (5, "5"), ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'), (" x ", " x ")]
)
def test_outputs_are_text(client: httpx.Client, output: Any, kept: str) -> None:
    task = start(client, "steps", "1")
    task.post(result(task.paused()[0], output, errored=None, error_message=None))

    assert task.ended()["result"] == kept


def test_an_errored_answer_raises_in_the_agent_and_is_shown(client: httpx.Client) -> None:
    task = start(client, "sync_clock")
    task.post(result(task.paused()[0], "details", errored=True, error_message="no clock here"))
    row = task.ended()

    (response,) = row["prior_nodes_execution_records"][0]["tool_call_responses"]
    assert row["result"] == "failed: no clock here"
    assert (response["output"], response["errored"], response["error_message"]) == ("details", True, "no clock here")


@pytest.mark.parametrize(
    ("how", "status", "result", "code"),
    [
        ("error", "completed", "failed: nobody answered the call of look in time", None),
        ("default", "completed", "nothing", None),
        ("fail", "failed", None, "tool_response_timeout"),
    ],
)
def test_deadlines(client: httpx.Client, how: str, status: str, result: str | None, code: str | None) -> None:
    task = start(client, "hasty", how)
    row = task.ended()
    resolved = [
        frame.data
        for frame in read_all(client, "GET", f"/runs/{task.run_id}/events")
        if frame.event == "interrupt_resolved"
    ]

    assert (row["status"], row["result"], row["failure_code"]) == (status, result, code)
    assert [event["by"] for event in resolved] == ["expiry"]


def test_of_many_rivals_one_answers_each_call(server: ServerProcess) -> None:
    with server.client() as client:
        task = start(client, "rounds", "1", "4")
        calls = task.paused()

        def post(rival: int) -> httpx.Response:
            with server.client() as own:
                mine = Task(own, task.agent, task.number, task.run_id)
                return mine.post(*(result(call, str(rival)) for call in calls))

        with ThreadPoolExecutor(10) as pool:
            replies = list(pool.map(post, range(10)))
        row = task.ended()

    states = [item["state"] for reply in replies if reply.status_code == 200 for item in reply.json()["results"]]
    assert states.count("accepted") == 4
    assert {reply.status_code for reply in replies} <= {200, 409}
    assert row["status"] == "completed"


def test_a_post_is_repeated_under_its_key(client: httpx.Client) -> None:
    task = start(client, "clock")
    (call,) = task.paused()
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first = task.post(result(call, "noon"), **key)
    again = task.post(result(call, "noon"), **key)
    other = task.post(result(call, "one"), **key)

    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert refused(other) == (422, "idempotency_key_reused")


def claim(task: Task, worker: str, *call_ids: str, seconds: int = 60) -> httpx.Response:
    body = {"worker": worker, "call_ids": list(call_ids), "lease_seconds": seconds}
    return task.client.post(f"/api/agent/{task.agent}/{task.number}/tool_calls/claim", json=body)


def test_a_call_is_claimed_by_one_worker_and_a_result_of_an_old_claim_is_lost(client: httpx.Client) -> None:
    task = start(client, "rounds", "1", "3")
    first, second, third = task.paused()
    seq = task.status()["seq"]

    mine = claim(task, "a", first, second).json()
    theirs = claim(task, "b", first, third).json()
    renewed = claim(task, "a", first).json()
    shown = task.status()["task_info"]["pending_tool_calls"]
    given_back = claim(task, "a", first, seconds=0).json()
    next_one = claim(task, "b", first).json()

    assert [(item["call_id"], item["claim"]) for item in mine["claimed"]] == [(first, 1), (second, 1)]
    assert mine["refused"] == []
    assert [item["call_id"] for item in theirs["claimed"]] == [third]
    assert [(item["call_id"], item["reason"]) for item in theirs["refused"]] == [(first, "claimed")]
    assert 0 < theirs["refused"][0]["retry_after"] <= 60
    assert renewed["claimed"][0]["claim"] == 1
    assert renewed["claimed"][0]["lease_until"] > mine["claimed"][0]["lease_until"]
    assert shown[0]["claim"] == {"worker": "a", "claim": 1, "lease_until": renewed["claimed"][0]["lease_until"]}
    assert given_back["claimed"][0]["claim"] == 1
    assert next_one["claimed"][0]["claim"] == 2
    assert task.status()["seq"] == seq

    lost = task.post(result(first, "late", claim=1))
    assert refused(lost) == (409, "claim_lost")
    assert lost.json()["detail"]["results"] == [{"call_id": first, "state": "lost", "reason": "claim"}]
    assert task.post(result(first, "mine", claim=2), result(second, "no claim")).status_code == 200
    assert claim(task, "a", first).json() == {"claimed": [], "refused": [{"call_id": first, "reason": "answered"}]}
    task.post(result(third, "3", claim=1))
    assert task.ended()["result"] == '[["mine","no claim","3"]]'
    assert refused(claim(task, "a", "call_0000000000000000")) == (409, "run_not_awaiting_tools")


def test_of_many_workers_one_claims_each_call(server: ServerProcess) -> None:
    with server.client() as client:
        task = start(client, "rounds", "1", "4")
        calls = task.paused()

        def take(worker: int) -> list[str]:
            with server.client() as own:
                mine = Task(own, task.agent, task.number, task.run_id)
                return [item["call_id"] for item in claim(mine, f"w{worker}", *calls).json()["claimed"]]

        with ThreadPoolExecutor(8) as pool:
            taken = [call for some in pool.map(take, range(8)) for call in some]
        task.post(*(result(call) for call in calls))
        task.ended()

    assert sorted(taken) == sorted(calls)


def test_what_is_no_claim_is_refused(client: httpx.Client) -> None:
    task = start(client, "clock")
    (call,) = task.paused()
    path = f"/api/agent/clock/{task.number}/tool_calls/claim"

    assert refused(claim(task, "a")) == (422, "no_tool_responses")
    assert refused(claim(task, "a", call, call)) == (422, "duplicate_call_ids_in_request")
    assert refused(claim(task, "a", "call_0000000000000000")) == (422, "tool_call_ids_mismatch")
    assert refused(claim(task, "a", call, seconds=4)) == (422, "invalid_request")
    assert refused(claim(task, "", call)) == (422, "invalid_request")
    assert refused(client.post(path, json={"worker": "a", "call_ids": [call], "more": 1})) == (422, "invalid_request")
    assert task.status()["task_info"]["pending_tool_calls"][0]["claim"] is None
