"""
Asking a person whether a step may go on, in a run that may be let go meanwhile and executed again with the answer.

What was shown of a step before it asked stays shown, unless a crash came in between; so beside the question it is
written down, for the step and those around it, in which attempt of the run it was shown (`asked`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.failures import ConfirmationRequiredError, SafetyDeniedError
from holdfast.execution.codec import decode_result, encode_result
from holdfast.model import Interrupt, Kind, Part
from holdfast.model.interrupt import encode_answer

CHOICES = ("approve", "deny")
ANSWER_ROLE = "operator"
# A person is shown the input of the step; past this it is no help, and too much for an event.
INPUT_BYTES_MAX = 256 * 1024


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of whom, and what holds if nobody answers."""

    what: str  # names it within its step
    reason: str  # confirm, requires_confirmation, require_human, outcome_unknown
    text: str
    input: Any
    expires_in: float | None = None  # seconds; None: it waits for ever
    default: Literal["approve", "deny"] | None = None


class Decision(msgspec.Struct, frozen=True):
    """What came of a question. `output` is what the step made, where the person knows."""

    approved: bool
    has_output: bool = False
    output: Any = None


async def ask(step: StepAtWork, question: Question) -> Decision:
    """
    Ask, or find what was asked before; the run waits until it is answered.

    Raises:
        ConfirmationRequiredError: the caller of the run wanted no waiting.
    """
    work = step.work
    key = f"{step.key}/ask:{question.what}"
    known = work.record.interrupt(key)
    if known is None:
        if work.options.on_confirmation == "fail" and question.reason != "outcome_unknown":
            raise ConfirmationRequiredError(f"Step '{step.shown}' needs an approval: {question.text}")
        await work.settle()
    async with step.waiting():
        known = known or _written(step, key, question)
        answered = await work.execution.answer_to(known, "")
    return _decision(answered)


async def approve(step: StepAtWork, question: Question) -> None:
    """
    Ask for permission.

    Raises:
        SafetyDeniedError: it was denied, or nobody answered in time and no default was declared.
        ConfirmationRequiredError: the caller of the run wanted no waiting.
    """
    if not (await ask(step, question)).approved:
        raise SafetyDeniedError(f"Step '{step.shown}' was not approved.")


def _written(step: StepAtWork, key: str, question: Question) -> Interrupt:
    work = step.work
    execution, now = work.execution, work.now()
    expires_at = None if question.expires_in is None else now + int(question.expires_in * 1_000_000)
    default = None
    if question.default is not None:
        default = encode_answer({"approved": question.default == "approve", "remember": False, "note": None})
    interrupt = Interrupt(
        interrupt_id=execution.ids.short("int"),
        number=execution.run.number,
        kind=Kind.APPROVAL,
        step=key,
        question=question.text,
        choices=CHOICES,
        reason=question.reason,
        input=_shown(question.input),
        answer_role=ANSWER_ROLE,
        created_at=now,
        parts=(Part(expires_at=expires_at, on_expiry="error" if default is None else "default", default=default),),
    )
    execution.write_interrupt(interrupt, steps=step.asked_rows())
    return interrupt


def _shown(value: Any) -> bytes:
    data = encode_result(value, what="the input of a step")
    return data if len(data) <= INPUT_BYTES_MAX else encode_result({"omitted_bytes": len(data)}, what="a size")


def _decision(answered: Part) -> Decision:
    if answered.by == "expiry" and answered.on_expiry == "error":
        return Decision(approved=False)
    value = decode_result(answered.answer or b"{}")
    return Decision(approved=value.get("approved") is True, has_output="output" in value, output=value.get("output"))
