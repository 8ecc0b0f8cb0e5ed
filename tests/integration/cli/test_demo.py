"""`holdfast demo`, as whoever tries Holdfast for the first time has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.demo_agent import LINES
from holdfast.cli.demonstration import story_of
from tests.integration.cli.commands import holdfast

pytestmark = [pytest.mark.slow, pytest.mark.crash]


def test_the_demonstration_kills_a_server_and_loses_nothing(tmp_path: Path) -> None:
    """Whatever the user's own settings are: they do not reach it."""
    settings: Any = {"HOLDFAST_STORE": "postgres://nowhere", "ENGINE_API_KEY": "one", "ENGINE_KEY_HASH": "two"}

    done = holdfast("demo", folder=tmp_path, TMPDIR=str(tmp_path), **settings)

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"kill -9 \d+", done.stdout)
    assert "0 events lost" in done.stdout
    assert "0 events repeated" in done.stdout
    assert "✗" not in done.stdout
    assert done.stdout.count(LINES[-1]) == 1
    assert list(tmp_path.iterdir()) == []


def test_void_text_is_no_part_of_the_story() -> None:
    def token(sequence: int, content: str) -> dict[str, object]:
        return {"type": "token", "sequence": sequence, "content": content}

    events = [
        token(1, "a "),
        token(2, "b"),
        {"type": "restarted", "sequence": 3, "discard": [[2, 2]]},
        token(4, "b "),
        token(5, "c"),
    ]

    assert story_of(events) == "a b c"
