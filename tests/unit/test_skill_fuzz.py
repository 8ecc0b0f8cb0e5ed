"""
Skills under random input: expressions against a naive evaluator and a naive recognizer, and files of any shape, which are
told about and never bring the library down.
"""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.agents.skill.expressions import BadExpression, UnknownNamespace, parse
from holdfast.agents.skill.library import PACKAGED, read_file
from holdfast.agents.skill.linking import link
from holdfast.agents.skill.references import Reference
from holdfast.agents.skill.yaml_text import BadYaml, Document

# ---------------------------------------------------------------------------------------- expressions: what they are worth

DATA: dict[str, Any] = {
    "vars.a": 0,
    "vars.b": 1.0,
    "vars.t": True,
    "inputs.text": "abc",
    "inputs.list": [1, "a", None, [True]],
    "working.map": {"a": 1, "abc": {"b": [1.0]}},
    "outputs.none": None,
}


def read(reference: Reference) -> Any:
    return DATA[str(reference)]


def same(left: Any, right: Any) -> bool:
    """JSON equality, written down in another way than in the code: by what kind of value each is."""

    def shape(value: Any) -> Any:
        if isinstance(value, bool) or value is None:
            return (str(value),)
        if isinstance(value, int | float):
            return ("number", float(value))
        if isinstance(value, str):
            return ("text", value)
        if isinstance(value, list):
            return ("list", tuple(map(shape, value)))
        return ("map", frozenset((key, shape(item)) for key, item in value.items()))

    return bool(shape(left) == shape(right))


