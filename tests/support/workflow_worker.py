"""
`python -m tests.support.workflow_worker URL AGENT TASK FOLDER POINT MARK`: a client process that executes the calls of a
run, and stands still at a point until it is killed. FOLDER holds its ledger and `effects`: a line for each handler that
began and for each that finished.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from holdfast.client.workflow import Answer, Begun, FileLedger, WorkflowClient, at_most_once

POINTS = ("before handler", "in handler", "before post", "after post", "none")


async def main() -> None:
    url, agent, task, folder, point, mark = sys.argv[1:]
    reached = Path(folder) / "reached"
    effects = Path(folder) / "effects"

    async def stand(here: str) -> None:
        if here == point:
            reached.touch()
            await asyncio.Event().wait()

    def note(line: str) -> None:
        with effects.open("a") as file:
            file.write(f"{line}\n")

    class Standing(FileLedger):
        async def begin(self, key: tuple[int, str]) -> Begun:
            begun = await super().begin(key)
            await stand("before handler")
            return begun

        async def finish(self, key: tuple[int, str], answer: Answer) -> None:
            await super().finish(key, answer)
            await stand("before post")

    async def look(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        note("begun")
        await stand("in handler")
        note("finished")
        return "noon"

    ledger = Standing(Path(folder) / "ledger")
    async with WorkflowClient(url, ledger=ledger) as client:
        client.set_api_key("test-key")
        request = client._http.request

        async def requesting(method: str, path: str, **given: Any) -> Any:
            try:
                return await request(method, path, **given)
            finally:
                # Also where the end of the run comes before the reply. Nothing else of this process may go on.
                if path.endswith("/tool_responses") and point == "after post":
                    reached.touch()
                    threading.Event().wait()

        client._http.request = requesting  # type: ignore[method-assign]
        handler = at_most_once(look) if mark == "at_most_once" else look
        result = await client.attach(agent, int(task), tools={"get_current_time": handler})
    await ledger.aclose()
    sys.stdout.write(f"{result.status} {result.result}\n")


if __name__ == "__main__":
    asyncio.run(main())
