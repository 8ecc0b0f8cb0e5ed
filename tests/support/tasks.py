"""A caller of the Workflow API without any client of ours: raw HTTP, and frames as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.sse import Frame, frames


class Task:
    """A started run, as its caller sees it."""

    def __init__(self, client: httpx.Client, agent: str, number: int, run_id: str) -> None:
        self.client, self.agent, self.number, self.run_id = client, agent, number, run_id
        self.path = f"/api/agent/{agent}/status/{number}"

    def status(self, **query: Any) -> dict[str, Any]:
        """The task status."""
        reply = self.client.get(self.path, params=query)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def paused(self) -> list[str]:
        """The ids of the pending calls, once there are some."""
        seq = -1
        while True:
            status = self.status(wait=20, since_seq=seq) if seq >= 0 else self.status()
            if status["status"] == "awaiting_tool_calls" or status["completed"]:
                return [call["call_id"] for call in status["task_info"]["pending_tool_calls"]]
            seq = status["seq"]

    def ended(self) -> dict[str, Any]:
        """The row of the run, once it is over."""
        seq = 0
        while not (status := self.status(wait=20, since_seq=seq))["completed"]:
            seq = status["seq"]
        row: dict[str, Any] = self.client.get(f"/api/workflow/run/{self.number}").json()
        return row

    def post(self, *results: dict[str, Any], **headers: str) -> httpx.Response:
        """Answer calls."""
        path = f"/api/agent/{self.agent}/{self.number}/tool_responses"
        return self.client.post(path, json={"results": list(results)}, headers=headers)

    @contextlib.contextmanager
    def stream(self, **headers: str) -> Iterator[Iterator[Frame]]:
        """The frames of the stream, comments included."""
        with self.client.stream("GET", f"{self.path}/events", headers=headers) as response:
            assert response.status_code == 200, response.read()
            yield (frame for frame in frames(response.iter_lines()) if frame.event or frame.comments)


def result(call_id: str, output: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"call_id": call_id, "type": "function_call_output", "output": output, **more}


def start(client: httpx.Client, agent: str, *strings: Any, **body: Any) -> Task:
    """Start a run; the strings fill the slots from 1 on."""
    inputs = {"strings": {str(place): text for place, text in enumerate(strings, 1)}, "images": {}}
    reply = client.post(f"/api/workflow/execute/{agent}", json={"inputs": inputs, **body})
    assert reply.status_code == 200, reply.text
    return Task(client, agent, reply.json()["task_id"], reply.json()["run_id"])


def syncs(found: Iterator[Frame]) -> list[dict[str, Any]]:
    """The data of all syncs up to the end of the stream."""
    return [frame.data for frame in found if frame.event == "sync"]