def compared(operator: str, left: Any, right: Any) -> bool:
    if operator == "in":
        if isinstance(right, list):
            return any(same(left, item) for item in right)
        return isinstance(left, str) and isinstance(right, str | dict) and left in right
    if operator == "not in":
        return not compared("in", left, right)
    if operator == "==":
        return same(left, right)
    if operator == "!=":
        return not same(left, right)
    numbers = [value for value in (left, right) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2:
        return False
    low, high = numbers
    return {"<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high}[operator]


LEAVES = st.one_of(
    st.sampled_from(list(DATA.items())),
    st.sampled_from([("a", 0), ("b", 1.0), ("t", True)]),
    st.sampled_from([("true", True), ("false", False), ("null", None), ("none", None), ("[]", []), ("''", "")]),
    st.integers(-3, 3).map(lambda number: (str(number), number)),
    st.sampled_from(["1.0", "-0.5", "2.25"]).map(lambda text: (text, float(text))),
    st.text("ab c'", max_size=3).map(lambda text: (f'"{text}"', text)),
)


def larger(inner: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    """Every part in brackets, so that the value does not hang on precedence, which has a test of its own."""
    pairs = st.tuples(inner, inner)
    operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
    return st.one_of(
        inner.map(lambda one: (f"not ({one[0]})", not one[1])),
        pairs.map(lambda two: (f"({two[0][0]}) and ({two[1][0]})", two[1][1] if two[0][1] else two[0][1])),
        pairs.map(lambda two: (f"({two[0][0]}) or ({two[1][0]})", two[0][1] or two[1][1])),
        st.tuples(operators, pairs).map(
            lambda it: (f"({it[1][0][0]}) {it[0]} ({it[1][1][0]})", compared(it[0], it[1][0][1], it[1][1][1]))
        ),
        st.lists(inner, max_size=3).map(
            lambda items: (f"[{', '.join(text for text, _ in items)}]", [value for _, value in items])
        ),
    )


@given(st.recursive(LEAVES, larger, max_leaves=8).filter(lambda made: len(made[0]) <= 1000))
@settings(max_examples=300, deadline=None)
def test_evaluation_agrees_with_a_naive_one(made: tuple[str, Any]) -> None:
    text, value = made

    found = parse(text).evaluate(read)

    assert type(found) is type(value)
    assert same(found, value)


# ---------------------------------------------------------------------------------------- expressions: which of them are any

TOKENS = (
    "a",
    "vars.b",
    "1",
    "-2.5",
    "'x'",
    "true",
    "null",
    "and",
    "or",
    "not",
    "in",
    "==",
    "<",
    ">=",
    "(",
    ")",
    "[",
    "]",
    ",",
)
VALUES = frozenset(("a", "vars.b", "1", "-2.5", "'x'", "true", "null"))


def is_expression(tokens: tuple[str, ...]) -> bool:
    """The grammar as it is written, with every way of reading tried."""

    def take(starts: frozenset[int], *texts: str) -> frozenset[int]:
        return frozenset(at + 1 for at in starts if at < len(tokens) and tokens[at] in texts)

    def each(rule: Any, starts: frozenset[int]) -> frozenset[int]:
        return frozenset(end for at in starts for end in rule(at))

    def repeated(rule: Any, word: str, at: int) -> frozenset[int]:
        found = newest = rule(at)
        while newest:
            newest = each(rule, take(newest, word)) - found
            found |= newest
        return frozenset(found)

    @lru_cache(None)
    def expr(at: int) -> frozenset[int]:
        return repeated(both, "or", at)

    @lru_cache(None)
    def both(at: int) -> frozenset[int]:
        return repeated(negated, "and", at)

    @lru_cache(None)
    def negated(at: int) -> frozenset[int]:
        return compare(at) | each(negated, take(frozenset((at,)), "not"))

    @lru_cache(None)
    def compare(at: int) -> frozenset[int]:
        first = value(at)
        operator = take(first, "==", "<", ">=", "in") | take(take(first, "not"), "in")
        return first | each(value, operator)

    @lru_cache(None)
    def value(at: int) -> frozenset[int]:
        here = frozenset((at,))
        opened = take(here, "[")
        items = each(lambda start: repeated(expr, ",", start), opened)
        return take(here, *VALUES) | take(each(expr, take(here, "(")), ")") | take(opened | items, "]")

    return len(tokens) in expr(0)


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9), st.booleans())
@example(["1", "<", "a", "<", "1"], True)
@example(["not", "not", "a", "not", "in", "[", "]"], True)
@settings(max_examples=500, deadline=None)
def test_what_is_taken_is_what_the_grammar_says(tokens: list[str], is_wide: bool) -> None:
    text = ("  " if is_wide else " ").join(tokens)

    try:
        parse(text)
        is_taken = True
    except BadExpression:
        is_taken = False

    assert is_taken == is_expression(tuple(tokens))


@given(st.text(max_size=40) | st.text("abv.ars()[]<>=!'\"-0123456789 ,\n", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_parsed_or_refused_inside_of_itself(text: str) -> None:
    found, column = None, 1
    try:
        found = parse(text)
    except BadExpression as refused:
        column = refused.column

    assert 1 <= column <= len(text) + 1
    if found is not None:
        found.evaluate(lambda _: None)
        assert all(text[lookup.column - 1].isidentifier() for lookup in found.lookups())


def test_a_right_name_in_a_wrong_place_is_told_apart_from_bad_grammar() -> None:
    with pytest.raises(UnknownNamespace):
        parse("steps.a.size == 1")


# --------------------------------------------------------------------------------------------------------------------- files

SAMPLES = [yaml.safe_load(path.read_text()) for path in sorted(PACKAGED.glob("skills/*.yaml"))]
CONTRACT = {
    "id": "x.y",
    "version": "1.0.0",
    "description": "d",
    "inputs": {"text": {"type": "string", "required": True}},
    "outputs": {"text": {"type": "string"}},
    "safety": {
        "trust_level": "standard",
        "mandatory_pre_gates": ["x.y", {"capability": "x.y", "input": {"a": "input.b"}}],
    },
    "bind": {"http": {"url": "http://x/${input.text}", "response": {"text": "a"}, "headers": {"a": "${env.A}"}}},
}
CONTROLS = {
    "depends_on": ["a"],
    "condition": "vars.x > 1",
    "retry": {"max_attempts": 2},
    "timeout_seconds": 5,
    "foreach": {"items": "inputs.articles", "as": "item", "index_as": "i"},
    "while": {"condition": "vars.x"},
    "router": {"on": "vars.x", "cases": {"a": "text.pii.check"}, "default": "http.fetch"},
    "scatter": {"capabilities": ["text.pii.check", "http.fetch"], "merge": "collect"},
    "merge_strategy": "append",
    "confirm": {"question": "?", "expires_in": 5, "default": "deny"},
    "gates": {"pre": ["text.pii.check"], "post": [{"capability": "text.pii.check", "input": {"text": "output.text"}}]},
    "at_most_once": True,
    "stream": True,
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1001),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            *("", "vars.x", "vars.", "inputs.articles", "steps.brief.output.x", "working.a.b", "working.a", "skill:news.briefing"),
            *("skill:news.publish", "skill:", "text.pii.check", "a..b", "x -1", "output.x", "item.x", "ö", "\u2028", "shorten"),
        ]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from(["shorten", "brief", "nothing", 1, None, {}]), max_size=3),
    st.dictionaries(st.sampled_from(["capability", "id", "uses", "type", "$literal", ""]), st.sampled_from(["a", 1, None]), max_size=2),
)  # fmt: skip


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places_of(item, (*path, key)))]


