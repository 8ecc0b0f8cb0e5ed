"""From what a person types to the answer that an interrupt takes."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.cli.answers import answer_to, choose, how_to_answer
from holdfast.cli.screen import CliError

QUESTION = {"interrupt_id": "int_1", "kind": "question", "question": "Pay?", "choices": ["yes", "not now"]}
APPROVAL = {"interrupt_id": "int_2", "kind": "approval", "question": "Delete it?", "choices": None}
TIMER = {"interrupt_id": "int_3", "kind": "timer", "question": "", "choices": None}
TOOL = {"interrupt_id": "int_4", "kind": "tool", "question": "", "tool_calls": [{"tool_call_id": "call_1"}]}


@pytest.mark.parametrize(
    ("interrupt", "text", "options", "answer"),
    [
        (QUESTION, "yes", {}, "yes"),
        (QUESTION, "12", {"is_json": True}, 12),
        (APPROVAL, "yes", {}, True),
        (APPROVAL, " No ", {}, False),
        (APPROVAL, "yes", {"note": "go on"}, {"approved": True, "note": "go on"}),
        (
            TOOL,
            '[{"tool_call_id":"call_1","output":"42"}]',
            {"is_json": True},
            [{"tool_call_id": "call_1", "output": "42"}],
        ),
    ],
)
def test_a_text_becomes_the_answer_of_its_kind(
    interrupt: dict[str, Any], text: str, options: dict[str, Any], answer: Any
) -> None:
    assert answer_to(interrupt, text, **{"is_json": False, "note": None, **options}) == answer


@pytest.mark.parametrize(
    ("interrupt", "text", "options", "said"),
    [
        (APPROVAL, "perhaps", {}, "answer yes or no"),
        (TOOL, "42", {}, "the calls are call_1"),
        (QUESTION, "{", {"is_json": True}, "no JSON"),
        (QUESTION, "yes", {"note": "because"}, "only an approval"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused(
    interrupt: dict[str, Any], text: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(CliError, match=said):
        answer_to(interrupt, text, **{"is_json": False, "note": None, **options})


def test_the_only_interrupt_is_meant_and_timers_do_not_count() -> None:
    assert choose("q-1", [TIMER, QUESTION], None) is QUESTION


def test_of_several_interrupts_one_must_be_named() -> None:
    with pytest.raises(CliError, match=r"2 answers.*int_1: Pay\?; int_2: Delete it\?"):
        choose("q-1", [QUESTION, APPROVAL], None)

    assert choose("q-1", [QUESTION, APPROVAL], "int_2") is APPROVAL


def test_a_run_that_waits_for_nothing_takes_no_answer() -> None:
    with pytest.raises(CliError, match="q-1 waits for no answer"):
        choose("q-1", [TIMER], None)


def test_the_command_that_answers_is_shown() -> None:
    assert how_to_answer("q-1", QUESTION) == "holdfast runs answer q-1 yes|'not now'"
    assert how_to_answer("q-1", APPROVAL) == "holdfast runs answer q-1 yes|no"
    assert how_to_answer("q-1", TIMER) == ""
