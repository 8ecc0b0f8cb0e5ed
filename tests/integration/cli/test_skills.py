"""`holdfast skills run`: at a running server, and at one that is started for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.commands import Server, holdfast, succeeded

pytestmark = pytest.mark.slow


def test_a_skill_is_run_at_the_running_server(server: Server) -> None:
    output = succeeded("skills", "run", "my.skill", "--input", "text=Hello world", folder=server.folder)

    assert json.loads(output) == {"result": "Hello world"}


def test_its_frames_are_json_for_programs(server: Server) -> None:
    output = succeeded("skills", "run", "my.skill", "--inputs", '{"text": "x"}', "--json", folder=server.folder)

    frames = [json.loads(line) for line in output.splitlines()]
    assert [frame["type"] for frame in frames] == [
        "skill_start",
        "step_start",
        "step_completed",
        "skill_completed",
        "done",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no skill 'nothing'"),
        (["my.skill"], "'text' is required"),
        (["my.skill", "--input", "text"], "NAME=VALUE"),
        (["my.skill", "--inputs", "[1]"], "must be a JSON object"),
        (["news.briefing", "--input", "articles=one"], "give it as JSON"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_sentence(server: Server, arguments: list[str], said: str) -> None:
    done = holdfast("skills", "run", *arguments, folder=server.folder)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_server_one_is_started_for_the_run_and_stopped(tmp_path: Path) -> None:
    succeeded("skills", "new", "notes.shorten", folder=tmp_path)

    output = succeeded("skills", "run", "notes.shorten", "--input", "text=All of it.", folder=tmp_path)

    assert json.loads(output) == {"result": "All of it."}
    assert not (tmp_path / ".holdfast/server.json").exists()
    assert (
        json.loads(succeeded("keys", "list", "--json", folder=tmp_path)) == []
    )  # the first start of a server still shows one
