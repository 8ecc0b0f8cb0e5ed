"""Whoever asks, what the caller sees is the same."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.tasks import result, start


@pytest.mark.parametrize(
    ("agent", "node", "names"),
    [
        ("clock", "clock", ["clock", "clock"]),
        ("sync_clock", "sync_clock", ["sync_clock", "sync_clock"]),
        ("step_clock", "look_up", ["look_up", "look_up", "step_clock"]),
    ],
)
def test_code_of_every_kind_asks_in_the_same_way(client: httpx.Client, agent: str, node: str, names: list[str]) -> None:
    task = start(client, agent)
    (call,) = task.paused()
    status = task.status()
    asked: dict[str, Any] = status["task_info"]
    task.post(result(call, "noon"))
    row = task.ended()

    (shown,) = asked["agent_node_execution_statuses"]
    (pending,) = asked["pending_tool_calls"]
    assert (status["status"], asked["paused_for_tool_calls"], asked["round"]) == ("awaiting_tool_calls", True, 1)
    assert shown["node_name"] == node
    assert shown["tool_call_requests"] == [
        {
            "id": call,
            "call_id": call,
            "type": "function_call",
            "name": "get_current_time",
            "namespace": "",
            "arguments": "{}",
        }
    ]
    assert (pending["name"], pending["arguments"], pending["on_expiry"]) == ("get_current_time", "{}", "error")
    assert row["status"] == "completed"
    assert "noon" in row["result"]
    assert [item["node_name"] for item in row["prior_nodes_execution_records"]] == names
    assert row["prior_nodes_execution_records"][0]["tool_call_responses"][0]["output"] == "noon"
