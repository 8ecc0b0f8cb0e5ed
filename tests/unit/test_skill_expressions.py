"""
Expressions: what they are worth, and what is refused with its column.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.agents.skill.expressions import BadExpression, UnknownNamespace, json_equal, parse
from holdfast.agents.skill.references import Reference

VALUES: dict[str, Any] = {
    "vars.x": 0,
    "vars.one": 1,
    "vars.yes": True,
    "vars.text": "abc",
    "vars.names": ["a", 1.0, True, None],
    "inputs.map": {"k": None},
    "vars.a-b": 7,
}


def read(reference: Reference) -> Any:
    return VALUES.get(str(reference))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("vars.x > -1", True),
        ("x>-1", True),
        ("a-b", 7),
        ("1 == 1.0", True),
        ("yes == 1", False),
        ("true != 1", True),
        ("[1, [true]] == [1.0, [1]]", False),
        ("text or one", "abc"),
        ("x or none", None),
        ("x and nobody", 0),
        ("one and text", "abc"),
        ("not x and not missing", True),
        ("not one == 2", True),
        ("not not text", True),
        ("not not not text", False),
        ("x or one and text", "abc"),
        ("(x or one) and 'q'", "q"),
        ("'b' in text", True),
        ("1 in 'a1'", False),
        ("1 in names", True),
        ("0 in names", False),
        ("null in names", True),
        ("'k' in inputs.map", True),
        ("'k' in null", False),
        ("'k' not in null", True),
        ("1 in 1", False),
        ("'b' > 'a'", False),
        ("true > 0", False),
        ("2 >= 2.0", True),
        ("-1.5 < -1", True),
        ("[]", []),
        ("[x, 'a', (1)]", [0, "a", 1]),
        ("'it is \"so\"'", 'it is "so"'),
        ("007", 7),
        ("vars.missing.x == null", True),
        ("one\n  and text", "abc"),
        ("vars.in", None),
        ("True", None),
    ],
)
def test_an_expression_is_worth_what_the_grammar_says(text: str, value: Any) -> None:
    found = parse(text).evaluate(read)

    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("x -1", 3),
        ("> - 1", 3),
        ("> 1", 1),
        ("a @ b", 3),
        ("1 < x < 3", 7),
        ("x = 1", 3),
        ("x == not y", 6),
        ("(x", 3),
        ("x)", 2),
        ("[x,]", 4),
        ("'abc", 1),
        ("'a\nb'", 1),
        ("x y", 3),
        ("x.", 2),
        ("x..y", 2),
        ("1.", 2),
        ("1in x", 2),
        ("vars.x.0a", 9),
        ("x and", 6),
        ("and x", 1),
        ("not", 4),
        ("x not y", 3),
        ("ä", 1),
        ("f(x)", 2),
        ("x + 1", 3),
        ("9" * 400 + ".0", 1),
        ("(" * 65 + "x" + ")" * 65, 65),
        ("x" * 1001, 1001),
        ("x\u00a0== 1", 2),
    ],
)
def test_anything_else_is_refused_with_its_column(text: str, column: int) -> None:
    with pytest.raises(BadExpression) as caught:
        parse(text)

    assert caught.value.column == column


@pytest.mark.parametrize("text", ["article.title == 1", "steps.a.size", "steps.a", "env.HOME"])
def test_a_path_into_nothing_that_can_be_read_is_told_apart(text: str) -> None:
    with pytest.raises(UnknownNamespace):
        parse(text)


def test_and_and_or_ask_only_for_what_they_need() -> None:
    asked: list[str] = []

    def noting(reference: Reference) -> Any:
        asked.append(str(reference))
        return read(reference)

    assert parse("x and one").evaluate(noting) == 0
    assert parse("one or text").evaluate(noting) == 1
    assert asked == ["vars.x", "vars.one"]


def test_lookups_name_every_reference_with_its_column() -> None:
    found = [
        (str(lookup.reference), lookup.column) for lookup in parse("not a in [vars.b, (inputs.c.0)] or 1 < d").lookups()
    ]

    assert found == [("vars.a", 5), ("vars.b", 11), ("inputs.c.0", 20), ("vars.d", 40)]


def test_values_of_any_depth_can_be_compared() -> None:
    left: Any = 1
    right: Any = True
    for _ in range(5000):
        left, right = [left], [right]

    assert not json_equal(left, right)
    assert json_equal(left, left)
