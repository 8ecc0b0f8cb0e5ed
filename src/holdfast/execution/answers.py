"""Answers as callers give them, in the form in which they are kept. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.errors import InvalidAnswer, RunFinished
from holdfast.execution.facts import resolved_already
from holdfast.model import Interrupt, Kind, Run
from holdfast.model.encoding import repair_value
from holdfast.model.interrupt import canonical_answer, canonical_tool_output


class ToolOutput(msgspec.Struct, frozen=True):
    """What the caller's process made of one tool call."""

    tool_call_id: str
    output: str
    errored: bool = False
    error_message: str | None = None


class GivenOutput(msgspec.Struct, frozen=True):
    """An output, and the number of the claim that it was made under, if any."""

    output: ToolOutput
    claim: int | None = None


class CallAnswer(msgspec.Struct, frozen=True):
    """What became of an answer to a call: accepted, repeated, or lost with a reason (answered, claim)."""

    call_id: str
    state: str
    reason: str | None = None


def canonical_output(output: ToolOutput) -> bytes:
    """The canonical answer that an output is."""
    return canonical_tool_output(output.output, errored=output.errored, error_message=output.error_message)


def canonical_answers(
    interrupt: Interrupt, answer: Any, *, note: str | None, blocks: Any
) -> Sequence[tuple[str, bytes]]:
    """
    An answer as it is kept and compared: for each part that it answers, in their order, the part's id and the bytes.

    Raises:
        InvalidAnswer
    """
    if interrupt.kind is not Kind.TOOL:
        return [("", canonical_answer(interrupt, repair_value(answer), note=note, blocks=blocks))]
    if not isinstance(answer, list) or not answer or not all(isinstance(item, ToolOutput) for item in answer):
        raise InvalidAnswer("the answer to tool calls is a list with an output or an error for each call")
    # In the order of the parts, whatever order they come in: of two rivals, one is stopped at the first part.
    place = {part.tool_call_id: number for number, part in enumerate(interrupt.parts)}
    given = [item.tool_call_id for item in answer]
    if set(given) - set(place) or len(set(given)) != len(given):
        raise InvalidAnswer(f"the calls of this interrupt are {', '.join(sorted(place))}, each answered once")
    return [
        (item.tool_call_id, canonical_output(item))
        for item in sorted(answer, key=lambda item: place[item.tool_call_id])
    ]


def check_repeated(run: Run, interrupt: Interrupt, answers: Sequence[tuple[str, bytes]]) -> None:
    """
    Let an answer to an interrupt of a finished run pass that gives what was answered before.

    Raises:
        InterruptResolved: it has another answer.
        RunFinished: it has none, and gets none any more.
    """
    stored = {part.tool_call_id: part for part in interrupt.parts}
    for part_id, data in answers:
        part = stored[part_id]
        if part.answer is None:
            raise RunFinished(f"run {run.run_id} is {run.status}", status=run.status.value)
        if part.answer != data or part.by != "caller":
            raise resolved_already(interrupt, part.answer, part.by)
