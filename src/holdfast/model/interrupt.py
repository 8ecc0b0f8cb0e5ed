"""
A run that waits for the outside: who is asked what, and which answers fit.

An interrupt has one part, or one for each tool call of a round; it is resolved with its last part. Which answer is
"the same" is decided on the canonical form made here, whatever API it came through. No I/O.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from holdfast.errors import InvalidAnswer


class Kind(StrEnum):
    """What the run waits for."""

    QUESTION = "question"
    APPROVAL = "approval"
    TOOL = "tool"  # calls that the caller executes
    TIMER = "timer"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be answered. Questions, approvals and timers have exactly one, named by the empty text."""

    tool_call_id: str = ""
    tool: str = ""
    namespace: str = ""
    input: bytes = b"null"
    expires_at: int | None = None
    on_expiry: str = "default"  # default, error, fail
    default: bytes | None = None  # the canonical answer at expiry
    answer: bytes | None = None  # canonical; the first one wins for ever
    by: str | None = None  # caller, expiry, cancelled
    caller: str | None = None  # the name of the key that answered
    answered_at: int | None = None
    claim_worker: str | None = None
    claim_number: int = 0
    claim_until: int | None = None


class Interrupt(msgspec.Struct, frozen=True, kw_only=True):
    """A pending or resolved interrupt of a run."""

    interrupt_id: str
    number: int  # of its run
    kind: Kind
    status: str = "pending"  # pending, resolved, expired
    step: str  # the step key under which the agent's code finds it again
    question: str = ""
    choices: tuple[str, ...] | None = None
    reason: str | None = None
    tool: str | None = None
    tool_call_id: str | None = None
    input: bytes | None = None
    rule: str | None = None
    input_hash: str | None = None
    round: int | None = None
    answer_role: str = "executor"
    created_at: int
    resolved_at: int | None = None
    sequence: int | None = None  # of the event `interrupt`
    resolved_sequence: int | None = None  # of the event `interrupt_resolved`
    parts: tuple[Part, ...]

    @property
    def is_pending(self) -> bool:
        return self.status == "pending"

    @property
    def is_reused(self) -> bool:
        """Taken over, with its answer, by a fork: the journal of this run tells of neither."""
        return self.sequence is None and not self.is_pending

    @property
    def expires_at(self) -> int | None:
        """The earliest deadline of its open parts."""
        deadlines = [part.expires_at for part in self.parts if part.answer is None and part.expires_at is not None]
        return min(deadlines, default=None)


def canonical_answer(interrupt: Interrupt, answer: Any, *, note: str | None = None, blocks: Any = None) -> bytes:
    """
    The one form in which an answer to a question or an approval is kept and compared.

    Question: `{answer, note, blocks}`; approval: `{approved, remember, note}` and maybe `output`.
    `answer` for an approval is true, false, or an object with `approved`.

    Raises:
        InvalidAnswer: it is none of the choices, or no approval.
    """
    if interrupt.kind is Kind.QUESTION:
        if interrupt.choices is not None and answer not in interrupt.choices:
            raise InvalidAnswer(
                f"the answer must be one of {', '.join(map(repr, interrupt.choices))}; it is {answer!r}",
                choices=list(interrupt.choices),
            )
        return encode_answer({"answer": answer, "note": note, "blocks": blocks or None})
    if interrupt.kind is Kind.APPROVAL:
        return encode_answer(_approval(answer, note))
    raise InvalidAnswer(f"an interrupt of kind {interrupt.kind} does not take this kind of answer")


def _approval(answer: Any, note: str | None) -> dict[str, Any]:
    given = {"approved": answer} if isinstance(answer, bool) else answer
    if not isinstance(given, dict) or not isinstance(given.get("approved"), bool):
        raise InvalidAnswer('an approval is true, false or {"approved": true or false, "note": "…"}')
    unknown = sorted(set(given) - {"approved", "remember", "note", "output"})
    if unknown:
        raise InvalidAnswer(f"an approval has no member {unknown[0]!r}")
    own_note = given.get("note", note)
    if own_note is not None and not isinstance(own_note, str):
        raise InvalidAnswer("the note of an approval is a text")
    if not isinstance(given.get("remember", False), bool):
        raise InvalidAnswer("`remember` of an approval is true or false")
    result = {"approved": given["approved"], "remember": given.get("remember", False), "note": own_note}
    return {**result, "output": given["output"]} if "output" in given else result


def canonical_tool_output(output: str, *, errored: bool = False, error_message: str | None = None) -> bytes:
    """The canonical answer of one tool call."""
    return encode_answer({"output": output, "errored": errored, "error_message": error_message})


def encode_answer(answer: Any) -> bytes:
    """Canonical answers are compact JSON with sorted keys, so that equal ones have equal bytes."""
    return msgspec.json.encode(answer, order="sorted")


def shown_answer(kind: Kind, answer: bytes | None) -> Any:
    """The answer as people gave it: the text of a question, true or false of an approval, the object of a tool."""
    if answer is None:
        return None
    value = msgspec.json.decode(answer)
    if not isinstance(value, dict):
        return value
    if kind is Kind.QUESTION:
        return value.get("answer")
    if kind is Kind.APPROVAL:
        return value.get("approved")
    return value
