"""
Ask once, and print the answer as it comes.

    ENGINE_KEY=dev-engine-key python examples/engine/quickstart.py
"""

import json
import os

import httpx

URL = os.environ.get("ENGINE_URL", "http://localhost:8000")
HEADERS = {"X-Engine-Key": os.environ["ENGINE_KEY"]}


def ask(message: str, task_id: str) -> None:
    body = {"message": message, "task_id": task_id}
    with (
        httpx.Client(timeout=None, headers=HEADERS) as client,
        client.stream("POST", f"{URL}/execute", json=body) as response,
    ):
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data:"):
                data = json.loads(line[len("data:") :].strip())
                # Only pieces of text have this field; all else is for programs that want to know more.
                if "text" in data:
                    print(data["text"], end="", flush=True)
        print()


if __name__ == "__main__":
    ask("Say hello in one short sentence.", task_id="quickstart")
