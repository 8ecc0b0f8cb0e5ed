"""
Whether a call may run, as a turn finds it out: decided once, asked at the most once, and then on record.

A permission is good for the very bytes that the person saw. They are made once, from the repaired arguments; the
question carries their hash, and what runs is read from these bytes again. Executed again after a crash, the call has
to have the same hash as the question on record, or it does not run and nobody is asked.

Only an answer to an interrupt permits anything. Nothing that a model writes gets here as an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.agents.assistant.turn import Turn
from holdfast.agents.tools import Call, Ground, Reason, Tool, ToolError
from holdfast.agents.tools.policy import NEVER_REMEMBERED, OUTCOME_UNKNOWN, Allowed, Denied, TaskGrant
from holdfast.errors import PermissionDenied
from holdfast.execution.context import Approval
from holdfast.model.encoding import repair_value

# A question is read by a person; the whole input stands beside it.
QUESTION_CHARACTERS_MAX: Final = 2_000

YES_OR_NO: Final = ("yes", "no")
CHOICES: Final = (*YES_OR_NO, "always")


class Wanted(msgspec.Struct, frozen=True):
    """A call that the model wants to make, as its bytes."""

    tool: Tool[Any]
    data: bytes  # the arguments: sorted keys, no spaces

    @property
    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = json.loads(self.data)
        return arguments

    @property
    def hash(self) -> str:
        return input_hash(self.tool.name, self.arguments)

    def read(self) -> Any:
        """
        The tool's input.

        Raises:
            ToolError: the arguments do not fit.
        """
        return self.tool.read(self.arguments)

    def question(self, target: str | None) -> str:
        """What a person is asked; the target comes first, so that it is never cut off."""
        what = f"Allow {self.tool.name} to run"
        if target is not None:
            # A name with line ends in it must not look like more of the question.
            what = f"{what} on {target if target.isprintable() else json.dumps(target)}"
        says = self.tool.says
        text = f"{what}: {self.data.decode() if says is None else says(self.read())}"
        return text if len(text) <= QUESTION_CHARACTERS_MAX else text[: QUESTION_CHARACTERS_MAX - 1] + "…"


class Passage(msgspec.Struct, frozen=True):
    """The call may run; or a person gave its result instead, and it must not."""

    ground: Ground
    passed: Reason | None = None
    has_output: bool = False
    output: Any = None


def wanted(tool: Tool[Any], arguments: Mapping[str, Any]) -> Wanted:
    """The call with these arguments; text in them that nobody could be shown is repaired."""
    return Wanted(tool, _compact(arguments).encode())


def input_hash(tool: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of `{"input":…,"tool":…}` with sorted keys and no spaces: what a permission is good for."""
    return hashlib.sha256(_compact({"input": arguments, "tool": tool}).encode()).hexdigest()


async def pass_gate(turn: Turn, call: Call, want: Wanted) -> Passage:
    """
    Let a call through, or wait until a person does.

    Raises:
        ToolError: it may not run (`permission_denied`), or its arguments do not fit (`invalid_input`).
    """
    context, tool, read = turn.context, want.tool, want.read()
    ground = await turn.ground(tool)
    asked = context.asked(f"approve:{call.key}")
    if asked is None:
        decision = await context.execution.insist(lambda: turn.gate.decide(tool, read, context.execution.run, ground))
        if isinstance(decision, Allowed):
            return Passage(ground, decision.reason)
        if context.is_begun(f"tool:{call.key}") or context.is_begun(f"call:{call.key}"):
            # It was let through before a crash. Where it must not run twice, a person is asked about that now.
            return Passage(ground)
        if isinstance(decision, Denied):
            raise ToolError(PermissionDenied.code, f"the policy does not allow {tool.name} ({decision.rule})")
        rule, question = decision.rule, want.question(decision.target)
    else:
        rule, question = asked.rule or "", asked.question
    approval = await _ask(turn, call, want, rule, question)
    if approval.has_output:
        return Passage(ground, has_output=True, output=approval.output)
    reason = await turn.gate.reason_of(tool, read, ground)
    if approval.remember and rule not in NEVER_REMEMBERED:
        await _remember(turn, call, _grant(tool, rule, reason), approval.caller)
    if question != want.question(None if reason is None else reason.target):
        raise ToolError(PermissionDenied.code, "what the call comes down to has changed since a person allowed it")
    return Passage(ground, reason)


async def _ask(turn: Turn, call: Call, want: Wanted, rule: str, question: str) -> Approval:
    """
    The person's yes.

    Raises:
        ToolError: it was a no, nobody answered, or the answer on record was to another input.
    """
    try:
        approval = await turn.context.approve(
            question,
            key=f"approve:{call.key}",
            rule=rule,
            choices=YES_OR_NO if rule in NEVER_REMEMBERED else CHOICES,
            **_facts(turn, call, want),
        )
    except PermissionDenied as exc:
        raise ToolError(exc.code, exc.message) from exc
    if not approval.approved:
        reason = approval.note or ("nobody answered in time" if approval.by == "expiry" else "a person said no")
        raise ToolError(PermissionDenied.code, reason)
    return approval


def outcome_question(turn: Turn, call: Call, want: Wanted) -> dict[str, Any]:
    """How a person is asked whether a call may run again of which nobody knows whether it ran; see `Context.step`."""
    return {"rule": OUTCOME_UNKNOWN, "choices": YES_OR_NO, **_facts(turn, call, want)}


def _facts(turn: Turn, call: Call, want: Wanted) -> dict[str, Any]:
    return {
        "expires_in": turn.limits.hitl_expires_seconds,
        "default": False,
        "tool": want.tool.name,
        "tool_call_id": call.tool_call_id,
        "input": want.data,
        "input_hash": want.hash,
    }


def _grant(tool: Tool[Any], rule: str, reason: Reason | None) -> TaskGrant:
    host = reason.host if reason is not None and reason.rule == rule else None
    return TaskGrant(tool.name, rule, host)


async def _remember(turn: Turn, call: Call, grant: TaskGrant, by: str | None) -> None:
    """Keep a grant, once: it may have been ended when this is executed again."""
    run, grants = turn.context.execution.run, turn.gate.grants

    async def keep() -> None:
        await turn.context.execution.insist(lambda: grants.add(run, grant, by))

    await turn.context.step("grant", keep, key=f"grant:{call.key}", side_effects=False, visible=False)


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(repair_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
