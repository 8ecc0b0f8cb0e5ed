"""Statuses, nodes and rows: one picture of a run, whichever call shows it."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest

from tests.support.tasks import result, start

NODE_TEXTS = ("node_name", "current_step_input", "full_output")
ROW_FIELDS = {
    *("task_id", "id", "run_id", "agent_id", "workflow_id", "agent_name", "version", "environment", "status"),
    *("result", "seq", "started_at", "completed_at", "tokens_in", "tokens_out", "num_steps", "metadata"),
    *("initial_inputs", "parent_task_id", "subgraph_task_id", "tenant_id", "failure_code", "failure_reason"),
    *("failure_code_details", "cancel_reason", "grader_result", "execution_context", "timestamp"),
    *("executed_node_records", "prior_nodes_execution_records"),
}
AWKWARD = '\u2028 \u0085 \x00 \U0001f600 ä "\\ \n end'


def check_status(status: dict[str, Any]) -> None:
    """What the documented models demand of a task status."""
    info = status["task_info"]
    assert isinstance(status["completed"], bool)
    assert status["completed"] == (status["status"] in ("completed", "failed", "cancelled"))
    assert info["paused_for_tool_calls"] == (status["status"] == "awaiting_tool_calls")
    for node in info["agent_node_execution_statuses"]:
        check_node(node)
    if info["paused_for_tool_calls"]:
        last = info["agent_node_execution_statuses"][-1]
        assert [call["call_id"] for call in last["tool_call_requests"]] == [
            call["call_id"] for call in info["pending_tool_calls"]
        ]
    else:
        assert info["pending_tool_calls"] == []


def check_node(node: dict[str, Any]) -> None:
    assert all(isinstance(node[name], str) for name in NODE_TEXTS)
    assert node["node_exit_tool_call_request"] is None
    for call in node["tool_call_requests"]:
        assert call["id"] == call["call_id"]
        assert re.fullmatch("call_[0-9a-f]{16}", call["call_id"])
        assert call["type"] == "function_call"
        assert isinstance(call["arguments"], str)
    for answer in node["tool_call_responses"]:
        assert answer["type"] == "function_call_output"
        assert isinstance(answer["output"], str)


def test_every_picture_of_a_run_of_three_rounds_fits(client: httpx.Client) -> None:
    task = start(client, "rounds", "3", "2")
    statuses = [task.status()]
    for number in range(1, 4):
        calls = task.paused()
        statuses.append(task.status())
        assert statuses[-1]["task_info"]["round"] == number
        half = task.post(result(calls[1], f"{number}b")).json()
        assert half["message"] == "1 stored, 1 pending"
        assert (half["round"], half["round_complete"], half["pending"]) == (number, False, [calls[0]])
        statuses.append(task.status())
        node = statuses[-1]["task_info"]["agent_node_execution_statuses"][-1]
        assert [item["call_id"] for item in node["tool_call_requests"]] == [calls[0]]
        assert [item["call_id"] for item in node["tool_call_responses"]] == [calls[1]]
        assert task.post(result(calls[0], f"{number}a")).json()["round_complete"] is True
    row = task.ended()
    statuses.append(task.status())

    for status in statuses:
        check_status(status)
    for node in row["prior_nodes_execution_records"]:
        check_node(node)
    assert row.keys() == ROW_FIELDS
    assert row["result"] == '[["1a","1b"],["2a","2b"],["3a","3b"]]'
    names = [node["node_name"] for node in row["prior_nodes_execution_records"]]
    assert names == ["rounds"] * 4
    assert row["num_steps"] == 4
    request = row["prior_nodes_execution_records"][0]["tool_call_requests"][0]
    assert (request["namespace"], request["name"], request["arguments"]) == ("crm", "find_0", '{"round":0}')
    assert row["started_at"] < row["completed_at"]


def test_failed_and_cancelled_runs_say_why(client: httpx.Client) -> None:
    failed = start(client, "broken").ended()
    paused = start(client, "clock")
    paused.paused()
    cancel = client.post(f"/api/workflow/runs/{paused.number}/schedule-cancel", json={"reason": "no longer"})
    again = client.post(f"/api/workflow/runs/{paused.number}/schedule-cancel/")
    row = paused.ended()
    over = client.post(f"/api/workflow/runs/{failed['task_id']}/schedule-cancel", json={})

    assert (failed["status"], failed["failure_code"], failed["result"]) == ("failed", "agent_execution_error", None)
    assert "no such topic" in failed["failure_reason"]
    assert cancel.json() == again.json() == {"success": True, "status": "cancelled"}
    assert (row["status"], row["cancel_reason"], row["failure_code"]) == ("cancelled", "no longer", None)
    assert over.json() == {"success": True, "status": "failed"}
    check_status(paused.status())


def test_a_run_is_cancelled_while_it_executes_and_its_late_answers_are_void(
    client: httpx.Client, tmp_path: Any
) -> None:
    executing = start(client, "gated", str(tmp_path / "never"))
    before = time.monotonic()
    client.post(f"/api/workflow/runs/{executing.number}/schedule-cancel", json={})
    assert executing.ended()["status"] == "cancelled"
    assert time.monotonic() - before < 10
    paused = start(client, "rounds", "1", "2")
    first, second = paused.paused()
    paused.post(result(first, "kept"))
    client.post(f"/api/workflow/runs/{paused.number}/schedule-cancel", json={})

    late = paused.post(result(second))
    repeated = paused.post(result(first, "kept"))

    assert (late.status_code, late.json()["detail"]["code"]) == (409, "run_not_awaiting_tools")
    assert (repeated.status_code, repeated.json()["results"][0]["state"]) == (200, "repeated")
    assert (repeated.json()["round_complete"], repeated.json()["pending"]) == (True, [])


def test_a_question_is_shown_and_is_answered_elsewhere(client: httpx.Client) -> None:
    task = start(client, "asking")
    (call,) = task.paused()
    while not (waiting := task.status()["task_info"]["waiting_for"]):
        pass
    path = f"/runs/{task.run_id}/interrupts/{waiting[0]['interrupt_id']}"
    assert client.post(path, json={"answer": "b"}).status_code == 200
    status = task.status()
    task.post(result(call, "seen"))
    row = task.ended()

    assert (waiting[0]["kind"], waiting[0]["question"], waiting[0]["choices"]) == ("question", "Which one?", ["a", "b"])
    assert status["status"] == "awaiting_tool_calls"
    assert row["result"] == '["seen","b"]'


@pytest.mark.parametrize("size", [3, 300_000])
def test_nodes_are_steps_rounds_and_the_result_and_old_texts_go_first(client: httpx.Client, size: int) -> None:
    task = start(client, "steps", str(size))
    (call,) = task.paused()
    open_status = task.status()
    task.post(result(call, "x" * 200_000))
    row = task.ended()
    status = task.status()
    nodes = status["task_info"]["agent_node_execution_statuses"]

    assert [node["node_name"] for node in nodes] == ["first", "steps", "second", "steps"]
    assert open_status["task_info"]["pending_tool_calls"][0]["arguments"] == '{"for":"%s"}' % ("b" * min(size, 1000))
    assert nodes[1]["tool_call_responses"][0]["output"] == "x" * 200_000
    assert status["task_info"]["truncated"] is False
    assert row["prior_nodes_execution_records"][0]["full_output"] == "a" * size


def test_over_a_mebibyte_the_oldest_texts_are_emptied_in_statuses_alone(client: httpx.Client) -> None:
    task = start(client, "steps", "700000")
    (call,) = task.paused()
    task.post(result(call, "y" * 200_000))
    row = task.ended()
    status = task.status()
    nodes = status["task_info"]["agent_node_execution_statuses"]

    assert status["task_info"]["truncated"] is True
    assert nodes[0]["full_output"] == ""
    assert nodes[2]["full_output"] == "c" * 700_000
    assert [len(node["full_output"]) for node in row["prior_nodes_execution_records"]] == [700_000, 0, 700_000, 200_000]


def test_awkward_text_is_the_same_everywhere(client: httpx.Client) -> None:
    task = start(client, "steps", "1")
    (call,) = task.paused()
    task.post(result(call, AWKWARD))
    row = task.ended()
    with task.stream() as stream:
        (frame,) = [frame for frame in stream if frame.event]

    shown = frame.data["task_status"]["task_info"]["agent_node_execution_statuses"]
    status = task.status()["task_info"]["agent_node_execution_statuses"]
    assert row["result"] == AWKWARD
    assert {nodes[1]["tool_call_responses"][0]["output"] for nodes in (shown, status)} == {AWKWARD}
    assert row["prior_nodes_execution_records"][-1]["full_output"] == AWKWARD
