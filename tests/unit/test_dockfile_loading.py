"""Dockfiles on disk: variables in layers, several files as one server, and the agents' code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.target import TargetError, folder_of
from holdfast.cli.served import read_served
from holdfast.dockfile import InvalidDockfile
from holdfast.dockfile.env_files import parse_env, parse_env_yaml
from holdfast.dockfile.loading import Loaded, load_dockfiles
from holdfast.dockfile.programs import program_of
from holdfast.execution.program import spec_of
from holdfast.model.lifecycle import Restart

SERVICE = """
import os
from holdfast import agent, Context

async def handle(payload, context=None):
    return {"at": __file__}

def sync_handle(payload):
    return {}

@agent("other", restart="always")
async def declared(context: Context, input: dict) -> dict:
    return {}

class Callable:
    async def __call__(self, payload, context):
        return {}

async_object = Callable()
NUMBER = 5

def factory():
    return handle

def broken():
    raise RuntimeError("no model")

def numbers():
    return iter([1])

class Runnable:
    calls = 0
    def invoke(self, input):
        return {"ran": input}

def runnable():
    Runnable.calls += 1
    return Runnable()

ready = Runnable()
"""


@pytest.fixture(autouse=True)
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory of its own; what a test imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def project(folder: Path, name: str = "tutor", *, handler: str = "service:handle", more: str = "") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{handler.partition(':')[0]}.py").write_text(SERVICE)
    file = folder / "Dockfile.yaml"
    expose = "" if "expose:" in more else "expose: {}\n"
    file.write_text(f'version: "1.0"\nagent: {{name: {name}, handler: "{handler}"}}\nio_schema: {{}}\n{expose}{more}')
    return file


def load(*files: Path, environment: dict[str, str] | None = None, env_file: Path | None = None) -> Loaded:
    return load_dockfiles(files, environment or {}, env_file=env_file)


def refused(*files: Path) -> str:
    with pytest.raises(InvalidDockfile) as caught:
        load(*files)
    return caught.value.message


# Variables


def test_a_higher_layer_is_never_replaced_by_a_lower_one(tmp_path: Path) -> None:
    file = project(tmp_path, more="expose: {port: '${PORT}'}\n")
    layers = ["env.yml", "env.yaml", ".env", ".env.local", "given.env"]
    given = tmp_path / "given.env"
    found = []
    for number, name in enumerate(layers, 1):
        (tmp_path / name).write_text(f"PORT: {number}\n" if name.startswith("env") else f"PORT={number}\n")
        found.append(load(file, env_file=given if given.exists() else None).settings["port"])

    assert found == [1, 2, 3, 4, 5]
    assert load(file, environment={"PORT": "6"}, env_file=given).settings["port"] == 6


def test_the_variables_of_files_are_for_the_agents_code_too(tmp_path: Path) -> None:
    file = project(tmp_path)
    (tmp_path / ".env").write_text("A=1\nB=2\n")

    assert load(file, environment={"A": "shell"}).environment == {"B": "2"}


def test_shell_beats_dotenv_also_where_it_is_empty(tmp_path: Path) -> None:
    file = project(tmp_path, more="metadata: {maintainer: '${WHO:-nobody}'}\n")
    (tmp_path / ".env").write_text("WHO=file\n")

    (plan, _, _), *_ = load(file, environment={"WHO": ""}).agents

    assert plan.spec.metadata["maintainer"] == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1\n", {"A": "1"}),
        ("  A = 1 2  \n", {"A": "1 2"}),
        ("# c\n\nA=1 # c\n", {"A": "1"}),
        ("A=a#b\n", {"A": "a#b"}),
        ("A='$x # \\n'\n", {"A": "$x # \\n"}),
        ('A="a\\n\\"b\\" # c" # d\n', {"A": 'a\n"b" # c'}),
        ('A="one\ntwo"\nB=3\n', {"A": "one\ntwo", "B": "3"}),
        ("A=\nB=\n", {"A": "", "B": ""}),
        ("A= # c\n", {"A": ""}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=x=y==\n", {"A": "x=y=="}),
        ("A=${B}\n", {"A": "${B}"}),
    ],
)
def test_dotenv_lines_are_read_as_people_write_them(text: str, found: dict[str, str]) -> None:
    assert parse_env(text, ".env") == found


@pytest.mark.parametrize(("text", "line"), [("A\n", 1), ("A=1\n2B=1\n", 2), ("\n\n=x\n", 3), ("A-B=1\n", 1)])
def test_a_line_that_is_no_assignment_is_refused_with_its_number(text: str, line: int) -> None:
    with pytest.raises(InvalidDockfile, match=rf"\.env:{line}: expected NAME=text"):
        parse_env(text, ".env")


def test_variables_in_yaml_are_one_flat_mapping() -> None:
    assert parse_env_yaml("A: 1\nB: true\nC: x y\nD:\nE: '01'\n", "env.yaml") == {
        "A": "1",
        "B": "true",
        "C": "x y",
        "D": "",
        "E": "01",
    }
    for text in ("A: [1]\n", "A: {b: 1}\n", "- A\n", "A-B: 1\n"):
        with pytest.raises(InvalidDockfile):
            parse_env_yaml(text, "env.yaml")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"version: \xff")

    message = refused(tmp_path / "none.yaml", tmp_path / "latin.yaml")

    assert "none.yaml: expected a file" in message
    assert "latin.yaml: expected UTF-8" in message


# Several files


def test_two_files_are_one_server_and_the_first_agent_is_the_default_one(tmp_path: Path) -> None:
    one = project(tmp_path / "a", "one", handler="first:handle")
    two = project(tmp_path / "b", "two", handler="second:handle")

    served = read_served([str(one), str(two)])
    programs = served.load()

    assert programs.names() == ["one", "two"]
    assert programs.default == "one"


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ("auth: {mode: none}\n", "", "auth"),
        ("expose: {port: 1}\n", "expose: {port: 2}\n", "expose"),
        ("holdfast: {store: a}\n", "holdfast: {store: b}\n", "holdfast"),
        ("streaming: {connection: {default_timeout: 9}}\n", "streaming: {}\n", "streaming.connection"),
        ("streaming: {async_runs: false}\n", "streaming: {}\n", "streaming.async_runs"),
        ("observability: {log_level: error}\n", "observability: {}\n", "observability.log_level"),
    ],
)
def test_what_a_server_is_told_once_must_be_told_alike(tmp_path: Path, first: str, second: str, path: str) -> None:
    one = project(tmp_path / "a", "one", handler="first:handle", more=first)
    two = project(tmp_path / "b", "two", handler="second:handle", more=second)

    message = refused(one, two)

    assert message.splitlines() == [f"{two}: {path}: expected the same as in {one}, found something else"]


def test_names_and_variables_of_several_files_must_not_collide(tmp_path: Path) -> None:
    one = project(tmp_path / "a", "same", handler="first:handle")
    two = project(tmp_path / "b", "same", handler="second:handle")
    (tmp_path / "a" / ".env").write_text("A=1\n")
    (tmp_path / "b" / ".env").write_text("A=2\n")

    message = refused(one, two)

    assert f"{two}: agent.name: expected a name of its own" in message
    assert f"{two}: expected the variable A to be what it is beside {one}" in message


def test_each_agent_is_served_the_code_of_its_own_folder_or_none(tmp_path: Path) -> None:
    one, two = project(tmp_path / "a", "one"), project(tmp_path / "b", "two")

    with pytest.raises(InvalidDockfile, match=r"the module 'service' is that of .*a already"):
        read_served([str(one), str(two)]).load()


def test_dockfiles_and_python_are_not_served_together(tmp_path: Path) -> None:
    file = project(tmp_path)

    with pytest.raises(TargetError, match="either Dockfiles or Python"):
        read_served([str(file), "service.py"])
    with pytest.raises(TargetError, match="only as Dockfiles"):
        read_served(["service.py", str(file)])
    with pytest.raises(TargetError, match="goes with a Dockfile"):
        read_served(["service.py"], env_file=file)
    assert folder_of(str(file)) == tmp_path


# Code


def program(folder: Path, handler: str, more: str = "") -> Any:
    served = read_served([str(project(folder, handler=handler, more=more))])
    return next(iter(served.load()))


def test_a_function_becomes_an_agent_under_the_name_of_the_file(tmp_path: Path) -> None:
    made = program(tmp_path, "service:handle", "metadata: {version: '2'}\nholdfast: {restart: never}\n")

    assert (made.name, made.restart, made.is_sync) == ("tutor", Restart.NEVER, False)
    assert spec_of(made).version == "2"


def test_what_a_decorated_agent_declares_holds_until_the_file_says_otherwise(tmp_path: Path) -> None:
    made = program(tmp_path / "a", "first:declared")
    again = program(tmp_path / "b", "second:declared", "holdfast: {restart: waiting}\n")

    assert (made.name, made.restart) == ("tutor", Restart.ALWAYS)
    assert again.restart is Restart.WAITING


@pytest.mark.parametrize(("name", "is_sync"), [("sync_handle", True), ("async_object", False)])
def test_sync_functions_and_callable_objects_are_taken(tmp_path: Path, name: str, is_sync: bool) -> None:
    assert program(tmp_path, f"service:{name}").is_sync is is_sync


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        ("service:gone", "there is no 'gone' in service"),
        ("service:NUMBER", "int, no function"),
    ],
)
def test_code_that_cannot_be_served_is_told_with_its_key(tmp_path: Path, handler: str, says: str) -> None:
    with pytest.raises(InvalidDockfile, match=says) as caught:
        program(tmp_path, handler)

    assert caught.value.problems[0].path == "agent.handler"


def entry(folder: Path, reference: str, framework: str = "custom") -> Any:
    file = project(folder)
    handler = 'handler: "service:handle"'
    file.write_text(file.read_text().replace(handler, f'entrypoint: "service:{reference}", framework: {framework}'))
    ((plan, place, name),) = load(file).agents
    return program_of(plan, place, name)


def test_a_factory_is_called_once_and_what_it_returns_is_served(tmp_path: Path) -> None:
    made = entry(tmp_path, "runnable", "langchain")

    assert (made.name, made.framework, made.spec.mode) == ("tutor", "langchain", "entrypoint")
    assert sys.modules["service"].Runnable.calls == 1


@pytest.mark.parametrize("reference", ["ready", "factory"])
def test_an_entrypoint_may_be_the_object_or_give_a_function(tmp_path: Path, reference: str) -> None:
    assert entry(tmp_path, reference).name == "tutor"


@pytest.mark.parametrize(
    ("reference", "says"),
    [("broken", "RuntimeError: no model"), ("numbers", "no method invoke"), ("NUMBER", "gives int")],
)
def test_an_entrypoint_that_gives_nothing_to_run_is_told_with_its_key(
    tmp_path: Path, reference: str, says: str
) -> None:
    with pytest.raises(InvalidDockfile, match=says) as caught:
        entry(tmp_path, reference)

    assert caught.value.problems[0].path == "agent.entrypoint"


def test_a_module_that_is_not_there_or_raises_is_told(tmp_path: Path) -> None:
    file = project(tmp_path, more="x-a: 1\n")
    file.write_text(file.read_text().replace("service:handle", "gone:handle"))
    ((plan, place, name),) = load(file).agents
    with pytest.raises(InvalidDockfile, match="there is no module 'gone'"):
        program_of(plan, place, name)

    (tmp_path / "gone.py").write_text("1 / 0\n")
    with pytest.raises(InvalidDockfile, match=r"ZeroDivisionError.*gone\.py, line 1"):
        program_of(plan, place, name)
