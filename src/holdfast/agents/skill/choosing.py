"""
What a step calls: one capability, one of several (router), or all of several (scatter); and with what input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.contract import masked
from holdfast.agents.skill.failures import InvalidConfigurationError
from holdfast.agents.skill.model import Capability, Field, Foreach
from holdfast.agents.skill.step_contract import checked_inputs
from holdfast.model.encoding import encode_value

ITEMS_MAX: Final = 10_000
_DEFAULT: Final = "default"

Json = Any
Made = dict[str, Json]


class Chosen(msgspec.Struct, frozen=True):
    """What a step is about to call, and with what."""

    capabilities: tuple[Capability, ...]
    inputs: Made  # as people are shown them; of one plain call, those that it is made with
    items: list[Json] | None = None  # of a foreach step


def choose(step: StepAtWork) -> Chosen:
    """
    What a step calls, and its input, looked at as far as that can be known before.

    Raises:
        InvalidConfigurationError: no case of the router fits, the items are no list, or the input breaks the contract.
    """
    capabilities = tuple(step.work.definition.capabilities[name] for name in _names(step))
    if step.work.options.include_trace:
        shown = [{"binding_id": f"{one.id}:{kind_of(one)}", "kind": kind_of(one)} for one in capabilities]
        step.facts["binding"] = shown[0] if len(shown) == 1 else shown
    if step.step.foreach is not None:
        items = _items(step, step.step.foreach)
        return Chosen(capabilities, {"items": items}, items)
    inputs = step.level.data.resolve(step.step.input)
    if step.step.scatter is None:
        inputs = checked_inputs(step, capabilities[0], inputs)
    return Chosen(capabilities, inputs)


def kind_of(capability: Capability) -> str:
    """What fulfils a capability: python, http, mcp, prompt, client or builtin."""
    return str(capability.bind.__struct_config__.tag)


def _names(step: StepAtWork) -> Sequence[str]:
    router, scatter = step.step.router, step.step.scatter
    if scatter is not None:
        return scatter.capabilities
    if router is None:
        return (step.step.uses,)
    value = step.level.evaluate(router.on)
    case = _case_of(value)
    matched = case if case in router.cases else None
    name = router.cases[case] if matched is not None else router.default
    if name is None:
        raise InvalidConfigurationError(f"Step '{step.shown}': no case of the router fits {case[:60]!r}.")
    step.facts["router_matched"] = _DEFAULT if matched is None else matched
    return (name,)


def _case_of(value: Json) -> str:
    """A value as the key of a case: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return encode_value(value)


def _items(step: StepAtWork, foreach: Foreach) -> list[Json]:
    items = step.level.evaluate(foreach.items)
    if not isinstance(items, list):
        raise InvalidConfigurationError(f"Step '{step.shown}': the items of foreach are no list.")
    if len(items) > ITEMS_MAX:
        raise InvalidConfigurationError(
            f"Step '{step.shown}': foreach has {len(items)} items; {ITEMS_MAX} are allowed."
        )
    return items


def shown_inputs(step: StepAtWork, inputs: Mapping[str, Json]) -> Mapping[str, Json]:
    """The inputs of a call, or of a step, as the person is shown them who is asked about it."""
    nested, capabilities = step.step.skill, step.work.definition.capabilities
    if nested is not None:
        return masked(step.work.definition.skills[nested].inputs, inputs)
    return masked(_united([capabilities[name].inputs for name in _callable(step)]), inputs)


def output_fields(step: StepAtWork) -> Mapping[str, Field]:
    """
    What is declared of the outputs of a step that executes; what it hands on to a sensitive output of its skill is
    sensitive too.
    """
    return hidden(step, _declared(step))


def hidden(step: StepAtWork, fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """These fields of what the step makes, those sensitive that become a sensitive output of its skill."""
    secret = {
        source if source in fields else source.partition(".")[0]
        for source, target in step.step.output.items()
        if step.level.skill.hides(target)
    }
    if not secret & set(fields):
        return fields
    return {
        name: msgspec.structs.replace(field, sensitive=True) if name in secret else field
        for name, field in fields.items()
    }


def _declared(step: StepAtWork) -> Mapping[str, Field]:
    nested, capabilities = step.step.skill, step.work.definition.capabilities
    if nested is not None:
        return step.work.definition.skills[nested].outputs
    if step.step.scatter is not None and step.step.scatter.merge == "collect":
        return {
            name: Field(type="object", sensitive=any(one.sensitive for one in capabilities[name].outputs.values()))
            for name in _callable(step)
        }
    return _united([capabilities[name].outputs for name in _callable(step)])


def _callable(step: StepAtWork) -> Sequence[str]:
    """The capabilities that a step might call."""
    router, scatter = step.step.router, step.step.scatter
    if scatter is not None:
        return scatter.capabilities
    return [step.step.uses] if router is None else [*router.cases.values(), *filter(None, [router.default])]


def _united(contracts: Sequence[Mapping[str, Field]]) -> Mapping[str, Field]:
    """All fields of several contracts; one that is sensitive anywhere is sensitive."""
    if len(contracts) == 1:
        return contracts[0]
    united: dict[str, Field] = {}
    for contract in contracts:
        for name, field in contract.items():
            if name not in united or field.sensitive:
                united[name] = field
    return united
