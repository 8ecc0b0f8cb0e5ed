"""Every public name is exported, has a docstring, and is on docs/python.md; every canonical event on docs/events.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import holdfast
from holdfast.model.encoding import CANONICAL_TYPES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", holdfast.__all__)
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert (getattr(holdfast, name).__doc__ or "").strip()


def test_the_documented_names_are_the_public_ones() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", (DOCS / "python.md").read_text(), re.MULTILINE)

    assert sorted(documented) == sorted(holdfast.__all__)


def test_every_canonical_event_is_documented() -> None:
    text = (DOCS / "events.md").read_text()

    assert [name for name in sorted(CANONICAL_TYPES) if f"`{name}`" not in text] == []


def test_every_example_in_the_documents_compiles() -> None:
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    blocks = [
        (page, block) for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    ]

    assert blocks
    for page, block in blocks:
        compile(block, str(page), "exec", flags=0x2000)  # top-level await is allowed in fragments
