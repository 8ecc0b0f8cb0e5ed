"""
A small server of the Workflow API in threads of the test's process, with the faults that a real one shows rarely.

It keeps the rules that a client relies on: a stream begins with a snapshot, shows what is newer than the cursor, and
ends with the run; the first answer of a call wins. It keeps no others.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

AGENT_ID = "a804f2f5-62be-57db-bcf5-54ff31a3a6d8"
ENDS = ("completed", "failed", "cancelled")


@dataclass
class FakeRun:
    """A run that asks for its rounds one after the other. `answers` are by call_id."""

    task_id: int
    rounds: list[list[tuple[str, str]]]  # full name, arguments as text
    body: dict[str, Any]
    status: str = "running"
    seq: int = 1
    round: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    expires_in: float = 3600.0

    def pending(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["call_id"] not in self.answers]

    def advance(self) -> None:
        """To the next round, or to the end."""
        self.seq += 1
        if self.round == len(self.rounds):
            self.status, self.calls = "completed", []
            return
        expires_at = (datetime.now(UTC) + timedelta(seconds=self.expires_in)).isoformat()
        self.status, self.calls = "awaiting_tool_calls", []
        for index, (full_name, arguments) in enumerate(self.rounds[self.round]):
            namespace, _, name = full_name.rpartition(".")
            call_id = f"call_{self.task_id}_{self.round}_{index}"
            call = {"id": call_id, "call_id": call_id, "type": "function_call", "name": name, "namespace": namespace}
            self.calls.append({**call, "arguments": arguments, "expires_at": expires_at})
        self.round += 1

    def end(self, status: str) -> None:
        self.seq += 1
        self.status, self.calls = status, []

    def shown(self) -> dict[str, Any]:
        info = {
            "task_id": self.task_id,
            "run_id": f"run-{self.task_id}",
            "agent_id": AGENT_ID,
            "paused_for_tool_calls": self.status == "awaiting_tool_calls",
            "pending_tool_calls": self.pending(),
            "agent_node_execution_statuses": [],
        }
        return {"completed": self.status in ENDS, "status": self.status, "seq": self.seq, "task_info": info}

    def row(self) -> dict[str, Any]:
        result = " ".join(answer["output"] for answer in self.answers.values()) if self.status == "completed" else None
        return {
            "task_id": self.task_id,
            "run_id": f"run-{self.task_id}",
            "agent_id": AGENT_ID,
            "agent_name": "clock",
            "status": self.status,
            "result": result,
            "seq": self.seq,
            "metadata": self.body.get("metadata") or {},
            "executed_node_records": [],
            "prior_nodes_execution_records": [{"node_name": "clock", "full_output": result or ""}],
        }


class FakeServer:
    """Its state; `changed` is held while it is read or changed. What each fault does is said at its name."""

    def __init__(self) -> None:
        self.url = ""
        self.changed = threading.Condition()
        self.runs: dict[int, FakeRun] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.rounds: list[list[tuple[str, str]]] = [[("get_current_time", "{}")]]
        self.expires_in = 3600.0
        self.key: str | None = None
        self.answer_first: list[tuple[str, int, dict[str, str], bytes]] = []  # path part, instead of what is due, once
        self.drop_reply: list[str] = []  # path part: done, but the connection dies before the answer, once
        self.cuts: list[int] = []  # the next streams end after so many bytes
        self.is_doubling = False  # every frame twice
        self.is_holding_streams = False  # a proxy that buffers
        self.first_frames: list[bytes] = []  # instead of a stream, once

    def run_of(self, task_id: int) -> FakeRun:
        with self.changed:
            return self.runs[task_id]

    def change(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        """Until `condition` is true."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition():
                assert time.monotonic() < deadline, "it did not come true in time"
                self.changed.wait(0.005)  # what is not ours tells nobody of its changes

    async def happens(self, condition: Callable[[], Any]) -> None:
        """The same for tests with an event loop."""
        await asyncio.to_thread(self.wait, condition)

    def made(self, method: str, part: str) -> list[tuple[dict[str, str], bytes]]:
        """The requests so far whose path has this part: headers and body."""
        with self.changed:
            return [(headers, body) for verb, path, headers, body in self.requests if verb == method and part in path]

    def start(self, body: dict[str, Any]) -> FakeRun:
        run = FakeRun(len(self.runs) + 1, self.rounds, body, expires_in=self.expires_in)
        self.runs[run.task_id] = run
        run.advance()
        return run

    def answered(self, run: FakeRun, results: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        states = []
        for result in results:
            first = run.answers.setdefault(result["call_id"], result)
            states.append("accepted" if first is result else "repeated" if first == result else "lost")
        if run.status == "awaiting_tool_calls" and not run.pending():
            run.advance()
        if "lost" in states and "accepted" not in states:
            return 409, {"detail": {"code": "tool_responses_already_submitted", "message": "another one was first"}}
        return 200, {"status": "accepted", "results": [{"state": state} for state in states]}


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    state = FakeServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def _serve(self, method: str) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state = self.state
        with state.changed:
            state.requests.append((method, self.path, dict(self.headers.items()), body))
            state.changed.notify_all()
            if instead := next((item for item in state.answer_first if item[0] in path), None):
                state.answer_first.remove(instead)
                return self._reply(instead[1], instead[3], instead[2])
        if state.key is not None and self.headers.get("X-API-Key") != state.key:
            return self._json(401, {"detail": {"code": "unauthorized", "message": "no such key"}})
        if path.endswith("/events"):
            return self._stream(self._run(path), query.get("since_seq"))
        with state.changed:
            status, answer = self._answer(method, path, body)
            state.changed.notify_all()
            if dropped := next((part for part in state.drop_reply if part in path), None):
                state.drop_reply.remove(dropped)
                self.close_connection = True
                return None
        return self._json(status, answer)

    def _run(self, path: str) -> FakeRun | None:
        numbers = re.findall(r"/(\d+)(?=/|$)", path)
        return self.state.runs.get(int(numbers[-1])) if numbers else None

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        state, run = self.state, self._run(path)
        if path.startswith("/api/workflow/execute/"):
            started = state.start(json.loads(body) if body.startswith(b"{") else {})
            names = [name for calls in state.rounds for name, _ in calls]
            told = {"task_id": started.task_id, "run_id": f"run-{started.task_id}", "agent_id": AGENT_ID}
            return 200, {**told, "status": "started", "client_tools": names, "webhook_endpoint_id": None}
        if path.endswith("/runs"):
            rows = [one.row() for one in state.runs.values() if one.status == "awaiting_tool_calls"]
            return 200, {"runs": rows, "next_before": None}
        if run is None:
            return 404, {"detail": {"code": "run_not_found", "message": "no such run"}}
        if path.endswith("/tool_responses"):
            return state.answered(run, json.loads(body)["results"])
        if path.endswith("/schedule-cancel"):
            if run.status not in ENDS:
                run.end("cancelled")
            return 200, {"success": True, "status": run.status}
        if path.startswith("/api/workflow/run/"):
            return 200, run.row()
        return 200, run.shown()

    # Answers

    def _json(self, status: int, answer: Any) -> None:
        self._reply(status, json.dumps(answer).encode(), {})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, run: FakeRun | None, since: str | None) -> None:
        state = self.state
        if run is None:
            return self._json(404, {"detail": {"code": "run_not_found", "message": "no such run"}})
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        with state.changed:
            left = state.cuts.pop(0) if state.cuts else None
            instead = state.first_frames.pop(0) if state.first_frames else None
        if instead is not None:
            self.wfile.write(instead)
            return None
        shown = 0
        while True:
            with state.changed:
                state.changed.wait_for(partial(_has_news, state, run, shown), 5)
                if run.seq <= shown or state.is_holding_streams:
                    return None
                shown, status = run.seq, run.shown()
            frame = f"id: {shown}\nevent: sync\ndata: {json.dumps({'type': 'sync', 'seq': shown, 'task_status': status})}\n\n"
            piece = frame.encode() * (2 if state.is_doubling else 1)
            if left is not None:
                piece, left = piece[:left], left - len(piece)
            self.wfile.write(piece)
            if status["completed"] or (left is not None and left <= 0):
                return None


def _has_news(state: FakeServer, run: FakeRun, shown: int) -> bool:
    return run.seq > shown and not state.is_holding_streams
