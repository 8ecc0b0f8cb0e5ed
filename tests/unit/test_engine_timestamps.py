"""Times as cursors of the Engine API: what goes out comes back, however a client prints it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.engine.timestamps import MICROSECONDS_MAX, milliseconds, parse_after
from holdfast.errors import InvalidRequest
from holdfast.model.encoding import format_time

MICROSECONDS = st.integers(0, 4_102_444_800_000_000)  # up to the year 2100


def javascript(number: float) -> str:
    """As `String(number)` prints it; Python's shortest form differs only in a trailing `.0`."""
    return repr(number).removesuffix(".0")


def go(number: float) -> str:
    """As `fmt.Sprint` prints a float64: `1.795219159987298e+12`, with the plus decoded as a space."""
    mantissa, _, exponent = f"{number:e}".partition("e")
    digits = repr(number).replace(".", "").rstrip("0").lstrip("0") or "0"
    del mantissa
    return f"{digits[0]}.{digits[1:] or '0'}e {exponent[1:].zfill(2)}"


def java(number: float) -> str:
    return go(number).replace("e ", "E")


@given(MICROSECONDS)
def test_a_time_survives_the_way_through_a_double(time: int) -> None:
    number = json.loads(milliseconds(time))

    assert parse_after(repr(number), field="after") == time
    assert parse_after(javascript(number), field="after") == time
    assert parse_after(milliseconds(time), field="after") == time


@given(st.integers(1_000_000_000_000_000, 4_102_444_800_000_000))
def test_exponent_forms_are_read(time: int) -> None:
    number = float(json.loads(milliseconds(time)))

    assert parse_after(go(number), field="after") == time
    assert parse_after(java(number), field="after") == time


@given(MICROSECONDS)
def test_iso_times_are_read(time: int) -> None:
    text = format_time(time)

    assert parse_after(text, field="after") == time
    assert parse_after(text.replace("Z", " 00:00"), field="after") == time
    assert parse_after(text.replace("Z", "-01:00"), field="after") == time + 3_600_000_000


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0", 0),
        ("-5", 0),
        ("1795219159987.2989999999999999999999999999999999", 1_795_219_159_987_298),
        ("1e300", MICROSECONDS_MAX),
        ("-1e300", 0),
        ("1E3", 1_000_000),
        ("5.", 5000),
        ("1e-9", 0),
    ],
)
def test_what_is_finer_is_cut_off_and_what_is_beyond_is_the_end(text: str, time: int) -> None:
    assert parse_after(text, field="after") == time


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "Infinity", "0x10", "1_000", "1e", "²", "1,5", "2026-11-20", "2026-11-20T23:59:19", "--1", "1e9999", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00"],
)  # fmt: skip
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_after(text, field="after")

    assert caught.value.field == "after"
