"""The one strict JSON reader."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.http.errors import MalformedBody
from holdfast.api.http.strict_json import read_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return

    assert read_json(data) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(MalformedBody):
        read_json(data)


def test_integers_have_64_bits() -> None:
    for number in (2**63 - 1, -(2**63), 2**53):
        assert read_json(str(number).encode()) == number
    for data in (b"9223372036854775808", b"-9223372036854775809", b"9" * 10_000):
        with pytest.raises(MalformedBody, match="out of range"):
            read_json(data)


def test_half_a_surrogate_pair_is_refused_or_repaired() -> None:
    data = b'{"\\udc00":["\\ud83d\\ude00","a\\ud800"]}'

    assert read_json(data, repair=True) == {"\ufffd": ["\U0001f600", "a\ufffd"]}
    with pytest.raises(MalformedBody, match="surrogate"):
        read_json(data)


def test_brackets_in_strings_are_no_depth() -> None:
    assert read_json(b'"' + b"[{" * 1000 + b'\\""') == "[{" * 1000 + '"'


@pytest.mark.parametrize("quote", [b'"', b'"\\', b'"\\"' * 100_000, b"[" * 70 + b'"' + b'\\"' * 200_000])
def test_an_unfinished_string_takes_no_longer_than_another(quote: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_json(b"[" * 65 + quote)
