"""Every public name is exported, has a docstring, and is on its page; every canonical event on docs/events.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import holdfast
from holdfast.client import workflow as client
from holdfast.model.encoding import CANONICAL_TYPES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", holdfast.__all__)
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert (getattr(holdfast, name).__doc__ or "").strip()


def test_the_documented_names_are_the_public_ones() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", (DOCS / "python.md").read_text(), re.MULTILINE)

    assert sorted(documented) == sorted(holdfast.__all__)


@pytest.mark.parametrize("name", client.__all__)
def test_a_public_name_of_the_client_has_a_docstring(name: str) -> None:
    assert (getattr(client, name).__doc__ or "").strip()


def test_the_documented_names_of_the_client_are_the_public_ones() -> None:
    names = re.search(r"\| name \| what it is \|\n.*?\n\n", (DOCS / "client.md").read_text(), re.DOTALL)

    assert names is not None
    assert sorted(re.findall(r"^\| `(\w+)` \|", names[0], re.MULTILINE)) == sorted(client.__all__)


NAMESPACES = {
    "tools": "| `tools` ",
    "execution_feedback": "| `execution_feedback`, `agent_feedback` ",
    "agent_execution_records": "| `agent_execution_records` ",
    "webhooks": "| `webhooks` ",
}


@pytest.mark.parametrize("name", ["WorkflowClient", "WorkflowRun", "WebhookReceiver", *NAMESPACES])
def test_every_method_of_the_client_is_documented(name: str) -> None:
    text = (DOCS / "client.md").read_text()
    if name in NAMESPACES:
        made = type(getattr(client.WorkflowClient(), name))
        (shown,) = (line for line in text.splitlines() if line.startswith(NAMESPACES[name]))
    else:
        made = getattr(client, name)
        shown = text.partition(f"## `{name}`")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`(\w+)[`(]", shown))

    assert {method for method in vars(made) if not method.startswith("_")} - documented == set()


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
