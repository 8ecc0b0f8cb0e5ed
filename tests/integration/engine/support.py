"""What the tests of the Engine API share: starting turns, reading frames, and what holds for every stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.sse import Frame, events, frames

AGENTS = Path(__file__).with_name("agents.py")


class Engine:
    """Calls of the Engine API. Everything that is read goes through the checks of `check_turn`."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def execute(self, message: str | None = None, task_id: str = "demo", **fields: Any) -> list[Frame]:
        """A whole turn."""
        headers = fields.pop("headers", {})
        body = {"task_id": task_id, **({} if message is None else {"message": message}), **fields}
        with self.client.stream("POST", "/execute", json=body, headers=headers) as response:
            assert response.status_code == 200, response.read()
            found = list(events(response))
        check_turn(found)
        return found

    def begin(self, message: str, task_id: str = "demo", **fields: Any) -> str:
        """Start a turn and leave when its first token or question is there; its id."""
        headers = fields.pop("headers", {})
        body = {"task_id": task_id, "message": message, **fields}
        with self.client.stream("POST", "/execute", json=body, headers=headers) as response:
            assert response.status_code == 200, response.read()
            for frame in events(response):
                if frame.event not in ("thread_lifecycle", "heartbeat"):
                    return str(frame.data["turn_id"])
        raise AssertionError("the turn ended before anything came")

    def replay(self, *, headers: Mapping[str, str] | None = None, **query: Any) -> list[Frame]:
        """A whole replay, to the end of its body."""
        with self.client.stream("GET", "/execute/replay", params=query, headers=headers) as response:
            assert response.status_code == 200, response.read()
            return list(events(response))

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers=headers)

    def respond(self, task_id: str, answer: str, **fields: Any) -> httpx.Response:
        return self.post("/hitl/respond", {"task_id": task_id, "answer": answer, **fields})

    def cancel(self, task_id: str, **fields: Any) -> httpx.Response:
        return self.post("/execute/cancel", {"task_id": task_id, **fields})


def check_turn(found: Sequence[Frame]) -> None:
    """The invariants of a whole turn's frames (specification, section 5)."""
    check_frames(found)
    real = [frame for frame in found if frame.event != "heartbeat"]
    numbered = [frame for frame in real if frame.id is not None]
    assert [frame.data["sequence"] for frame in numbered] == list(range(len(numbered)))
    assert [frame.id for frame in numbered] == [str(index) for index in range(len(numbered))]
    first, last = real[0], real[-1]
    assert (first.event, first.data["phase"]) == ("thread_lifecycle", "started")
    assert last.event == "thread_lifecycle"
    assert last.data["phase"] in ("completed", "errored")
    for frame in real[1:-1]:
        assert frame.event != "thread_lifecycle"
    for index, frame in enumerate(real):
        if frame.event == "error":
            assert index == len(real) - 2
            assert frame.id is None
            assert frame.data["sequence"] == last.data["sequence"]


def check_frames(found: Iterable[Frame]) -> None:
    """What holds for the frames of every stream."""
    before = -1.0
    for frame in found:
        data = frame.data
        assert data["type"] == frame.event
        assert {"type", "task_id", "turn_id", "sequence", "timestamp"} <= set(data)
        if frame.event in ("heartbeat", "replay_gap"):
            continue
        assert data["timestamp"] > before
        before = data["timestamp"]
        assert ("text" in data) == (frame.event in ("text_delta", "thinking_delta"))


def text_of(found: Iterable[Frame]) -> str:
    """What the quickstart prints: every top-level `text`."""
    return "".join(frame.data["text"] for frame in found if "text" in frame.data)


def datas(found: Iterable[Frame]) -> list[dict[str, Any]]:
    return [frame.data for frame in found]


def dumps(value: Any) -> str:
    return json.dumps(value)


__all__ = ["AGENTS", "Engine", "check_frames", "check_turn", "datas", "dumps", "frames", "text_of"]
