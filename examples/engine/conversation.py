"""
Go on with a conversation: what has the same `task_id` belongs together, also tomorrow and after a restart.

    ENGINE_KEY=dev-engine-key python examples/engine/conversation.py
"""

import json
import os

import httpx

URL = os.environ.get("ENGINE_URL", "http://localhost:8000")
HEADERS = {"X-Engine-Key": os.environ["ENGINE_KEY"]}


def ask(client: httpx.Client, message: str, task_id: str) -> str:
    """Send one message and return the whole answer."""
    answer = ""
    with client.stream("POST", f"{URL}/execute", json={"message": message, "task_id": task_id}) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data:"):
                answer += json.loads(line[len("data:") :].strip()).get("text", "")
    return answer


if __name__ == "__main__":
    task_id = f"conversation-{os.getpid()}"
    with httpx.Client(timeout=None, headers=HEADERS) as client:
        print(ask(client, "Say hello in one short sentence.", task_id))
        print(ask(client, "Repeat what you just said in French.", task_id))
