"""docs/guides/testing.md: its tests pass as they stand, and every public name is on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import testing
from holdfast.testing import FakeServer

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "testing.md"


def test_the_tests_of_the_page_pass_in_an_empty_project(tmp_path: Path) -> None:
    files = re.findall(r"^```python\n# (test_\w+\.py)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for name, code in files:
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(code.count('async def test_') for _, code in files)} passed" in done.stdout
    assert len(files) == 5


def test_every_public_name_is_on_the_page_and_has_a_docstring() -> None:
    names = PAGE.read_text().partition("## Names")[2]

    for name in testing.__all__:
        assert f"`{name}`" in names
        assert (getattr(testing, name).__doc__ or "").strip()


@pytest.mark.parametrize("name", [name for name in vars(FakeServer) if not name.startswith("_")])
def test_every_member_of_a_fake_server_is_on_the_page(name: str) -> None:
    text = PAGE.read_text()
    assert f"`server.{name}`" in text or f"server.{name}(" in text
