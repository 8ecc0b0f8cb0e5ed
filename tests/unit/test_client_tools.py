"""What can be asked of a caller at all."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.execution.client_tools import check_call


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": ""}, "a tool is named"),
        ({"name": "1st"}, "a tool is named"),
        ({"name": ".find"}, "a tool is named"),
        ({"name": "a.b.c"}, "a tool is named"),
        ({"name": "find\n"}, "a tool is named"),
        ({"name": "x" * 65}, "a tool is named"),
        ({"args": ["x"]}, "are a dict, not list"),
        ({"expires_in": 0.5}, "1 to 2592000 seconds"),
        ({"expires_in": 2_592_001}, "1 to 2592000 seconds"),
        ({"expires_in": float("nan")}, "1 to 2592000 seconds"),
        ({"on_expiry": "wait"}, "error, default, fail"),
        ({"default": {"a": 1}}, "is the text"),
    ],
)
def test_what_cannot_be_asked_says_why(given: dict[str, Any], problem: str) -> None:
    call: dict[str, Any] = {"name": "crm.find", "args": {}, "expires_in": None, "on_expiry": None, "default": None}
    check_call(**call)

    with pytest.raises(ValueError, match=problem):
        check_call(**call | given)
