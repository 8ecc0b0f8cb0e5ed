"""The reference is held against the code: routes with their roles, settings, errors; and links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast import errors
from holdfast.api import control, engine, runtime, skills, workflow
from holdfast.api.engine.codes import engine_code
from holdfast.api.engine.refusals import answer_of
from holdfast.api.http.errors import HttpError, MethodNotAllowed, UnknownParameter
from holdfast.api.http.routing import Api, Refusal
from holdfast.errors import ExecutionError, HoldfastError
from holdfast.settings import InvalidSetting
from holdfast.variables import ALIASES, described

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(
    page
    for directory in (ROOT, DOCS, ROOT / "examples", ROOT / "bench")
    for page in (directory.glob("*.md") if directory == ROOT else directory.rglob("*.md"))
)
REFERENCE: Final = {
    "runtime": DOCS / "api" / "runtime.md",
    "engine": DOCS / "api" / "engine.md",
    "control": DOCS / "api" / "control.md",
    "workflow": DOCS / "api" / "workflow.md",
    "skills": DOCS / "api" / "skills.md",
}
APIS: Final = (runtime.api(), engine.api(), control.api(), workflow.api(), skills.api())

Route = tuple[str, str]


def _routes(api: Api) -> dict[Route, str]:
    """Method and path of every call, with the role that it needs."""
    found = {}
    for handler in api.handlers:
        role = "public" if handler.opt.get("public") else handler.opt.get("role", "reader")
        for path in handler.paths:
            for method in handler.http_methods:
                found[str(method), re.sub(r":\w+}", "}", path)] = role
    return found


def _table(page: Path) -> Iterator[list[str]]:
    """The rows of a page's tables, cell by cell."""
    for line in page.read_text().splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


# Routes


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_every_route_is_in_the_table_of_its_page_with_its_role(api: Api) -> None:
    documented = {}
    for cells in _table(REFERENCE[api.name]):
        if call := re.fullmatch(r"`([A-Z]+) (/\S*)`", cells[0]):
            documented[call[1], call[2]] = cells[1]

    assert documented == _routes(api)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_route_that_does_not_exist(page: Path) -> None:
    known = [
        (method, re.compile("/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/"))))
        for api in APIS
        for method, path in _routes(api)
    ]
    named = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^\s`?]*)", page.read_text())

    unknown = [
        f"{method} {path}"
        for method, path in named
        if not any(method == other and pattern.fullmatch(path) for other, pattern in known)
    ]

    assert unknown == []


# Settings


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    rows = {cells[0].strip("`"): cells for cells in _table(DOCS / "settings.md") if cells[0].startswith("`HOLDFAST_")}

    assert {name: cells[2] for name, cells in rows.items()} == {
        row.variable: _shown(row.default) for row in described()
    }


def test_every_other_name_of_a_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    names = {name for row in described() for name in row.aliases} | {*ALIASES.values(), "LLM_MODEL"}

    assert {name for name in names if f"| `{name}`" not in text and f"`{name}` |" not in text} == set()


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    # HOLDFAST_FAULTS_… are those of the fault harness, not of a server.
    # HOLDFAST_API_KEY is where a Dockfile finds its key, unless it names another variable.
    # HOLDFAST_URL is where clients find the server.
    known = {row.variable for row in described()} | {"HOLDFAST_API_KEY", "HOLDFAST_URL"}

    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"\bHOLDFAST_(?!FAULTS_)[A-Z_]*[A-Z]\b", page.read_text())
    }

    assert {item for item in named if item[1] not in known} == set()


def test_options_in_the_table_are_those_of_the_command_line() -> None:
    options = set(re.findall(r"`(--[a-z-]+)`", (DOCS / "settings.md").read_text()))
    source = (ROOT / "src/holdfast/cli/serving.py").read_text()
    parameters = set(re.findall(r"^    (\w+): ", source, re.MULTILINE))

    assert {option for option in options if option.removeprefix("--").replace("-", "_") not in parameters} == set()


# Errors


@cache
def _error_classes() -> dict[str, type[HoldfastError]]:
    """Every class below HoldfastError in the package, found in its source so that none is missed."""
    bases: dict[str, tuple[set[str], str]] = {}
    source = ROOT / "src"
    for file in (source / "holdfast").rglob("*.py"):
        if file.is_relative_to(source / "holdfast/client"):
            continue  # what clients raise is a tree of its own, with some names of this one
        module = ".".join(file.relative_to(source).with_suffix("").parts)
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = ({ast.unparse(base).rpartition(".")[2] for base in node.bases}, module)
    names = {"HoldfastError"}
    while more := {name for name, (above, _) in bases.items() if above & names} - names:
        names |= more
    return {name: getattr(importlib.import_module(bases[name][1].removesuffix(".__init__")), name) for name in names}


def _instance(kind: type[HoldfastError]) -> HoldfastError:
    if issubclass(kind, UnknownParameter):
        return kind("name", [])
    if issubclass(kind, MethodNotAllowed):
        return kind("text", "GET")
    return kind("text", "port") if issubclass(kind, InvalidSetting) else kind("text")


def _error_rows() -> dict[str, list[str]]:
    return {cells[0].strip("`"): cells for cells in _table(DOCS / "errors.md") if re.match(r"`[A-Z]\w+`\Z", cells[0])}


