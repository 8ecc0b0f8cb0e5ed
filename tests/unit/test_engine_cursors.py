"""Where a reader of one turn goes on, whatever its cursor is."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.api.engine.cursors import EventId, Start, parse_event_id, start_behind
from holdfast.errors import InvalidRequest
from holdfast.model import Run, Status


def run(**fields: Any) -> Run:
    given: dict[str, Any] = {"tail_sequence": 9, "first_sequence": 0, **fields}
    return Run(number=1, run_id="r", agent="a", agent_id="i", status=Status.RUNNING, input=b"", created_at=0, **given)


@pytest.mark.parametrize(("text", "sequence", "epoch"), [("0", 0, 0), ("12@3", 12, 3), ("007", 7, 0)])
def test_event_ids(text: str, sequence: int, epoch: int) -> None:
    assert parse_event_id(text, field="x") == EventId(sequence, epoch)


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "1@", "@1", "1@1@1", "²", "1 ", "1\n", "9" * 17, "9007199254740992", "x"]
)
def test_what_is_no_event_id_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_event_id(text, field="Last-Event-ID")

    assert caught.value.field == "Last-Event-ID"


@pytest.mark.parametrize(
    ("journal", "cursor", "start"),
    [
        ({}, "4", Start(4)),
        ({}, "9", Start(9)),
        ({}, "10", Start(-1, "ahead", is_restart=True)),
        ({"first_sequence": 5}, "4", Start(4)),
        ({"first_sequence": 5}, "3", Start(4, "pruned")),
        ({"first_sequence": 5}, "10", Start(4, "ahead", is_restart=True)),
        ({}, "4@1", Start(-1, "rolled_back", is_restart=True)),
        ({"epoch": 1, "epochs": ((1, 6),)}, "5", Start(5)),
        ({"epoch": 1, "epochs": ((1, 6),)}, "6", Start(5, "rolled_back")),
        ({"epoch": 1, "epochs": ((1, 6),)}, "100", Start(5, "rolled_back")),
        ({"epoch": 1, "epochs": ((1, 6),)}, "6@1", Start(6)),
        ({"epoch": 2, "epochs": ((1, 6), (2, 3))}, "3@0", Start(2, "rolled_back")),
        ({"epoch": 2, "epochs": ((1, 6), (2, 8))}, "7@1", Start(7)),
        ({"epoch": 2, "epochs": ((1, 6), (2, 8))}, "7@0", Start(5, "rolled_back")),
        ({"epoch": 1, "epochs": ((1, 2),), "first_sequence": 5}, "3", Start(4, "rolled_back")),
    ],
)
def test_where_a_stream_begins(journal: dict[str, Any], cursor: str, start: Start) -> None:
    assert start_behind(run(**journal), parse_event_id(cursor, field="x")) == start
