"""`holdfast skills …` without a server: what is in the files is listed, checked, begun and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from holdfast.agents.skill.drawing import mermaid
from holdfast.agents.skill.library import Library
from holdfast.cli.app import app
from holdfast.cli.screen import CliError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["skills", *arguments])


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, CliError)
    return result.exception.message


def test_a_new_skill_is_sound_and_listed(folder: Path) -> None:
    assert run("new", "notes.shorten").exit_code == 0

    assert run("validate").exit_code == 0
    listed = json.loads(run("list", "--json").stdout)
    assert [skill["id"] for skill in listed] == ["my.skill", "news.briefing", "news.publish", "notes.shorten"]
    assert "notes.shorten" in run("list").stdout


def test_a_skill_that_exists_is_left_alone(folder: Path) -> None:
    run("new", "my.skill")
    file = folder / "skills/my.skill.yaml"
    file.write_text("mine")

    assert "exists already" in refused("new", "my.skill")
    assert file.read_text() == "mine"


def test_an_id_that_is_none_is_refused(folder: Path) -> None:
    for wrong in ("My.Skill", "../x", "a b", "a..b"):
        assert "is no id" in refused("new", wrong)
    assert list(folder.iterdir()) == []


def test_problems_are_lines_of_file_line_and_column(folder: Path) -> None:
    run("new", "notes.shorten")
    file = folder / "skills/notes.shorten.skill.yaml"
    file.write_text(file.read_text().replace("text.content.summarize", "text.content.sumarize"))

    result = run("validate")

    assert result.exit_code == 1
    place = "skills/notes.shorten.skill.yaml:11:11"
    message = "there is no capability 'text.content.sumarize'; the nearest is 'text.content.summarize'"
    assert result.stdout.splitlines() == [f"{place}: error unknown_capability: {message}"]


def test_warnings_alone_are_no_failure(folder: Path) -> None:
    run("new", "notes.shorten")
    file = folder / "skills/notes.shorten.skill.yaml"
    file.write_text(file.read_text() + "triggers: []\n")

    result = run("validate")

    assert result.exit_code == 0
    assert "skills/notes.shorten.skill.yaml:14:1: warning triggers_ignored: " in result.stdout


def test_files_and_folders_are_checked_by_themselves(folder: Path) -> None:
    run("new", "good.one")
    run("new", "other.one", "--root", "other")
    bad = folder / "other/skills/bad.skill.yaml"
    bad.write_text("id: [")

    assert run("validate", "skills/good.one.skill.yaml").exit_code == 0
    assert run("validate", "skills").exit_code == 0
    assert run("validate", "other").exit_code == 1
    assert run("validate", "other/skills").stdout.startswith("other/skills/bad.skill.yaml:2:1: error yaml_invalid: ")
    assert run("validate", str(bad), "skills").stdout.count("\n") == 1
    assert "does not exist" in refused("validate", "nowhere")


def test_a_broken_skill_is_not_listed_but_said_to_be_there(folder: Path) -> None:
    (folder / "skills").mkdir()
    (folder / "skills/x.skill.yaml").write_text("id: [")

    result = run("list", "--json")

    assert len(json.loads(result.stdout)) == 3


def test_a_skill_is_drawn_with_what_waits_for_what(folder: Path) -> None:
    drawn = run("graph", "news.publish").stdout

    assert drawn.splitlines()[1] == "flowchart TD"
    assert '    s0[["brief<br/>skill:news.briefing"]]' in drawn
    assert '    s1_confirm{"Post this briefing?"}' in drawn
    assert "    s0 --> s1_confirm" in drawn
    assert "news.briefing" in refused("graph", "nothing")


def test_texts_in_a_drawing_cannot_break_it() -> None:
    library = Library([])
    library.refresh()
    skill = library.skill("news.briefing")
    assert skill is not None

    drawn = mermaid(skill)

    assert "for each article of inputs.articles" in drawn
    assert "s0 -.-> s1" not in drawn
    assert drawn.count('"') == 2 * len(skill.steps)
    assert "if inputs.guide_url != null" in drawn


def test_a_skill_with_errors_is_not_drawn(folder: Path) -> None:
    run("new", "notes.shorten")
    file = folder / "skills/notes.shorten.skill.yaml"
    file.write_text(file.read_text().replace("outputs.result", "result"))

    assert "has errors" in refused("graph", "notes.shorten")
