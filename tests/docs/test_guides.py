"""The guides tell the truth: their names exist, their code compiles, and the examples do what they say."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import Context, FunctionAgent, Status, SyncContext
from holdfast.agents.target import load_target
from holdfast.model import Run
from holdfast.model.encoding import CANONICAL_TYPES, decode_event
from tests.support.kernel import CALLER, Kernel, kernel

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(found[1], id=f"{page.relative_to(ROOT)}:{page.read_text()[: found.start()].count(chr(10)) + 1}")
    for page in PAGES
    for found in BLOCK.finditer(page.read_text())
]
# Told on the page in one sentence, as what is not for agents.
FOR_THE_KERNEL = {
    "execution",
    "is_known",
    "step_key",
    "recorded",
    "open_step",
    "complete_step",
    "fail_step",
    "try_again",
    "have_called",
    "ask_in_full",
}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_every_public_name_is_on_the_page_and_nothing_else_is() -> None:
    text = page("python.md")

    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text.split("\n## ")[0], re.MULTILINE)) == set(holdfast.__all__)
    assert set(re.findall(r"^## `(\w+)`$", text, re.MULTILINE)) == set(holdfast.__all__)


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(holdfast, name))


@pytest.mark.parametrize("cls", [Context, SyncContext])
def test_every_member_of_a_context_is_on_the_page(cls: type) -> None:
    told = set(re.findall(r"`([a-z_]+)[`(]", section(page("python.md"), f"`{cls.__name__}`")))

    assert public(cls) <= told
    assert public(cls) >= FOR_THE_KERNEL if cls is Context else public(cls).isdisjoint(FOR_THE_KERNEL)


def test_what_the_page_tells_of_a_step_is_what_a_step_takes() -> None:
    told = re.search(r"`step\(name, function, \*args, (.*?), \*\*kwargs\)`", page("python.md"))
    assert told is not None

    def options(cls: Any) -> set[str]:
        parameters = inspect.signature(cls.step).parameters.values()
        return {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}

    assert set(told[1].split(", ")) == options(Context)
    assert options(Context) - options(SyncContext) == {"timeout_seconds"}


def test_the_table_of_events_is_that_of_the_kernel() -> None:
    told = re.findall(r"^\| `(\w+)` \|", section(page("events.md"), "The types"), re.MULTILINE)

    assert len(told) == len(set(told))
    assert set(told) == CANONICAL_TYPES


@pytest.mark.parametrize("code", BLOCKS)
def test_python_in_a_page_compiles(code: str) -> None:
    compile(code, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("code", [item for item in BLOCKS if str(item.id).startswith("docs/guides/agents")])
def test_agents_of_the_guide_can_be_served(code: str, tmp_path: Path) -> None:
    file = tmp_path / "page.py"
    file.write_text(code)

    assert load_target(str(file))


@pytest.mark.parametrize("target", [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))])
def test_examples_that_a_page_names_exist(target: Path) -> None:
    for path in re.findall(r"\bexamples/[\w/]+\.py", target.read_text()):
        assert (ROOT / path).is_file()


def example(name: str) -> list[FunctionAgent]:
    agents = load_target(str(ROOT / "examples" / f"{name}.py"))
    return [agent for agent in agents if isinstance(agent, FunctionAgent)]


def texts(events: list[dict[str, Any]]) -> str:
    return "".join(event["content"] for event in events if event["type"] == "token")


async def ended(made: Kernel, run: Run) -> list[dict[str, Any]]:
    """The events of a run that must complete."""
    events = await made.events(run)
    assert (await made.finished(run)).status is Status.COMPLETED
    return events


async def test_the_greeters_greet_spell_and_count(tmp_path: Path) -> None:
    async with kernel(tmp_path, *example("greeter")) as made:
        greeted = await ended(made, await made.start("greeter", {"name": "Ada"}))
        spelled = await ended(made, await made.start("speller", "kelp"))
        counted = await ended(made, await made.start("counter", 3))

    assert texts(greeted) == "Hello, Ada"
    assert greeted[-1]["output"] == {"greeted": "Ada"}
    assert (len([event for event in spelled if event["type"] == "token"]), spelled[-1]["output"]) == (4, "kelp")
    assert counted[-1]["output"] == "1 2 3 "
    assert [event["message"] for event in counted if event["type"] == "progress"] == ["at 1", "at 2", "at 3"]


@pytest.mark.parametrize(
    ("answer", "output", "said"),
    [
        ("yes", {"paid": True, "receipt": "payment of 1,234.00 EUR for A-17"}, "It is paid."),
        ("no", {"paid": False}, "It is not paid."),
    ],
)
async def test_the_invoice_is_paid_as_a_person_says(tmp_path: Path, answer: str, output: object, said: str) -> None:
    async with kernel(tmp_path, *example("invoice")) as made:
        run = await made.start("invoice", {"number": "A-17", "cents": 123_400})
        assert (await made.waiting(run)).status is Status.WAITING
        await made.runs.answer(CALLER, run.run_id, answer=answer)
        events = await ended(made, run)

    assert events[-1]["output"] == output
    assert texts(events) == f"Invoice A-17 is about 1,234.00 EUR. {said}"
    asked = next(event for event in events if event["type"] == "interrupt")
    assert (asked["question"], asked["choices"], asked["default"]) == ("Pay 1,234.00 EUR?", ["yes", "no"], "no")
    begun = [event["step"] for event in events if event["type"] == "step_started"]
    assert begun == (["read", "pay"] if answer == "yes" else ["read"])


async def test_an_invoice_about_nothing_is_not_tried_again(tmp_path: Path) -> None:
    async with kernel(tmp_path, *example("invoice")) as made:
        run = await made.start("invoice", {"number": "A-18", "cents": 0})
        events = await made.events(run)

    assert [event["will_retry"] for event in events if event["type"] == "step_failed"] == [False]
    assert events[-1]["type"] == "error"
    assert "invoice A-18 has nothing to pay" in events[-1]["error"]


async def test_the_invoice_outlives_its_server(tmp_path: Path) -> None:
    async with kernel(tmp_path, *example("invoice"), crash=True) as made:
        run = await made.start("invoice", {"number": "A-17", "cents": 123_400})
        await made.waiting(run)
    async with kernel(tmp_path, *example("invoice")) as made:
        await made.runs.answer(CALLER, run.run_id, answer="yes")
        events = await ended(made, run)

    assert texts(events) == "Invoice A-17 is about 1,234.00 EUR. It is paid."
    assert [event["step"] for event in events if event["type"] == "step_started"] == ["read", "pay"]


async def test_the_report_adds_up_in_a_thread(tmp_path: Path) -> None:
    async with kernel(tmp_path, *example("report")) as made:
        events = await ended(made, await made.start("report", {"rows": 4}))

    assert events[-1]["output"] == {"rows": 4, "sum": 14}
    assert texts(events) == "The sum of 4 rows is 14."
    assert [event["progress"] for event in events if event["type"] == "progress"] == [0.25, 0.5, 0.75, 1.0]
    chart = next(event for event in events if event["type"] == "chart")
    assert (chart["kind"], chart["values"]) == ("bar", [1, 4, 9])


def test_a_shown_line_of_an_event_has_the_told_order() -> None:
    line = section(page("events.md"), "The line").split("\n")[1].strip()

    assert list(decode_event(line)) == ["id", "type", "run_id", "sequence", "timestamp", "content"]
