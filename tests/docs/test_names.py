"""Every public name is exported, has a docstring, and is on its page; every canonical event on docs/events.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import holdfast
from holdfast import client as clients
from holdfast.client import engine as engine_client
from holdfast.client import errors as client_errors
from holdfast.client import runtime as runtime_client
from holdfast.client import skills as skills_client
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


CLIENTS = [clients, client_errors, engine_client, runtime_client, skills_client]


@pytest.mark.parametrize("module", CLIENTS, ids=lambda module: str(module.__name__))
def test_every_public_name_of_the_clients_is_documented(module: ModuleType) -> None:
    text = (DOCS / "client.md").read_text()
    # What is a type alone says what it is where it stands.
    classes = [name for name in module.__all__ if isinstance(getattr(module, name), type)]

    assert [name for name in module.__all__ if f"`{name}`" not in text] == []
    assert [name for name in classes if not (getattr(module, name).__doc__ or "").strip()] == []


@pytest.mark.parametrize(
    "kind",
    [clients.AsyncRunsClient, clients.AsyncEngineClient, clients.AsyncSkillsClient],
    ids=lambda kind: kind.__name__,
)
def test_every_method_of_the_clients_is_documented_with_its_parameters(kind: type) -> None:
    shown = (DOCS / "client.md").read_text().partition(f"## `{kind.__name__}`")[2].partition("\n## ")[0]
    signatures = dict(re.findall(r"`(\w+)\(([^`]*)\)`", shown))
    methods = {name: value for name, value in vars(kind).items() if not name.startswith("_")}

    assert set(methods) - set(signatures) == set()
    for name, method in methods.items():
        assert (method.__doc__ or "").strip(), name
        if "…" not in signatures[name]:
            given = set(re.findall(r"\w+", re.sub(r"=\w+", "", signatures[name])))
            assert given == set(inspect.signature(method).parameters) - {"self"}, name


def test_every_code_of_an_api_has_its_class_in_the_client() -> None:
    """Those that stand in the tables of the pages; and each class has one code."""
    codes = set()
    for page in (DOCS / "errors.md", DOCS / "api/runtime.md", DOCS / "api/engine.md"):
        rows = [line for line in page.read_text().splitlines() if re.match(r"\| (`\w+`|\d{3})", line)]
        codes |= {code for row in rows for code in re.findall(r"(?:\d{3} |\| )`([A-Z]+(?:_[A-Z]+)*)`", row)}
    skills = (DOCS / "api/skills.md").read_text().partition("\n## Errors")[2]
    rows = [line for line in skills.splitlines() if re.match(r"\| \d{3}", line)]
    codes |= {code.upper() for row in rows for code in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", row)} - {"PROBLEMS"}

    assert len(codes) > 90
    assert sorted(codes - set(client_errors.ApiError.by_code)) == []
    assert all(kind.code == code for code, kind in client_errors.ApiError.by_code.items())


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
