"""
A question to the assistant's model: `{{x}}` is an input. Text, or with `json` an object of all outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents.skill.calling import Call, within
from holdfast.agents.skill.failures import UpstreamTimeoutError
from holdfast.agents.skill.generating import Generator
from holdfast.errors import ModelFailed, ModelTimedOut, NotConfigured
from holdfast.model.encoding import encode_value

if TYPE_CHECKING:
    from holdfast.agents.skill.model import Prompt

_PLACE: Final = re.compile(r"\{\{([^{}]+)\}\}")
_FENCE: Final = "```"


class PromptBinding:
    """One request to the model."""

    def __init__(self, bind: Prompt, generator: Generator) -> None:
        self._bind = bind
        self._generator = generator

    async def call(self, call: Call) -> Any:
        bind = self._bind
        prompt = filled(bind.template, call.inputs)
        system = None if bind.system is None else filled(bind.system, call.inputs)
        if bind.json:
            names = ", ".join(call.capability.outputs)
            system = "\n".join(
                filter(None, (system, f"Answer with one JSON object and nothing else. Its keys: {names}."))
            )
        say = call.token if call.stream and not bind.json else None
        try:
            text = await within(call, self._generator.generate(prompt, system, say=say))
        except ModelTimedOut as exc:
            raise UpstreamTimeoutError(f"Step '{call.step.shown}': {exc.message}") from None
        except (ModelFailed, NotConfigured) as exc:
            raise call.failed(exc.message, is_final=isinstance(exc, NotConfigured)) from None
        return _object(call, text) if bind.json else text


def _object(call: Call, text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(unfenced(text))
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise call.failed("the model's answer is no JSON object.")
    return found


def unfenced(text: str) -> str:
    """What stands between the fences, where the whole text is one fenced block; else the text. In linear time."""
    block = text.strip()
    if not (block.startswith(_FENCE) and block.endswith(_FENCE)):
        return text
    inside = block[len(_FENCE) : -len(_FENCE)].lstrip(ascii_lowercase)  # without the language
    blank = inside[: len(inside) - len(inside.lstrip())]
    if "\n" not in blank:
        return text
    return inside[blank.rindex("\n") + 1 :].rstrip()


def filled(template: str, values: Mapping[str, Any]) -> str:
    """A template with its `{{x}}` replaced; null is empty, and what is no text is JSON."""

    def value(found: re.Match[str]) -> str:
        item = values.get(found[1].strip())
        if item is None:
            return ""
        return item if isinstance(item, str) else encode_value(item)

    return _PLACE.sub(value, template)
