"""What people are shown of steps that keep something to themselves."""

from __future__ import annotations

from holdfast.execution.withheld import Withheld, shown_steps, withheld_key
from holdfast.model import Step


def step(key: str, output: bytes | None) -> Step:
    return Step(number=1, key=key, name=key, status="completed", started_at=0, output=output)


def test_what_a_note_names_is_hidden_or_left_out() -> None:
    note = step(withheld_key("a"), Withheld(hidden=("secret", "none"), left_out=("inner",)).encode())
    made = step("a", b'{"secret":"s","none":null,"inner":1,"open":2}')

    shown = shown_steps([made, note, step("b", b'{"secret":"s"}')])

    assert shown[0].output == b'{"secret":"***","none":null,"open":2}'
    assert shown[1:] == [note, step("b", b'{"secret":"s"}')]


def test_a_step_of_an_author_that_is_called_like_a_note_is_none() -> None:
    steps = [step("a", b'{"hidden":1}'), step(withheld_key("a"), b'"mine"'), step(withheld_key("b"), b'{"hidden":"x"}')]

    assert shown_steps(steps) == steps
