"""What a TARGET may be, what is said when it is none, and who answers by default."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import agent
from holdfast.agents.registry import Registry, check_ids, registry_of
from holdfast.agents.target import TargetError, folder_of, load_target

TWO_AGENTS = """
from holdfast import agent, Context

@agent("invoice", restart="always")
async def invoice(context: Context, input: dict) -> dict:
    return {"paid": True}

@agent
def refund(input: dict) -> dict:
    return {"back": True}

def plain(input: dict) -> str:
    return "plain"

async def pieces(context: Context):
    yield "one"

NUMBER = 5
"""


@pytest.fixture(autouse=True)
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory of its own; what a test imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(target: str) -> list[str]:
    return [program.name for program in load_target(target)]


def refusal(target: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(target)
    return caught.value.message


def assistant() -> Any:
    """Stands for the built-in assistant."""

    @agent("assistant")
    def answer(input: str) -> str:
        return input

    return answer


def test_a_file_gives_its_agents_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "agents.py", TWO_AGENTS)

    assert names(str(path)) == ["invoice", "refund"]


def test_a_module_of_the_working_directory_gives_its_agents(tmp_path: Path) -> None:
    write(tmp_path / "shop" / "__init__.py", "")
    write(tmp_path / "shop" / "agents.py", TWO_AGENTS)

    assert names("shop.agents") == ["invoice", "refund"]


@pytest.mark.parametrize("prefix", ["agents.py", "agents"])
@pytest.mark.parametrize(
    ("attribute", "name"), [("invoice", "invoice"), ("refund", "refund"), ("plain", "plain"), ("pieces", "pieces")]
)
def test_one_agent_or_a_plain_function_is_named_behind_a_colon(
    tmp_path: Path, prefix: str, attribute: str, name: str
) -> None:
    write(tmp_path / "agents.py", TWO_AGENTS)

    assert names(f"{prefix}:{attribute}") == [name]


def test_a_file_can_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "prices.py", "TAX = 0.19")
    path = write(
        tmp_path / "deep" / "taxes.py",
        "import prices\nfrom holdfast import agent\n\n@agent\ndef tax(input):\n    return prices.TAX\n",
    )

    assert names(str(path)) == ["tax"]


def test_an_agent_that_is_bound_twice_is_served_once(tmp_path: Path) -> None:
    path = write(tmp_path / "agents.py", TWO_AGENTS + "\nagain = invoice\n")

    assert names(str(path)) == ["invoice", "refund"]


def test_a_file_named_like_a_loaded_module_does_not_replace_it(tmp_path: Path) -> None:
    import json

    path = write(tmp_path / "json.py", TWO_AGENTS)

    assert names(str(path)) == ["invoice", "refund"]
    assert sys.modules["json"] is json


def test_what_a_target_means_is_told_where_it_is_none(tmp_path: Path) -> None:
    write(tmp_path / "agent.py", "")

    assert refusal("agnet.py") == "there is no file agnet.py; did you mean agent.py?"
    assert refusal("nowhere/agent.py") == "there is no file nowhere/agent.py"
    assert "there is no module 'invoices'" in refusal("invoices")
    assert refusal("Dockfile.yaml").startswith("Dockfile.yaml is no Python")
    assert refusal("./agents").startswith("./agents is no target")
    assert "is no target" in refusal("two words")
    assert "is no target" in refusal("")


def test_a_file_without_agents_says_how_to_make_one(tmp_path: Path) -> None:
    path = write(tmp_path / "tools.py", "def handle(input):\n    return input\n")

    message = refusal(str(path))

    assert message.endswith(f"put @agent (from holdfast import agent) above a function, or name one: {path}:handle")


def test_an_unknown_name_and_a_value_that_is_no_agent_are_told(tmp_path: Path) -> None:
    write(tmp_path / "agents.py", TWO_AGENTS)

    assert refusal("agents.py:invoce").endswith("there is no 'invoce' in agents; did you mean invoice?")
    assert "'NUMBER' is no agent but an int" in refusal("agents.py:NUMBER")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all' ({path}, line 1)"),
        ("x = 1\ny = x / 0", "ZeroDivisionError: division by zero ({path}, line 2)"),
        ("def broken(:\n    pass", "invalid syntax ({path}, line 1)"),
        ("raise SystemExit(3)", "it ends the process ({path}, line 1)"),
        (
            "from holdfast import agent\n\n@agent('no good name')\ndef handle(input): ...",
            "127 letters, digits or . _ : - ({path}, line 3)",
        ),
    ],
)
def test_what_the_file_raises_is_told_with_its_line(tmp_path: Path, source: str, said: str) -> None:
    path = write(tmp_path / "broken.py", source)

    message = refusal(str(path))

    assert message.startswith(f"{path} cannot be imported: ")
    assert said.format(path=path) in message


def test_a_function_that_wants_too_much_is_no_agent(tmp_path: Path) -> None:
    write(tmp_path / "agents.py", "def three(one, two, three): ...\n")

    assert refusal("agents.py:three").startswith("agents.py:three cannot be an agent: three takes too much")


def test_the_folder_of_a_target_is_where_its_code_is(tmp_path: Path) -> None:
    assert folder_of("deep/agents.py:invoice") == tmp_path / "deep"
    assert folder_of("shop.agents:invoice") == tmp_path


def test_the_assistant_is_served_alone_or_where_it_is_named(tmp_path: Path) -> None:
    target = str(write(tmp_path / "agents.py", TWO_AGENTS))

    assert registry_of(None, assistant).names() == ["assistant"]
    assert registry_of(target, assistant).names() == ["invoice", "refund"]
    assert registry_of(target, assistant, default="assistant").names() == ["invoice", "refund", "assistant"]


def test_the_first_agent_is_the_default_one_unless_another_is_named(tmp_path: Path) -> None:
    target = str(write(tmp_path / "agents.py", TWO_AGENTS))

    assert registry_of(target, assistant).default == "invoice"
    assert registry_of(target, assistant, default="refund").default == "refund"
    assert registry_of(target, assistant, default="assistant").default == "assistant"
    assert Registry().default is None


def test_a_default_agent_that_is_not_served_is_refused(tmp_path: Path) -> None:
    target = str(write(tmp_path / "agents.py", TWO_AGENTS))

    with pytest.raises(TargetError, match=r"no agent 'nobody'.*invoice, refund"):
        registry_of(target, assistant, default="nobody")


def test_two_agents_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = TWO_AGENTS + '\n@agent("invoice")\ndef other(input): ...\n'
    target = str(write(tmp_path / "agents.py", twice))

    with pytest.raises(TargetError, match="two agents are named 'invoice'"):
        registry_of(target, assistant)


def test_every_agent_has_an_id_of_its_own() -> None:
    same = "A804F2F5-62be-57db-bcf5-54ff31a3a6d8"

    @agent("one", id=same)
    def one(input: Any) -> None: ...

    @agent("two", id=same.lower())
    def two(input: Any) -> None: ...

    @agent(same)
    def confusing(input: Any) -> None: ...

    assert one.id == same.lower()
    with pytest.raises(TargetError, match=f"agents 'one' and 'two' have one id, {same.lower()}"):
        Registry([one, two])
    with pytest.raises(TargetError, match="a name that is a UUID"):
        Registry([confusing])
    with pytest.raises(TargetError, match="agents 'one' and 'two' have one id"):
        check_ids(["one", "two"], {"one": same, "two": same}.__getitem__)
    with pytest.raises(ValueError, match="'17' is no agent id"):
        agent("three", id="17")(print)
