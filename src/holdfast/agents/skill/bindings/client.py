"""
A tool that the caller of the run executes. The run waits for the answer without costing anything; by default for as long
as tools are waited for here, or for the step's own `timeout_seconds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.agents.skill.calling import Call
from holdfast.agents.skill.failures import StepTimeoutError
from holdfast.errors import ToolCallFailed
from holdfast.execution.codec import decode_result, encode_result

if TYPE_CHECKING:
    from holdfast.agents.skill.model import Client


class ClientBinding:
    """One call."""

    def __init__(self, bind: Client) -> None:
        self._bind = bind

    async def call(self, call: Call) -> Any:
        step, unit = call.step, call.unit
        execution = step.work.execution
        has_own_time = "timeout_seconds" in step.step.config
        # Each attempt is a call of its own.
        key = unit.part("call" if unit.failures == 0 else f"call:{unit.failures + 1}")
        await step.work.settle()
        step.note_asked()
        async with step.waiting():
            try:
                answered = await execution.rounds.call(
                    f"{key}:client",
                    self._bind.tool,
                    encode_result(call.inputs, what="the inputs"),
                    expires_in=call.seconds if has_own_time else None,
                    on_expiry=None,
                    default=None,
                    may_wait=True,
                    in_step=step.shown,
                )
            except (ToolCallFailed, ValueError) as exc:
                raise call.failed(str(exc), is_final=True) from None
        value = decode_result(answered.answer or b"null")
        if answered.by == "expiry" and value["errored"]:
            raise StepTimeoutError(f"Step '{step.shown}': nobody answered the call of {self._bind.tool} in time.")
        if value["errored"]:
            raise call.failed(str(value["error_message"] or value["output"]))
        return _result(call, value["output"])


def _result(call: Call, output: str) -> Any:
    """What the caller answered: an object of the outputs as JSON, or the text as the one output."""
    try:
        found = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
    outputs = call.capability.outputs
    if isinstance(found, dict) and (len(outputs) != 1 or found.keys() & outputs.keys()):
        return found
    if len(outputs) == 1 and next(iter(outputs.values())).type == "string":
        return output
    return found
