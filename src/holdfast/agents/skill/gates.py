"""
Gates: capabilities that say whether a call may be made, or whether its output may leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from holdfast.agents.skill.asking import Question, approve
from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.choosing import shown_inputs
from holdfast.agents.skill.failures import GateExecutionError, SafetyDeniedError, SkillError
from holdfast.agents.skill.model import Capability, Gate
from holdfast.agents.skill.step_contract import check_trust, checked_inputs
from holdfast.agents.skill.units import Unit
from holdfast.execution.codec import encode_result

Phase = Literal["pre", "post"]


class Degraded(Exception):
    """A gate did not allow it, and the step ends without an output."""

    def __init__(self, gate: str, phase: Phase, reason: str) -> None:
        super().__init__(reason)
        self.gate, self.phase, self.reason = gate, phase, reason


class _Verdict(msgspec.Struct, frozen=True):
    allowed: bool
    reason: str = ""


def gates_of(step: StepAtWork, capability: Capability | None, phase: Phase) -> Sequence[Gate]:
    """The gates of a call: those of its capability, then those of the step."""
    own = step.step.pre_gates if phase == "pre" else step.step.post_gates
    if capability is None:
        return own
    safety = capability.safety
    return (*(safety.mandatory_pre_gates if phase == "pre" else safety.mandatory_post_gates), *own)


async def pass_gates(
    step: StepAtWork,
    unit: Unit,
    phase: Phase,
    gates: Sequence[Gate],
    inputs: Mapping[str, Any],
    output: Mapping[str, Any] | None = None,
) -> None:
    """
    Ask all gates of a call, in their order. What each said is on record and not asked again.

    Raises:
        Degraded, SafetyDeniedError, ConfirmationRequiredError
        GateExecutionError: a gate failed, or did not say.
    """
    for place, gate in enumerate(gates):
        verdict = await _verdict(step, unit, phase, place, gate, inputs, output)
        if not verdict.allowed:
            await _denied(step, unit, phase, place, gate, verdict.reason, inputs)


async def _verdict(
    step: StepAtWork,
    unit: Unit,
    phase: Phase,
    place: int,
    gate: Gate,
    inputs: Mapping[str, Any],
    output: Mapping[str, Any] | None,
) -> _Verdict:
    work = step.work
    own = Unit(unit.part(f"gate:{phase}:{place}"), place=".".join(filter(None, (unit.place, f"{phase}:{place}"))))
    known = work.note(own.key)
    if known is not None:
        verdict = _Verdict(**known)
        if step.is_shown_again and not verdict.allowed and gate.on_fail == "warn":
            work.write(_warning(step, phase, gate, verdict), mark=step.key)
        return verdict
    capability = work.definition.capabilities[gate.capability]
    try:
        given = _given(step, capability, gate, inputs, output if phase == "post" else inputs, output)
        check_trust(step, capability)
        said = await step.perform(own, capability, given)
    except SkillError as error:
        raise GateExecutionError(f"Step '{step.shown}': the gate {gate.capability} failed: {error.message}") from None
    if not isinstance(said.get("allowed"), bool):
        raise GateExecutionError(f"Step '{step.shown}': the gate {gate.capability} did not say whether it allows it.")
    verdict = _Verdict(said["allowed"], "" if said["allowed"] else _reason(said))
    row = work.noted(own.key, step.shown, encode_result(verdict, what="a verdict"))
    warnings = [_warning(step, phase, gate, verdict)] if not verdict.allowed and gate.on_fail == "warn" else []
    work.write(*warnings, mark=step.key, rows=(row,))
    return verdict


def _warning(step: StepAtWork, phase: Phase, gate: Gate, verdict: _Verdict) -> tuple[str, dict[str, Any]]:
    facts = {"step": step.shown, "gate": gate.capability, "phase": phase, "reason": verdict.reason}
    return "safety_gate_warning", facts


def _given(
    step: StepAtWork,
    capability: Capability,
    gate: Gate,
    inputs: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    output: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a gate is called with: what it declares of the values that it looks at, or what its `input` says."""
    if gate.input is None:
        found = {name: source[name] for name in capability.inputs if source is not None and name in source}
    else:
        found = step.level.data.resolve(gate.input, {"input": inputs, "output": output or {}})
    return checked_inputs(step, capability, found)


def _reason(said: Mapping[str, Any]) -> str:
    reason, reasons = said.get("reason"), said.get("reasons")
    if isinstance(reason, str) and reason:
        return reason
    if isinstance(reasons, list) and reasons:
        return "; ".join(map(str, reasons))
    return "no reason was given"


async def _denied(
    step: StepAtWork, unit: Unit, phase: Phase, place: int, gate: Gate, reason: str, inputs: Mapping[str, Any]
) -> None:
    if gate.on_fail == "block":
        raise SafetyDeniedError(f"Step '{step.shown}': denied by the gate {gate.capability}: {reason}")
    if gate.on_fail == "degrade":
        raise Degraded(gate.capability, phase, reason)
    if gate.on_fail == "require_human":
        what = ".".join(filter(None, (unit.place, f"{phase}:{place}")))
        text = f"The gate {gate.capability} does not allow step '{step.shown}': {reason}. Go on?"
        await approve(step, Question(what=what, reason="require_human", text=text, input=shown_inputs(step, inputs)))
