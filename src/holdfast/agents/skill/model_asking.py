"""One request to a model for text. Loads the model library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart
from pydantic_ai.models import Model

from holdfast.agents.assistant.providers import PROVIDER_ERRORS, failure_of
from holdfast.agents.skill.generating import Ask


def asker(model: Model[Any]) -> Ask:
    """Asks this model."""

    async def ask(prompt: str, system: str | None, say: Callable[[str], None] | None) -> str:
        parts = [] if system is None else [SystemPromptPart(system)]
        messages: list[ModelMessage] = [ModelRequest(parts=[*parts, UserPromptPart(prompt)])]
        try:
            if say is None:
                return _text(await model_request(model, messages))
            return await _spoken(model, messages, say)
        except PROVIDER_ERRORS as exc:
            raise failure_of(exc).error() from exc

    return ask


async def _spoken(model: Model[Any], messages: list[ModelMessage], say: Callable[[str], None]) -> str:
    told = 0
    async with model_request_stream(model, messages) as stream:
        async for _ in stream:
            text = _text(stream.get())
            if len(text) > told:
                say(text[told:])
                told = len(text)
        return _text(stream.get())


def _text(response: ModelResponse) -> str:
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))
