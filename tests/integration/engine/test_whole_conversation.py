"""The whole conversation of examples/engine, as it stands: everything that a person does with the assistant, once."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOREIGN = ("HOLDFAST_", "ENGINE_", "LLM_")


def test_a_whole_conversation_over_a_restart(tmp_path: Path) -> None:
    """Question, permission, refusal, an answer after a restart, memory in a later task, feedback, edit."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    began = datetime.now(UTC)

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/engine/whole_conversation.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("--- the server is stopped, and started again ---\n")
    said = before.splitlines()
    assert said[:12] == [
        "> Say hello in one short sentence.",
        "Hello, it is nice to meet you!",
        "> What is 2 + 3?",
        '  [permission] Allow sum to run: {"numbers":[2,3]}',
        "  > yes",
        "  [sum] done",
        "2 + 3 = 5.",
        "> What is 4 + 5?",
        '  [permission] Allow sum to run: {"numbers":[4,5]}',
        "  > no",
        "  [sum] permission_denied",
        "The tool sum did not work: permission_denied: a person said no",
    ]
    assert said[-2:] == ["  [question] Which colour do you like?", "  … nobody answers for now"]
    heard = after.splitlines()
    days = {(began + timedelta(days=3, hours=hours)).date().isoformat() for hours in (0, 1)}  # 72 h from then
    assert heard[0] in {f"  [still open until {day}] Which colour do you like?" for day in days}
    assert heard[1:3] == ["  > green", "You answered: green. Thank you!"]
    assert heard[4] == "  [knowledge_search] done"
    assert "'content': 'The Café pays on the 5th.'" in heard[5]
    assert heard[6:] == [
        "  [known since the feedback] The Café pays on the 6th now.",
        "> Say hello in French.",
        "Bonjour, ravi de faire votre connaissance !",
        "  [messages before the edit: 10, after it: 2]",
    ]
