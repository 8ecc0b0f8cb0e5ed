"""`holdfast init` and `add`: what is written is valid, and what stood there stays byte for byte."""

from __future__ import annotations

import ast
import difflib

import pytest
import yaml

from holdfast.cli.dockfile import SECTION_NAMES
from holdfast.dockfile import InvalidDockfile, read_dockfile
from holdfast.dockfile.editing import SECTIONS, Edited, add_section
from holdfast.dockfile.templates import agent_name_of, is_agent_name, project

PLAIN = project("tutor")["Dockfile.yaml"]
ENVIRONMENT = {"HOLDFAST_API_KEY": "k"}


def test_the_help_names_the_sections_that_there_are() -> None:
    assert SECTION_NAMES.split(", ") == list(SECTIONS)


def is_only_longer(before: str, after: str) -> bool:
    """Whether every line that stood there still stands there, in its order."""
    kept = iter(after.splitlines())
    return all(line in kept for line in before.splitlines())


def test_a_new_project_is_valid_python_and_a_valid_dockfile() -> None:
    files = project("tutor")

    ast.parse(files["service.py"])
    plan = read_dockfile(files["Dockfile.yaml"], {}, "Dockfile.yaml")
    assert (plan.agent.name, plan.agent.reference) == ("tutor", "service:handle")


@pytest.mark.parametrize("section", SECTIONS)
def test_an_added_section_is_valid_and_has_a_comment(section: str) -> None:
    text, added = add_section(PLAIN, section, "Dockfile.yaml")

    assert added == [section]
    assert text.startswith(PLAIN)
    assert set(yaml.safe_load(text)[section]) == set(SECTIONS[section])
    read_dockfile(text, ENVIRONMENT, "Dockfile.yaml")


def test_all_sections_can_stand_together() -> None:
    text = PLAIN
    for section in SECTIONS:
        text, _ = add_section(text, section, "Dockfile.yaml")

    read_dockfile(text, ENVIRONMENT, "Dockfile.yaml")
    for section in SECTIONS:
        with pytest.raises(Edited, match="already"):
            add_section(text, section, "Dockfile.yaml")


STREAMING = """\
# first
version: "1.0"
streaming: # ours
    async_runs: false   # not here

    # about readers
    connection:
        default_timeout: 9 # short

# the agent
agent: {name: a, handler: "a:b"}
io_schema: {}
expose: {}
"""


def test_what_a_section_lacks_is_put_behind_its_last_line_as_the_others_are_indented() -> None:
    text, added = add_section(STREAMING, "streaming", "Dockfile.yaml")

    assert added == ["streaming.events"]
    assert is_only_longer(STREAMING, text)
    assert "        default_timeout: 9 # short\n    events:\n      heartbeat_interval: 15" in text
    assert yaml.safe_load(text)["streaming"]["connection"] == {"default_timeout": 9}
    plan = read_dockfile(text, {}, "Dockfile.yaml")
    assert (plan.settings["async_runs"], plan.settings["heartbeat_seconds"]) == (False, 15)


@pytest.mark.parametrize("written", ["auth: {}", "auth: {} # who", "auth:", "auth: # who", "auth:   "])
def test_an_empty_section_becomes_a_block(written: str) -> None:
    before = f'version: "1.0"\n{written}\nagent: {{name: a, handler: "a:b"}}\nio_schema: {{}}\nexpose: {{}}\n'

    text, added = add_section(before, "auth", "Dockfile.yaml")

    assert added == ["auth.mode", "auth.api_keys", "auth.rate_limits"]
    assert read_dockfile(text, ENVIRONMENT, "Dockfile.yaml").access.mode == "api_key"
    assert ("# who" in text) == ("# who" in before)
    changed = [line for line in difflib.ndiff(before.splitlines(), text.splitlines()) if line.startswith("- ")]
    assert changed in ([], [f"- {written}"])


def test_a_section_in_one_line_is_its_authors() -> None:
    with pytest.raises(Edited, match="by hand: mode, rate_limits"):
        add_section("auth: {api_keys: {env_var: K}}\n", "auth", "Dockfile.yaml")


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_the_end_of_the_file_and_its_line_ends_stay(ending: str) -> None:
    end = "\r\n" if ending == "\r\n" else "\n"
    before = PLAIN.rstrip("\n").replace("\n", end) + ending

    text, _ = add_section(before, "metadata", "Dockfile.yaml")

    assert text.startswith(before)
    assert yaml.safe_load(text)["metadata"]["version"] == "1.0.0"
    assert (text.count("\r\n") == text.count("\n")) == (end == "\r\n")


@pytest.mark.parametrize(
    "last",
    [
        "  maintainer: me",
        "  maintainer: |\n    a\n    b\n",
        "  tags:\n    - a\n    - b",
        "  tags:\n  - a",
        "  tags: [a,\n    b]",
    ],
)
def test_whatever_a_section_ends_with_the_new_key_comes_behind_it(last: str) -> None:
    before = f"metadata:\n{last}\n\n# behind\nx-after: 1\n"

    text, added = add_section(before, "metadata", "Dockfile.yaml")

    found, old = yaml.safe_load(text), yaml.safe_load(before)
    assert is_only_longer(before, text)
    assert found["x-after"] == 1
    assert {key: found["metadata"][key] for key in old["metadata"]} == old["metadata"]
    assert set(found["metadata"]) == {"maintainer", "version", "tags"}
    assert len(added) == 2


def test_what_is_no_yaml_is_not_edited() -> None:
    with pytest.raises(InvalidDockfile):
        add_section("a: [\n", "auth", "Dockfile.yaml")
    with pytest.raises(InvalidDockfile):
        add_section("- a\n", "auth", "Dockfile.yaml")


@pytest.mark.parametrize(("folder", "name"), [("My Agent", "my-agent"), ("__", "agent"), ("a" * 80, "a" * 63)])
def test_a_folder_gives_its_agent_a_name(folder: str, name: str) -> None:
    assert agent_name_of(folder) == name
    assert is_agent_name(name)
