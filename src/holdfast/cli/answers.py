"""From what a person types to the answer that an interrupt takes. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.cli.screen import CliError

_YES: Final = frozenset({"yes", "y", "true", "approve", "approved"})
_NO: Final = frozenset({"no", "n", "false", "deny", "denied"})


def choose(run_id: str, pending: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    """
    The interrupt that is to be answered. A wanted one that is not pending is taken for a question.

    Raises:
        CliError: the run waits for nothing, or for several things.
    """
    answerable = [item for item in pending if item["kind"] != "timer"]
    if wanted is not None:
        return next((item for item in answerable if item["interrupt_id"] == wanted), {"kind": None})
    if not answerable:
        raise CliError(f"{run_id} waits for no answer")
    if len(answerable) > 1:
        listed = "; ".join(f"{item['interrupt_id']}: {item['question'] or item['kind']}" for item in answerable)
        raise CliError(f"{run_id} waits for {len(answerable)} answers; choose one with --interrupt: {listed}")
    return answerable[0]


def answer_to(interrupt: dict[str, Any], text: str, *, is_json: bool, note: str | None) -> Any:
    """
    The answer in the form that the server takes.

    Raises:
        CliError: the text cannot be meant for this interrupt.
    """
    if is_json:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise CliError(f"the answer is no JSON: {error}") from None
    if interrupt["kind"] == "tool":
        calls = ", ".join(call["tool_call_id"] for call in interrupt.get("tool_calls") or ())
        raise CliError(
            f'tool calls are answered with --json \'[{{"tool_call_id": …, "output": …}}]\'; the calls are {calls}'
        )
    if interrupt["kind"] == "approval":
        approved = _approved(text)
        return approved if note is None else {"approved": approved, "note": note}
    if note is not None:
        raise CliError("only an approval takes a note")
    return text


def how_to_answer(run_id: str, interrupt: dict[str, Any]) -> str:
    """The command that answers an interrupt; empty if none does."""
    kind = interrupt["kind"]
    if kind == "timer":
        return ""
    if kind == "approval":
        answer = "yes|no"
    elif kind == "tool":
        answer = "--json '[…]'"
    else:
        choices = interrupt.get("choices")
        answer = "|".join(map(shlex.quote, choices)) if choices else "'…'"
    return f"holdfast runs answer {run_id} {answer}"


def _approved(text: str) -> bool:
    word = text.strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise CliError(f"this is an approval: answer yes or no, not {text!r}")
