"""What matches does not leave, all else does, wherever the pieces were cut."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.execution.redaction import MATCH_CHARACTERS_MAX, InvalidPattern, Redactor, Row

# Bounded ones, greedy ones, such that look around, and such that are each other's beginning.
PATTERNS = [
    r"ab",
    r"a+b?",
    r"\bab\b",
    r"a[bc]{2,4}",
    r"abcabc|bc",
    r"(?<=c)a",
    r"a(?=b)",
    r"a(?!b)",
    r"ab$",
    r"^ca",
    r"(?i)BC",
    r"c.{0,3}c",
    r"(a)\1",
    r"a(b{250,255}|c)",
]


def streamed(redactor: Redactor, pieces: list[str]) -> str:
    row = Row(redactor)
    return "".join([*(row.feed(piece) for piece in pieces), row.end()])


@given(
    patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    pieces=st.lists(st.text("abc \n", max_size=8), max_size=12),
)
@settings(max_examples=400, deadline=None)
@example(patterns=[r"abcabc|bc"], pieces=["ab", "c", "ab", "b", "c"])
@example(patterns=[r"abcabc|bc"], pieces=["abcab", "c"])
@example(patterns=[r"ab", r"b c"], pieces=["ab", " c"])
@example(patterns=[r"a(b{250,255}|c)"], pieces=["a", "b" * 255, "c"])
@example(patterns=[r"a(b{250,255}|c)", "ab"], pieces=["a", "b" * 200, "b" * 60, "c"])
def test_text_in_pieces_is_redacted_as_the_whole_text(patterns: list[str], pieces: list[str]) -> None:
    redactor = Redactor(patterns)

    assert streamed(redactor, pieces) == redactor.text("".join(pieces))


@given(pieces=st.lists(st.text("sk-1 ", max_size=5), max_size=60))
@settings(max_examples=200, deadline=None)
def test_only_what_may_still_match_is_held_back(pieces: list[str]) -> None:
    redactor = Redactor([r"sk-1{4}"])
    row, given_out = Row(redactor), ""

    for piece in pieces:
        given_out += row.feed(piece)
        assert "sk-1111" not in given_out

    held = redactor.text("".join(pieces)).removeprefix(given_out)
    assert row.end() == held
    assert len(held) <= MATCH_CHARACTERS_MAX


def test_text_without_the_beginning_of_a_match_is_given_out_at_once() -> None:
    row = Row(Redactor([r"sk-\d{4}"]))

    assert row.feed("Hello, ") == "Hello, "
    assert row.feed("ask") == "a"
    assert row.feed(" me") == "sk me"
    assert not row.has_matched


def test_text_is_held_for_at_most_256_characters() -> None:
    row = Row(Redactor([r"BEGIN.*END"]))

    assert row.feed("BEGIN") == ""
    assert row.feed("x" * (MATCH_CHARACTERS_MAX - 5)) == ""
    assert len(row.feed("x")) == MATCH_CHARACTERS_MAX + 1


@pytest.mark.parametrize("size", [1, 2, 16, 255, 256])
def test_a_match_of_up_to_256_characters_is_found_in_single_characters(size: int) -> None:
    secret = "k" + "1" * (size - 1)
    redactor = Redactor([rf"k1{{{size - 1}}}(?!1)"])

    assert streamed(redactor, [*f"before {secret} after"]) == "before [REDACTED] after"


def test_matches_that_overlap_or_touch_are_one() -> None:
    redactor = Redactor([r"abcd", r"cdef"])

    assert redactor.text("xabcdefx") == "x[REDACTED]x"
    assert redactor.text("abcdabcd") == "[REDACTED]"
    assert streamed(redactor, [*"xabcdefx abcdabcd"]) == "x[REDACTED]x [REDACTED]"


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("id 1234", "id [REDACTED]"),
        (1234, "[REDACTED]"),
        (12.5, 12.5),
        ({"1234": [True, None, {"a": "1234"}]}, {"[REDACTED]": [True, None, {"a": "[REDACTED]"}]}),
        ({"1234": 1, "5678": 2}, {"[REDACTED]": 1, "[REDACTED]_": 2}),
    ],
)
def test_values_are_redacted_in_every_place(value: Any, clean: Any) -> None:
    assert Redactor([r"\d{4}"]).value(value) == clean


def test_json_without_a_match_keeps_its_bytes() -> None:
    data = b'{"b": 1, "a": "\\u00e9"}'

    assert Redactor([r"\d{4}"]).json(data) is data


@pytest.mark.parametrize("pattern", ["(", "a*", "", "[z-a]"])
def test_a_pattern_that_cannot_hold_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPattern) as caught:
        Redactor(["fine", pattern])

    assert caught.value.details == {"index": 1}


def test_a_token_costs_little() -> None:
    row = Row(Redactor([r"sk-\w{20,}", r"\b\d{3}-\d{2}-\d{4}\b", r"[\w.]+@[\w.]+"]))
    began = time.process_time()

    for _ in range(5000):
        row.feed("word and ")

    assert time.process_time() - began < 20