@st.composite
def mutilated(draw: st.DrawFn) -> Any:
    """A sound file in which some values became others, or have one more beside them."""
    value = copy.deepcopy(draw(st.sampled_from([*SAMPLES, CONTRACT])))
    for step in value.get("steps", []):
        chosen = draw(st.lists(st.sampled_from(sorted(CONTROLS)), max_size=2, unique=True))
        config = {key: copy.deepcopy(CONTROLS[key]) for key in chosen}
        step["config"] = {**step.get("config", {}), **config}
    for _ in range(draw(st.integers(0, 4))):
        *way, last = draw(st.sampled_from(places_of(value)[1:])) or [None]
        holder = value
        for key in way:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(ODD)
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["uses", "input", "output", "config", "depends_on", "id", "type", "x"]))] = (
                draw(ODD)
            )
    return value


@given(mutilated())
@settings(max_examples=250, deadline=None)
def test_a_file_of_any_shape_is_loaded_or_told_about(value: Any) -> None:
    root = Path("/nowhere")
    is_skill = "steps" in value
    path = root / ("skills/x.skill.yaml" if is_skill else "capabilities/x.yaml")

    text = yaml.safe_dump(value, allow_unicode=True)
    file = read_file(path, root, text.encode())
    built_in = {found.id: found for found in _built_in() if found.id is not None}
    contracts = {name: found for name, found in built_in.items() if found.skill is None}
    skills = {name: found for name, found in built_in.items() if found.skill is not None}
    if file.id is not None:
        (skills if is_skill else contracts)[file.id] = file
    linked = link(skills, contracts)

    problems = [*file.problems, *(one for found in linked.problems.values() for one in found)]
    lines = text.split("\n")
    assert all(1 <= one.line <= len(lines) and one.column >= 1 for one in problems if one.file == file.name)
    has_errors = any(one.severity == "error" for one in problems if one.file == file.name)
    can_run = file.id is not None and file.id in (linked.skills if is_skill else linked.capabilities)
    assert can_run is not has_errors


@lru_cache(None)
def _built_in() -> list[Any]:
    paths = sorted(PACKAGED.glob("*/*.yaml"))
    return [read_file(path, PACKAGED, path.read_bytes()) for path in paths]


@given(st.text(max_size=60) | st.text("ab:-[]{},&*!|>'\"#%@\n ?~.01<", max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_yaml_or_refused_inside_of_itself(text: str) -> None:
    refused = None
    try:
        Document(text)
    except BadYaml as exc:
        refused = exc

    assert refused is None or (min(refused.place) >= 1 and refused.message)


TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co"), include_characters="\n\t\x85\u2028\u2029"), max_size=8
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_json_is_yaml_and_means_the_same(value: Any, is_wide: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2 if is_wide else None)

    assert Document(text).value == value


def test_what_the_core_schema_makes_of_plain_text() -> None:
    text = "[0o17, 0x1F, +12, 1e3, .5, 012, ~, Null, TRUE, yes, on, 1_000, 2026-11-27, 0b1, 12:30, '1', ]"

    assert Document(text).value == [
        15,
        31,
        12,
        1000.0,
        0.5,
        12,
        None,
        None,
        True,
        *["yes", "on", "1_000", "2026-11-27", "0b1", "12:30", "1"],
    ]


def test_line_ends_of_other_worlds_are_none_in_yaml() -> None:
    document = Document('a: one\u2028two\nb: "\x85 \ue000"\n')

    assert document.value == {"a": "one\u2028two", "b": "\x85 \ue000"}
    assert document.at(("b",)) == (2, 4)
