"""
`python -m tests.support.claiming_worker URL AGENT TASK FOLDER LEASE_SECONDS`: a client process that claims calls. Its
handler tells that it began by the file `began` in FOLDER, and returns once there is a file `go`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from holdfast.client.workflow import WorkflowClient


async def main() -> None:
    url, agent, task, folder, lease_seconds = sys.argv[1:]

    async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        (Path(folder) / "began").touch()
        while not (Path(folder) / "go").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
        return "first"

    async with WorkflowClient(url, claim=int(lease_seconds), worker="first") as client:
        client.set_api_key("test-key")
        result = await client.attach(agent, int(task), tools={"find_0": find})
    sys.stdout.write(f"{result.status} {result.result}\n")


if __name__ == "__main__":
    asyncio.run(main())
