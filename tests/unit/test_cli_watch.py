"""Which files of a folder changed, told from their times and sizes."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.cli.times import duration
from holdfast.cli.watch import Watch


def test_a_file_that_is_written_made_or_deleted_is_a_change_once(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text("1")
    (tmp_path / "gone.py").write_text("1")
    watch = Watch(tmp_path)
    assert watch.changed() == []

    (tmp_path / "kept.py").write_text("22")
    (tmp_path / "made.py").write_text("1")
    (tmp_path / "gone.py").unlink()

    assert [path.name for path in watch.changed()] == ["gone.py", "kept.py", "made.py"]
    assert watch.changed() == []


def test_a_file_of_the_same_size_is_a_change_by_its_time(tmp_path: Path) -> None:
    path = tmp_path / "agent.py"
    path.write_text("1")
    watch = Watch(tmp_path)

    path.write_text("2")
    os.utime(path, ns=(0, 0))

    assert watch.changed() == [path]


def test_other_files_and_folders_of_tools_are_not_looked_at(tmp_path: Path) -> None:
    watch = Watch(tmp_path)

    for name in ("notes.txt", ".venv/a.py", "__pycache__/b.py", "node_modules/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "tools.py").write_text("1")

    assert [path.name for path in watch.changed()] == ["tools.py"]


def test_a_duration_is_told_in_its_two_largest_units() -> None:
    assert [duration(seconds) for seconds in (0.25, 12.34, 61, 7260, 180_000)] == [
        "250 ms",
        "12.3 s",
        "1 min 1 s",
        "2 h 1 min",
        "2 d 2 h",
    ]
