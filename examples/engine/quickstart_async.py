"""
The same with asyncio.

    ENGINE_KEY=dev-engine-key python examples/engine/quickstart_async.py
"""

import asyncio
import json
import os

import httpx

URL = os.environ.get("ENGINE_URL", "http://localhost:8000")
HEADERS = {"X-Engine-Key": os.environ["ENGINE_KEY"]}


async def ask(message: str, task_id: str) -> None:
    body = {"message": message, "task_id": task_id}
    async with (
        httpx.AsyncClient(timeout=None, headers=HEADERS) as client,
        client.stream("POST", f"{URL}/execute", json=body) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                data = json.loads(line[len("data:") :].strip())
                if "text" in data:
                    print(data["text"], end="", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(ask("Say hello in one short sentence.", task_id="quickstart-async"))
