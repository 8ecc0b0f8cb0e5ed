"""
What a fork takes over of the run that it comes from: the results that were on record before a point of its journal.

A step that was over before the point keeps its result; so does a question that was answered, and a round of tool calls
that was answered as a whole. A failure is kept only where the code went on after it: a fork is mostly there to try
again what failed. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from holdfast.model import Failure, Interrupt, Part, Step

_RECORDED_WITH_STARTED: Final = 0
"""In the fork's own journal, everything that it took over is there from its first event on."""


class Point(msgspec.Struct, frozen=True):
    """
    The place in a journal at which a fork begins: in front of the event `sequence`.

    Where a step is to be done again that has no events, `step` names it and `at` is when it began: what ended later is
    behind the point, also if no event lies between.
    """

    sequence: int
    step: str | None = None
    at: int | None = None

    def is_behind(self, sequence: int | None, ended_at: int | None) -> bool:
        """Whether the point is behind something that was recorded at this sequence and time."""
        if sequence is None or sequence >= self.sequence:
            return False
        return self.at is None or (ended_at is not None and ended_at <= self.at)

    def is_done_again(self, key: str) -> bool:
        return self.step is not None and (key == self.step or key.startswith(f"{self.step}/"))


class Inherited(msgspec.Struct, frozen=True):
    """What goes into the new run, with its `started` event and in the same transaction."""

    steps: tuple[Step, ...] = ()
    interrupts: tuple[Interrupt, ...] = ()


def inherit(
    point: Point, steps: Sequence[Step], interrupts: Sequence[Interrupt], new_interrupt_id: Callable[[], str]
) -> Inherited:
    """What a fork at this point takes over of these steps and interrupts."""
    went_on_at = _last_beginning(point, steps, interrupts)
    kept = [item for item in interrupts if _is_kept_interrupt(item, point, went_on_at)]
    calls = {part.tool_call_id for item in kept for part in item.parts if part.tool_call_id}
    return Inherited(
        tuple(_taken_over(step) for step in steps if _is_kept_step(step, point, calls, went_on_at)),
        tuple(
            msgspec.structs.replace(
                item, interrupt_id=new_interrupt_id(), number=0, sequence=None, resolved_sequence=None
            )
            for item in kept
        ),
    )


def call_id_of(step: Step) -> str | None:
    """The id of the tool call that a step stands for; such a step is answered and never recorded by itself."""
    if step.is_recorded or step.output is None:
        return None
    found: str = msgspec.json.decode(step.output)["call_id"]
    return found


def with_answers(steps: Sequence[Step], interrupts: Sequence[Interrupt]) -> list[Step]:
    """The steps as people see them: one that is a tool call of the caller's is over with its answer."""
    parts = {part.tool_call_id: part for interrupt in interrupts for part in interrupt.parts if part.tool_call_id}
    shown = []
    for step in steps:
        call_id = call_id_of(step)
        shown.append(step if call_id is None else _answered(step, parts.get(call_id)))
    return shown


def _answered(step: Step, part: Part | None) -> Step:
    if part is None or part.answer is None:
        return msgspec.structs.replace(step, output=None)
    answer = msgspec.json.decode(part.answer)
    if answer["errored"]:
        failure = Failure(answer["error_message"] or answer["output"], "tool_call_failed")
        return msgspec.structs.replace(step, status="failed", completed_at=part.answered_at, output=None, error=failure)
    return msgspec.structs.replace(
        step, status="completed", completed_at=part.answered_at, output=msgspec.json.encode(answer["output"])
    )


def _last_beginning(point: Point, steps: Sequence[Step], interrupts: Sequence[Interrupt]) -> int:
    """When something last began before the point that was also over before it; 0: nothing."""
    begun = [
        step.started_at
        for step in steps
        if step.is_recorded and step.status != "failed" and point.is_behind(step.sequence, step.completed_at)
    ]
    asked = [item.created_at for item in interrupts if point.is_behind(_resolved_sequence(item), item.resolved_at)]
    return max([*begun, *asked], default=0)


def _is_kept_step(step: Step, point: Point, calls: set[str], went_on_at: int) -> bool:
    if point.is_done_again(step.key):
        return False
    call_id = call_id_of(step)
    if call_id is not None:
        return call_id in calls
    if not step.is_recorded or not point.is_behind(step.sequence, step.completed_at):
        return False
    return step.status != "failed" or went_on_at >= (step.completed_at or 0)


def _is_kept_interrupt(interrupt: Interrupt, point: Point, went_on_at: int) -> bool:
    if interrupt.is_pending or any(part.answer is None for part in interrupt.parts):
        return False  # a run that ends resolves what is open without an answer
    if point.is_done_again(interrupt.step) or not point.is_behind(_resolved_sequence(interrupt), interrupt.resolved_at):
        return False
    has_failed = any(part.by == "expiry" and part.on_expiry != "default" for part in interrupt.parts)
    return not has_failed or went_on_at >= (interrupt.resolved_at or 0)


def _resolved_sequence(interrupt: Interrupt) -> int | None:
    if interrupt.is_reused:
        return _RECORDED_WITH_STARTED
    return None if interrupt.is_pending else interrupt.resolved_sequence


def _taken_over(step: Step) -> Step:
    sequence = _RECORDED_WITH_STARTED if step.is_recorded else None
    return msgspec.structs.replace(step, number=0, sequence=sequence, reused=True)