def test_every_error_is_documented_with_its_code_and_no_other() -> None:
    classes = _error_classes()
    branches = {"HttpError"}  # in a sentence, for it is never raised itself
    assert {name for name in vars(errors) if name in classes} == {
        name for name, kind in classes.items() if kind.__module__ == errors.__name__
    }

    rows = {name: cells[1].strip("`") for name, cells in _error_rows().items()}

    assert rows == {name: kind.code for name, kind in classes.items() if name not in branches}


def test_the_pages_say_how_the_apis_show_every_error() -> None:
    for name, cells in _error_rows().items():
        if len(cells) < 6:
            continue  # the table of branches
        error = _instance(_error_classes()[name])
        reply = runtime.api().render(error, Refusal("r-1", "/runs"))
        code = re.search(rb'"code":"(\w+)"', reply.body)
        assert code is not None
        status, engines = answer_of(error)
        is_frame = isinstance(error, ExecutionError)

        assert cells[2] in ("–", f"{reply.status} `{code[1].decode()}`"), name
        assert cells[3] in ("–", f"`{engine_code(error.code)}`" if is_frame else f"{status} `{engines}`"), name


def test_a_code_has_one_meaning() -> None:
    classes = {name: kind for name, kind in _error_classes().items() if not issubclass(kind, HttpError)}
    sharing: dict[str, list[type[HoldfastError]]] = defaultdict(list)
    for kind in classes.values():
        sharing[kind.code].append(kind)

    # Leaves may go by the code of their branch; two branches never share one.
    split = {code: kinds for code, kinds in sharing.items() if not _one_is_above_all(kinds)}

    assert split == {}


def _one_is_above_all(kinds: Iterable[type[HoldfastError]]) -> bool:
    kinds = list(kinds)
    return any(all(issubclass(kind, above) for kind in kinds) for above in kinds)


@pytest.mark.parametrize(("api", "name"), [(APIS[0], "runtime"), (APIS[1], "engine")], ids=["runtime", "engine"])
def test_the_table_of_an_api_has_every_code_that_it_answers(api: Api, name: str) -> None:
    column = {"runtime": 2, "engine": 3}[name]
    answered = {
        found[1]
        for cells in _error_rows().values()
        if len(cells) >= 6 and (found := re.fullmatch(r"[1-57-9]\d\d `(\w+)`", cells[column]))
    }
    text = REFERENCE[name].read_text()
    # What ends a run is in errors.md.
    of_runs = {kind.code.upper() for kind in _error_classes().values() if issubclass(kind, ExecutionError)}

    assert answered
    assert {code for code in answered - of_runs if f"`{code}`" not in text} == set()
    assert api.name == name


# Every page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in _anchors(there)):
            broken.append(target)

    assert broken == []


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_place_of_one_machine_or_a_package_registry(page: Path) -> None:
    text = page.read_text()
    places = re.findall(r"(?<![\w./~$}-])/(?:work|root|tmp|home)(?:/\S*|\b)", text)
    registries = re.findall(r"(?:pypi|pythonhosted|npmjs|proxy\.golang|artifactory|nexus)\.[a-z.]+", text)

    assert places == []
    assert registries == []
