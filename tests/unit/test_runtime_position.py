"""Every row of the table that says where a reader begins."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.api.http.errors import InvalidQuery
from holdfast.api.runtime.position import Cursor, Position, find_position, read_cursor
from holdfast.model import Run, Status


def run(**fields: Any) -> Run:
    """A running run with events 0 to 9, unless told otherwise."""
    given = {"status": Status.RUNNING, "tail_sequence": 9, **fields}
    return Run(number=1, run_id="q-1", agent="a", agent_id="", input=b"{}", created_at=0, **given)


DONE = {"status": Status.COMPLETED}
ROLLED = {"epoch": 2, "epochs": ((1, 4), (2, 7))}


@pytest.mark.parametrize(
    ("fields", "cursor", "expected"),
    [
        ({}, None, Position(0, 0)),
        ({}, Cursor(5, 0), Position(5, 5)),
        ({}, Cursor(9, 0), Position(9, 9)),
        ({}, Cursor(10, 0), Position(10, 10)),
        ({}, Cursor(11, 0), Position(11, 11, "ahead")),
        (DONE, Cursor(9, 0), Position(9, 9)),
        (DONE, Cursor(10, 0), Position(10, 10, is_done=True)),
        (DONE, Cursor(99, 0), Position(99, 99, is_done=True)),
        ({"first_sequence": 5}, None, Position(0, 5, "pruned")),
        ({"first_sequence": 5}, Cursor(4, 0), Position(4, 5, "pruned")),
        ({"first_sequence": 5}, Cursor(5, 0), Position(5, 5)),
        ({}, Cursor(3, 1), Position(3, 0, "rolled_back")),
        ({"first_sequence": 5}, Cursor(8, 1), Position(8, 5, "rolled_back")),
        (ROLLED, None, Position(0, 0)),
        (ROLLED, Cursor(4, 0), Position(4, 4)),
        (ROLLED, Cursor(5, 0), Position(5, 4, "rolled_back")),
        (ROLLED, Cursor(7, 1), Position(7, 7)),
        (ROLLED, Cursor(8, 1), Position(8, 7, "rolled_back")),
        (ROLLED, Cursor(99, 1), Position(99, 7, "rolled_back")),
        (ROLLED, Cursor(8, 2), Position(8, 8)),
        (ROLLED, Cursor(8, 3), Position(8, 0, "rolled_back")),
        ({**ROLLED, "first_sequence": 6}, Cursor(5, 0), Position(5, 6, "rolled_back")),
        ({**ROLLED, **DONE}, Cursor(10, 2), Position(10, 10, is_done=True)),
        ({**ROLLED, **DONE}, Cursor(10, 1), Position(10, 7, "rolled_back")),
    ],
)
def test_the_first_row_that_fits_decides(fields: dict[str, Any], cursor: Cursor | None, expected: Position) -> None:
    assert find_position(run(**fields), cursor, None) == expected


def test_the_header_is_exclusive_and_the_parameter_inclusive() -> None:
    assert find_position(run(), None, Cursor(4, 0)).first == 5
    assert find_position(run(), Cursor(4, 0), None).first == 4
    assert find_position(run(), Cursor(8, 0), Cursor(4, 0)).first == 8
    assert find_position(run(), Cursor(3, 0), Cursor(4, 0)).first == 5


def test_the_cursor_that_decides_gives_the_epoch() -> None:
    assert find_position(run(**ROLLED), Cursor(8, 2), Cursor(5, 0)) == Position(8, 8)
    assert find_position(run(**ROLLED), Cursor(6, 2), Cursor(7, 0)) == Position(8, 4, "rolled_back")


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        (None, None),
        ("", None),
        ("0", Cursor(0, 0)),
        ("5@1", Cursor(5, 1)),
        ("9007199254740991", Cursor(2**53 - 1, 0)),
        ("007", Cursor(7, 0)),
    ],
)
def test_a_cursor_is_read(text: str | None, cursor: Cursor | None) -> None:
    assert read_cursor(text, "from_sequence") == cursor


@pytest.mark.parametrize("text", ["-1", "+1", "5@", "@1", "5@1@1", "a", "٣", "9007199254740992", "1" * 40, "5 ", "1.0"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery) as raised:
        read_cursor(text, "from_sequence")

    assert raised.value.field == "from_sequence"
