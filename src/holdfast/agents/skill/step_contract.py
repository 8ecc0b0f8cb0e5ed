"""
What a step may call, with what, and what may come of it: the contracts of its capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.contract import OUTPUT_BYTES_MAX, misfit, produced, with_defaults
from holdfast.agents.skill.failures import InvalidConfigurationError, SafetyDeniedError
from holdfast.agents.skill.model import Capability
from holdfast.errors import InvalidOutput
from holdfast.execution.codec import decode_result, encode_result

RANKS: Final = {"sandbox": 0, "standard": 1, "elevated": 2, "privileged": 3}
"""How much trust each level is."""

Json = Any


def check_trust(step: StepAtWork, capability: Capability) -> None:
    """
    Raises:
        SafetyDeniedError: the capability asks for more trust than the run has.
    """
    needed, has = capability.safety.trust_level, step.work.options.trust
    if RANKS[needed] > RANKS[has]:
        raise SafetyDeniedError(f"Step '{step.shown}': {capability.id} needs trust {needed}; the run has {has}.")


def checked_inputs(step: StepAtWork, capability: Capability, given: Mapping[str, Json]) -> dict[str, Json]:
    """
    The declared inputs of a call.

    Raises:
        InvalidConfigurationError: they are not what the contract says.
    """
    inputs = with_defaults(capability.inputs, given)
    found = misfit(capability.inputs, inputs, what="input")
    if found is not None:
        raise InvalidConfigurationError(f"Step '{step.shown}': {capability.id}: {found}.")
    return inputs


def checked_output(step: StepAtWork, capability: Capability, result: Json) -> dict[str, Json]:
    """
    What a call made, as it is read from the record later.

    Raises:
        InvalidConfigurationError: it is not what the contract says.
    """
    where = f"Step '{step.shown}': {capability.id}"
    try:
        is_plain = isinstance(result, dict | str | int | float | list) or result is None
        made = produced(capability.outputs, result if is_plain else decode_result(encode_result(result, what="it")))
        if isinstance(made, str):
            raise InvalidConfigurationError(f"{where}: {made}.")
        data = encode_result(made, what="the output")
    except InvalidOutput as exc:
        raise InvalidConfigurationError(f"{where}: {exc.message}.") from None
    if len(data) > OUTPUT_BYTES_MAX:
        raise InvalidConfigurationError(f"{where}: the output has {len(data)} bytes; {OUTPUT_BYTES_MAX} are allowed.")
    decoded: dict[str, Json] = decode_result(data)
    return decoded
