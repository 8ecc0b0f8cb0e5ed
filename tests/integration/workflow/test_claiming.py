"""Claims among processes: one that stands still loses its calls to another, and changes nothing when it goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.workflow import WorkflowClient
from tests.support.server import ServerProcess
from tests.support.sse import read_all
from tests.support.tasks import result, start
from tests.support.until import until

ROOT = Path(__file__).parents[3]
LEASE_SECONDS = 5  # the shortest that there is


def worker(*arguments: str) -> subprocess.Popen[str]:
    """Begin `claiming_worker`."""
    command = [sys.executable, "-m", "tests.support.claiming_worker", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.one_store("what a claim means in the stores is in the contract's tests")
async def test_the_call_of_a_stopped_holder_is_done_by_another_when_its_lease_is_over(
    server: ServerProcess, tmp_path: Path
) -> None:
    async def find(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        return "second"

    with server.client() as http:
        task = start(http, "rounds", "1", "1")
        (call,) = task.paused()
        first = worker(server.url, "rounds", str(task.number), str(tmp_path), str(LEASE_SECONDS))
        try:
            await until(lambda: (tmp_path / "began").exists() or first.poll() is not None, seconds=30)
            first.send_signal(signal.SIGSTOP)
            held = task.status()["task_info"]["pending_tool_calls"][0]["claim"]
            async with WorkflowClient(server.url, claim=LEASE_SECONDS, worker="second") as second:
                second.set_api_key("test-key")
                final = await second.attach("rounds", task.number, tools={"find_0": find})
            (tmp_path / "go").touch()
            first.send_signal(signal.SIGCONT)
            output, _ = await asyncio.to_thread(first.communicate, timeout=30)
        finally:
            first.kill()
            first.wait()
        late = task.post(result(call, "first", claim=held["claim"]))
        events = read_all(http, "GET", f"/runs/{task.run_id}/events")

    answered = next(frame.data for frame in events if frame.event == "tool_result")
    waited = datetime.fromisoformat(answered["timestamp"]) - datetime.fromisoformat(held["lease_until"])
    assert (held["worker"], held["claim"]) == ("first", 1)
    assert (final.status, final.result) == ("completed", '[["second"]]')
    assert 0 <= waited.total_seconds() < 1
    assert output.strip() == 'completed [["second"]]'
    assert (late.status_code, late.json()["detail"]["code"]) == (409, "tool_responses_already_submitted")
