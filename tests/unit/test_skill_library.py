"""
The library: which files it reads, and what becomes of it when they change.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from holdfast.agents.skill.library import Library
from holdfast.agents.skill.lookup import SkillInvalid
from tests.support.until import until

SKILL = """\
id: {id}
version: 1.0.0
name: Name
description: For a test.
inputs: {{text: {{type: string, required: true}}}}
outputs: {{result: {{type: string, required: true}}}}
steps:
  - id: shorten
    uses: text.content.summarize
    input: {{text: inputs.text, max_length: 100}}
    output: {{summary: vars.short}}
    config: {{condition: inputs.text != null, retry: {{max_attempts: 2}}, timeout_seconds: 10}}
  - id: show
    uses: text.content.template
    input: {{template: "{{{{a}}}}", variables: {{a: vars.short}}}}
    output: {{text: outputs.result}}
    config: {{depends_on: [shorten], gates: {{post: [{{capability: text.pii.check, on_fail: warn}}]}}}}
"""


def write(path: Path, id: str, **changes: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = SKILL.format(id=id)
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library([tmp_path])


def ids(library: Library) -> list[str]:
    return [skill.id for skill in library.skills() if skill.id.startswith("t.")]


def test_skills_are_found_where_they_may_be(tmp_path: Path, library: Library) -> None:
    write(tmp_path / "skills/t.a.skill.yaml", "t.a")
    write(tmp_path / "skills/web/news/daily/skill.yaml", "t.b")
    write(tmp_path / "skills/deep/er/still/more/skill.yaml", "t.c")
    write(tmp_path / "skills/other.yaml", "t.not")
    write(tmp_path / "t.not.skill.yaml", "t.not.either")

    library.refresh()

    assert ids(library) == ["t.a", "t.b", "t.c"]
    assert [(skill.channel, skill.domain) for skill in library.skills() if skill.id in ("t.a", "t.b", "t.c")] == [
        ("local", "t"),
        ("web", "news"),
        ("local", "t"),
    ]


def test_a_change_is_seen_by_the_next_refresh_and_nothing_else_becomes_new(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    write(tmp_path / "skills/b.skill.yaml", "t.b")
    assert library.refresh()
    first, other, definition = library.skill("t.a"), library.skill("t.b"), library.definition("skill:t.b")
    assert not library.refresh()
    assert library.definition("skill:t.b") is definition

    write(path, "t.a", Name="Another name")

    assert library.refresh()
    changed = library.skill("t.a")
    assert changed is not None
    assert changed.name == "Another name"
    assert changed is not first
    assert library.skill("t.b") is other


def test_two_changes_with_one_time_stamp_are_both_seen(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    library.refresh()
    stamp = path.stat()

    write(path, "t.a", Name="Eman")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    assert library.refresh()
    changed = library.skill("t.a")
    assert changed is not None
    assert changed.name == "Eman"


def test_a_file_that_comes_and_goes_comes_and_goes(tmp_path: Path, library: Library) -> None:
    library.refresh()
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    assert library.refresh()
    assert ids(library) == ["t.a"]

    path.unlink()

    assert library.refresh()
    assert ids(library) == []


def test_a_broken_change_is_told_and_the_former_version_is_not_used(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    write(tmp_path / "skills/b.skill.yaml", "t.b")
    library.refresh()

    write(path, "t.a", shorten="sho rten")

    assert library.refresh()
    assert ids(library) == ["t.b"]
    with pytest.raises(SkillInvalid) as caught:
        library.definition("skill:t.a")
    assert {problem.code for problem in caught.value.problems} == {"field_invalid"}


def test_a_file_that_is_no_yaml_any_more_has_errors_under_its_id(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    contract = tmp_path / "capabilities/c.yaml"
    contract.parent.mkdir()
    path.write_text(path.read_text() + "steps: [")
    contract.write_text("{id: 't.c', inputs: {")

    library.refresh()

    for target in ("skill:t.a", "capability:t.c"):
        with pytest.raises(SkillInvalid) as caught:
            library.definition(target)
        assert [problem.code for problem in caught.value.problems] == ["yaml_invalid"]


def test_a_touched_file_changes_nothing(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "skills/a.skill.yaml", "t.a")
    library.refresh()
    skill = library.skill("t.a")

    os.utime(path, (1, 1))

    assert not library.refresh()
    assert library.skill("t.a") is skill


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, library: Library) -> None:
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills/a.skill.yaml").symlink_to(tmp_path / "nowhere")

    library.refresh()

    assert [(problem.code, problem.line) for problem in library.problems()] == [("yaml_invalid", 1)]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path, library: Library) -> None:
    """A mounted volume keeps its files in such a folder, and links to them: they would all be there twice."""
    real = write(tmp_path / "skills/..2026/a.skill.yaml", "t.a")
    (tmp_path / "skills/a.skill.yaml").symlink_to(real)
    (tmp_path / "skills/.#a.skill.yaml").symlink_to(tmp_path / "nowhere")

    library.refresh()

    assert ids(library) == ["t.a"]
    assert library.problems() == []


def test_one_folder_under_two_names_is_one_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "skills/a.skill.yaml", "t.a")
    monkeypatch.chdir(tmp_path)
    library = Library([".", tmp_path])

    library.refresh()

    assert ids(library) == ["t.a"]
    assert library.problems() == []


async def test_a_library_that_is_followed_sees_changes_by_itself(tmp_path: Path, library: Library) -> None:
    following = asyncio.create_task(library.follow(0.001))
    write(tmp_path / "skills/a.skill.yaml", "t.a")

    await until(lambda: ids(library) == ["t.a"])

    following.cancel()


def test_a_library_with_nothing_but_what_is_built_in_needs_no_folder(tmp_path: Path) -> None:
    library = Library([tmp_path / "nowhere"])

    assert library.refresh()
    assert library.problems() == []


def test_a_file_named_by_itself_counts_more_than_all_roots(tmp_path: Path) -> None:
    write(tmp_path / "one/skills/a.skill.yaml", "t.a")
    path = write(tmp_path / "two/skills/a.skill.yaml", "t.a", Name="By itself")
    library = Library([tmp_path / "one"], files=[path])

    library.refresh()

    found = library.skill("t.a")
    assert found is not None
    assert found.name == "By itself"
    assert [problem.code for problem in library.problems()] == ["shadowed"]


@pytest.mark.slow
def test_a_thousand_skills_are_loaded_and_an_unchanged_one_is_not_again(tmp_path: Path, library: Library) -> None:
    """How long that takes is row S2 of the benchmarks."""
    for number in range(1000):
        write(tmp_path / f"skills/s{number}.skill.yaml", f"t.{number}")

    library.refresh()
    before = {skill_id: library.skill(skill_id) for skill_id in ids(library)}
    unchanged = library.refresh()
    write(tmp_path / "skills/s7.skill.yaml", "t.1007")
    library.refresh()

    assert len(before) == 1000
    assert not unchanged
    assert ids(library) == sorted({*before, "t.1007"} - {"t.7"})
    assert all(library.skill(skill_id) is before[skill_id] for skill_id in ids(library) if skill_id in before)
