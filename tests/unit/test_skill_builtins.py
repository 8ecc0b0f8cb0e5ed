"""
What is built in: that its files are sound, and what its functions make.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.agents.skill.bindings import Bindings
from holdfast.agents.skill.builtin import builtins, checks, texts
from holdfast.agents.skill.library import Library
from holdfast.execution.steps import NotRetryable


@pytest.fixture(scope="module")
def library() -> Library:
    found = Library([])
    found.refresh()
    return found


def test_nothing_is_wrong_with_the_files_that_are_built_in(library: Library) -> None:
    assert library.problems() == []
    assert [skill.id for skill in library.skills()] == ["my.skill", "news.briefing", "news.publish"]


def test_every_contract_has_its_function_and_every_function_its_contract(library: Library) -> None:
    bindings = Bindings()

    assert {capability.id for capability in library.capabilities()} == set(
        builtins(bindings.fetcher, bindings.generator)
    )


def test_a_definition_holds_all_that_is_reached(library: Library) -> None:
    found = library.definition("skill:news.publish")

    assert set(found.skills) == {"news.publish", "news.briefing"}
    assert set(found.capabilities) == {
        "http.fetch",
        "text.content.merge",
        "text.content.summarize",
        "text.content.template",
        "text.keyword.extract",
        "text.pii.check",
    }


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("Hello world", None, "Hello world"),
        (" as\u0085it\u2028is \n", 100, " as\u0085it\u2028is \n"),
        ("One. Two! Three?", 10, "One. Two!"),
        ("One. Two.", 4, "One."),
        ("a long first sentence without an end", 12, "a long…"),
        ("a long first", 11, "a long…"),
        ("wordwithoutspaces", 5, "word…"),
        ("ab", 1, "…"),
        ("", 5, ""),
        ("Version 1.5 is out now. It is good.", 30, "Version 1.5 is out now."),
    ],
)
def test_a_summary_is_what_fits_of_the_beginning(text: str, most: int | None, expected: str) -> None:
    assert texts.summarize(text, most) == {"summary": expected}


def test_a_summary_needs_room() -> None:
    with pytest.raises(NotRetryable):
        texts.summarize("text", 0)


def test_the_label_whose_words_occur_is_chosen() -> None:
    labels = ["billing", {"label": "delivery", "description": "parcel shipping late"}]

    assert texts.classify("My parcels were shipped too late", labels) == {"label": "delivery", "confidence": 1.0}
    assert texts.classify("A bill", ["bills", "late"], context="came late, billed") == {
        "label": "bills",
        "confidence": 0.6667,
    }
    assert texts.classify("nothing of it", labels) == {"label": "billing", "confidence": 0.0}
    for wrong in ([], None, [""], [1]):
        with pytest.raises(NotRetryable):
            texts.classify("text", wrong)


def test_a_template_takes_null_as_empty_and_values_as_json() -> None:
    variables = {"a": "x", "b": None, "c": [1, {"d": True}], "e.f": "dotted"}

    assert texts.template("{{a}}-{{ b }}-{{c}}-{{c.1.d}}-{{e.f}}-{{none}}-{a}", variables) == {
        "text": 'x--[1,{"d":true}]-true-dotted--{a}'
    }


def test_texts_are_merged_without_those_that_are_null() -> None:
    assert texts.merge(["a", None, 1], "|") == {"text": "a|1", "item_count": 2}
    assert texts.merge([]) == {"text": "", "item_count": 0}


def test_keywords_are_the_words_that_occur_most() -> None:
    found = texts.keywords("The harbour and the ships: ships leave the harbour, ships return. Ärger!")["keywords"]

    assert found == ["ships", "harbour", "leave", "return", "ärger"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("write to jane.doe+x@example.co.uk.", "an e-mail address"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "an IBAN"),
        ("card 4111 1111 1111 1111", "a card number"),
        ("ssn 123-45-6789", "a social security number"),
        ("call +49 30 1234567", "a telephone number"),
        ("call (212) 555-0100", "a telephone number"),
    ],
)
def test_personal_data_is_found(text: str, what: str) -> None:
    assert checks.check_personal_data(text) == {"allowed": False, "reason": f"the text holds {what}"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "an ordinary text, 12.5 % of 1,000,000",
        "order 4111111111111112",
        "2026-11-27 16:50",
        "DE00 3704 4411 0532 1130 11",
        "user@host",
        "v1.2.3-4",
    ],
)
def test_what_only_looks_like_it_is_let_through(text: str) -> None:
    assert checks.check_personal_data(text) == {"allowed": True, "reason": None}


def test_json_is_parsed_strictly() -> None:
    assert checks.parse_json('{"a": [1, null]}') == {"data": {"a": [1, None]}}
    for wrong in ("{", "NaN", "", "[1] x"):
        with pytest.raises(NotRetryable):
            checks.parse_json(wrong)


def test_data_is_held_against_a_schema() -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}

    assert checks.validate({"a": 1}, schema) == {"valid": True, "errors": []}
    assert checks.validate({"a": "x"}, schema) == {
        "valid": False,
        "errors": [{"path": "/a", "message": "'x' is not of type 'integer'"}],
    }
    with pytest.raises(NotRetryable):
        checks.validate({}, {"type": "no such type"})


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["\n", " ", "{{ ", "a-", "a'", "1 ", "AA00 ", "a@b.", "(1", "+1 ", "\n \t"])
def test_no_text_takes_a_function_more_time_than_its_length(piece: str) -> None:
    """A search that tries every way of reading a hundred thousand characters would not end before the time is up."""
    for text in (piece * 40_000, "{{" + piece * 40_000, "x\n" + piece * 40_000):
        texts.summarize(text, 39_000)
        texts.template(text, {})
        texts.keywords(text)
        checks.check_personal_data(text)
