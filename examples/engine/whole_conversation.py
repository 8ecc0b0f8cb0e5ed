"""
A whole conversation as a person has it, with a server of its own and the offline model: a question, a tool that needs a
permission, a refusal, a question that outlives a restart, memory in a later task, feedback, an edit of what was said.

    python examples/engine/whole_conversation.py
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

KEY = "whole-conversation-key"
# Whoever runs this server wants to be asked before a sum.
POLICY = [{"tool": "sum", "action": "ask", "rule": "sums"}]


class Server:
    """`holdfast serve` with its data in one directory; it may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[httpx.Client]:
        settings = {"HOLDFAST_KEYS": KEY, "HOLDFAST_CATALOG": str(self.directory / "catalog")}
        command = [sys.executable, "-m", "holdfast", "serve", "--port", str(self.port)]
        command += ["--data", str(self.directory / "data")]
        process = subprocess.Popen(
            command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            headers = {"X-Engine-Key": KEY}
            with httpx.Client(base_url=self.url, headers=headers, timeout=None, trust_env=False) as client:
                while not is_ready(client):
                    if process.poll() is not None:
                        raise SystemExit(f"the server ended with {process.returncode}")
                    time.sleep(0.1)
                yield client
        finally:
            process.terminate()
            process.wait()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def frames(client: httpx.Client, method: str, path: str, **call: Any) -> Iterator[dict[str, Any]]:
    """The frames of a stream."""
    with client.stream(method, path, **call) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def say(client: httpx.Client, task_id: str, message: str, *, answer: str | None = None, **more: Any) -> str:
    """Send a message, answer what is asked, and return what the assistant said."""
    print(f"> {message}")
    said = ""
    body = {"task_id": task_id, "message": message, **more}
    for frame in frames(client, "POST", "/execute", json=body):
        if frame["type"] == "hitl_request":
            print(f"  [{frame['kind']}] {frame['question']}")
            if answer is None:
                print("  … nobody answers for now")
                return said
            respond(client, task_id, answer, frame["request_id"])
        elif frame["type"] == "tool_result":
            print(f"  [{frame['tool']}] {frame.get('error') or 'done'}")
        elif frame["type"] == "text_delta":
            said += frame["text"]
        elif frame["type"] == "error":
            raise SystemExit(f"{frame['error']}: {frame['message']}")
    print(said)
    return said


def respond(client: httpx.Client, task_id: str, answer: str, request_id: str) -> None:
    print(f"  > {answer}")
    body = {"task_id": task_id, "answer": answer, "request_id": request_id}
    client.post("/hitl/respond", json=body).raise_for_status()


def before_the_restart(client: httpx.Client) -> None:
    say(client, "monday", "Say hello in one short sentence.")
    say(client, "monday", "What is 2 + 3?", answer="yes")
    say(client, "monday", "What is 4 + 5?", answer="no")
    note = {"subject": "billing", "content": "The Café pays on the 5th.", "type": "rule"}
    say(client, "monday", f"Use the tool knowledge_write with {json.dumps(note, ensure_ascii=False)}")
    say(client, "monday", "Ask me which colour I like.")


def after_the_restart(client: httpx.Client) -> None:
    (pending,) = client.get("/hitl/pending", params={"task_id": "monday"}).json()["pending"]
    print(f"  [still open until {pending['expires_at'][:10]}] {pending['question']}")
    respond(client, "monday", "green", pending["request_id"])
    found = list(frames(client, "GET", "/execute/replay", params={"turn_id": pending["turn_id"]}))
    print("".join(frame["text"] for frame in found if frame["type"] == "text_delta"))

    say(client, "tuesday", 'Use the tool knowledge_search with {"query": "cafe"}')
    correction = {"task_id": "tuesday", "feedback_type": "correction", "correction": "The Café pays on the 6th now."}
    client.post("/feedback", json=correction).raise_for_status()
    known = client.post("/memory/knowledge/search", json={"query": "cafe 6th"}).json()[0]
    print(f"  [known since the feedback] {known['content']}")

    messages = client.get("/tasks/monday/messages").json()["messages"]
    say(client, "monday", "Say hello in French.", edit_message_id=messages[0]["message_id"])
    left = client.get("/tasks/monday/messages").json()["messages"]
    print(f"  [messages before the edit: {len(messages)}, after it: {len(left)}]")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory))
        (server.directory / "catalog").mkdir()
        (server.directory / "catalog" / "policy.json").write_text(json.dumps(POLICY))
        with server.running() as client:
            before_the_restart(client)
        print("--- the server is stopped, and started again ---")
        with server.running() as client:
            after_the_restart(client)


if __name__ == "__main__":
    main()
