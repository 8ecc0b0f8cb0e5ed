"""
References, targets and paths of skills.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.agents.skill.references import (
    BadReference,
    Names,
    Reference,
    fill,
    parse_field,
    parse_reference,
    parse_target,
    texts_in,
    walk,
)


@pytest.mark.parametrize(
    ("text", "items", "expected"),
    [
        ("inputs.text", (), Reference("inputs", ("text",))),
        ("vars.a.b.0", (), Reference("vars", ("a", "b", "0"))),
        ("steps.a.output", (), Reference("steps", ("a", "output"))),
        ("steps.a.output.x.y", (), Reference("steps", ("a", "output", "x", "y"))),
        ("frame.user id", (), Reference("frame", ("user id",))),
        ("article", ("article",), Reference("item", ("article",))),
        ("article.title", ("article",), Reference("item", ("article", "title"))),
        ("article", (), None),
        ("articles", ("article",), None),
        ("inputs", (), None),
        ("Inputs.text", (), None),
        ("plain text. inputs.x", (), None),
        ("", (), None),
    ],
)
def test_a_text_is_a_reference_or_a_literal(text: str, items: tuple[str, ...], expected: Reference | None) -> None:
    assert parse_reference(text, items) == expected


@pytest.mark.parametrize(
    "text", ["inputs.", "vars..x", "vars.x.", "steps.a", "steps.a.size", "steps.a.status.x", "frame.."]
)
def test_what_only_begins_like_a_reference_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_reference(text)


@pytest.mark.parametrize(
    "text", ["inputs.x", "steps.a.output", "frame.x", "vars", "vars.", "x", "working..x", "Vars.x"]
)
def test_only_what_steps_write_is_a_target(text: str) -> None:
    with pytest.raises(BadReference):
        parse_target(text)


def test_the_longest_known_key_is_taken_first() -> None:
    names = Names(["a", "a.b"], [parse_target("vars.q.r"), parse_target("working.x.y")])

    def split(text: str) -> Any:
        reference = parse_reference(text)
        assert reference is not None
        return names.split(reference)

    assert split("inputs.a.b.0") == ("a.b", ("0",))
    assert split("inputs.a.c") == ("a", ("c",))
    assert split("inputs.z.c") == ("z", ("c",))
    assert split("vars.q.r.s") == ("q.r", ("s",))
    assert split("working.x.y") == ("x", ("y",))


def test_a_key_of_output_names_what_was_produced_or_a_value_to_copy() -> None:
    assert parse_field("summary.0.text") == Reference("produced", ("summary", "0", "text"))
    assert parse_field("vars.x") == Reference("vars", ("x",))
    assert parse_field("working.x") == Reference("produced", ("working", "x"))
    with pytest.raises(BadReference):
        parse_field("a..b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.0.b", 1),
        ("a.1", None),
        ("a.-1", None),
        ("a.²", None),
        ("0", "key"),
        ("c.0", None),
        ("a." + "9" * 9999, None),
        ("z", None),
    ],
)
def test_what_is_missing_inside_a_value_reads_null(path: str, expected: Any) -> None:
    assert walk({"a": [{"b": 1}], "0": "key", "c": "text"}, path.split(".")) == expected


def test_references_are_filled_in_everywhere_but_in_literals() -> None:
    value = {"a": ["inputs.x", "plain", 1], "b": {"$literal": "inputs.x"}, "c": {"$literal": "y", "d": "inputs.x"}}

    assert fill(value, lambda _: "READ") == {
        "a": ["READ", "plain", 1],
        "b": "inputs.x",
        "c": {"$literal": "y", "d": "READ"},
    }
    assert [path for path, _ in texts_in(value)] == [("a", 0), ("a", 1), ("c", "$literal"), ("c", "d")]
