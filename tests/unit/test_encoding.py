"""Canonical events as bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import HeldClock
from holdfast.errors import InvalidRequest
from holdfast.ids import RandomIds, SeededIds
from holdfast.model.encoding import (
    decode_event,
    encode_event,
    encode_fields,
    encode_text,
    encode_value,
    event_time,
    event_type,
    format_time,
    is_type_name,
    parse_canonical_time,
    parse_time,
    repair,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates and control characters too


@given(ANY_TEXT)
def test_text_comes_back_as_it_went_but_for_lone_surrogates(text: str) -> None:
    assert json.loads(encode_text(text)) == repair(text)


@given(ANY_TEXT)
def test_no_line_reader_cuts_an_encoded_text(text: str) -> None:
    encoded = encode_text(text)

    assert encoded.splitlines() == [encoded]
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in encoded)
    encoded.encode()


@given(
    st.recursive(
        ANY_TEXT | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
        lambda v: st.lists(v) | st.dictionaries(ANY_TEXT, v),
    )
)
def test_values_of_any_depth_are_safe_lines(value: object) -> None:
    encoded = encode_value(value)

    assert encoded.splitlines() == [encoded]
    json.loads(encoded)


def test_type_and_time_are_found_without_parsing() -> None:
    line = encode_event("q-1", 7, "token", 1_795_219_159_987_298, encode_fields({"content": 'a"type":"x'}))

    assert event_type(line) == "token"
    assert event_time(line) == 1_795_219_159_987_298
    assert list(decode_event(line)) == ["id", "type", "run_id", "sequence", "timestamp", "content"]
    assert decode_event(line)["timestamp"] == "2026-11-20T23:59:19.987298Z"


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_come_back_to_the_microsecond(microseconds: int) -> None:
    text = format_time(microseconds)

    assert parse_canonical_time(text) == microseconds
    assert parse_time(text, field="after") == microseconds


@pytest.mark.parametrize("text", ["yesterday", "2026-11-20T23:59:19", ""])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_time(text, field="after")

    assert refused.value.field == "after"


@pytest.mark.parametrize(
    ("name", "good"), [("a", True), ("_x9", True), ("9x", False), ("a.b", False), ("a" * 65, False)]
)
def test_custom_event_names_follow_one_grammar(name: str, good: bool) -> None:
    assert is_type_name(name) is good


def test_run_ids_are_uuids_of_version_seven_that_sort_by_time() -> None:
    clock = HeldClock()
    ids = [SeededIds(clock).run_id()]
    clock.advance(1)
    ids.append(RandomIds(clock).run_id())

    assert ids == sorted(ids)
    assert all(text[14] == "7" and text[19] in "89ab" for text in ids)
