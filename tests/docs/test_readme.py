"""The README tells the truth: its snippets are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.server import running_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
AGENT, CLIENT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_stand_first_and_exist() -> None:
    shown = re.findall(r"^    make (\w+) ", README, re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert shown == ["run", "test"]
    assert README.index("make run") < README.index("## ")
    assert set(shown) <= set(targets)


def test_the_agent_streams_waits_and_goes_on_after_its_server_was_killed(tmp_path: Path) -> None:
    agents = tmp_path / "invoice.py"
    agents.write_text(AGENT)
    data = tmp_path / "data"
    started = re.search(r"curl -N 'localhost:8000(/invoke/stream\?run_id=q-1)' .*-d '(.*?)'", README, re.DOTALL)
    continued = re.search(r"curl -N 'localhost:8000(/runs/q-1/events\?from_sequence=3)' ", README)
    assert started is not None
    assert continued is not None

    with running_server(data, agents=agents) as server, server.client() as client:
        headers = {"Content-Type": "application/json"}
        with client.stream("POST", started[1], content=started[2], headers=headers) as reply:
            seen = _until(reply, "event: interrupt")
        server.kill()
    with running_server(data, agents=agents) as server, server.client() as client:
        asked = client.get("/runs/q-1/interrupts").json()["interrupts"][0]["interrupt_id"]
        answered = client.post(f"/runs/q-1/interrupts/{asked}", json={"answer": "yes"})
        rest = client.get(continued[1]).text

    assert "event: token" in seen
    assert answered.status_code == 200
    assert rest.count("id: 3\n") == 1
    assert '"output":{"paid":true}' in rest


def test_the_client_prints_the_assistants_answer(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", agents=None, key="secret") as server:
        code = CLIENT.replace("http://localhost:8000", server.url)
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}, timeout=60
        )

    assert printed.stdout.startswith("Hello")


def _until(reply: httpx.Response, line: str) -> str:
    lines: list[str] = []
    for found in reply.iter_lines():
        lines.append(found)
        if found == line:
            break
    return "\n".join(lines)
