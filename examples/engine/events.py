"""
Look at every event, and answer what the agent asks.

    ENGINE_KEY=dev-engine-key python examples/engine/events.py "What time is it, and what is 2 + 3?"
    ENGINE_KEY=dev-engine-key python examples/engine/events.py "Ask me which colour I like."
"""

import json
import os
import sys
from typing import Any

import httpx

URL = os.environ.get("ENGINE_URL", "http://localhost:8000")
HEADERS = {"X-Engine-Key": os.environ["ENGINE_KEY"]}


def handle(event: str | None, data: dict[str, Any]) -> None:
    if event == "text_delta":
        print(data["text"], end="", flush=True)
    elif event == "tool_call":
        print(f"[{data['tool']} {json.dumps(data['input'])}]")
    elif event == "tool_result":
        print(f"[{data['tool']}: {data.get('error') or data['output'][:60]}]")
    elif event == "hitl_request":
        answer = input(f"{data['question']} ")
        body = {"task_id": data["task_id"], "answer": answer, "request_id": data["request_id"]}
        httpx.post(f"{URL}/hitl/respond", json=body, headers=HEADERS).raise_for_status()
    elif event == "thread_lifecycle" and data["phase"] != "started":
        print(f"\n[{data['phase']}]")


def ask(message: str, task_id: str) -> None:
    body = {"message": message, "task_id": task_id}
    with httpx.stream("POST", f"{URL}/execute", json=body, headers=HEADERS, timeout=None) as response:
        response.raise_for_status()
        event = None
        for line in response.iter_lines():
            if line.startswith("event:"):
                event = line[len("event:") :].strip()
            elif line.startswith("data:"):
                handle(event, json.loads(line[len("data:") :].strip()))


if __name__ == "__main__":
    ask(" ".join(sys.argv[1:]) or "What time is it?", task_id=f"events-{os.getpid()}")
