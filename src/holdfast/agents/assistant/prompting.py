"""One request to a model with one prompt, as a step: what a prompt skill is when it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from holdfast.agents.assistant.attempts import Sleep, ask_first_that_answers
from holdfast.agents.assistant.providers import ProviderFailure
from holdfast.agents.assistant.requests import say_nothing
from holdfast.agents.assistant.turn import usage_of
from holdfast.agents.assistant.voice import report_usage

if TYPE_CHECKING:
    from holdfast.execution.context import Context


class Prompted(msgspec.Struct, frozen=True):
    """What the model made of a prompt, and what it cost in tokens."""

    output: str
    usage: dict[str, int]


class Prompter:
    """Asks the first of some models that answers."""

    def __init__(self, models: Sequence[Model[Any]], settings: ModelSettings, *, sleep: Sleep = asyncio.sleep) -> None:
        self._models, self._settings, self._sleep = models, settings, sleep

    async def ask(
        self,
        context: Context,
        prompt: str,
        *,
        key: str,
        instructions: str | None = None,
    ) -> Prompted:
        """
        The answer to a prompt, or the one on record.

        Raises:
            ModelFailed: no model answered; that too is recorded.
        """

        async def work() -> dict[str, Any]:
            request = ModelRequest(parts=[UserPromptPart(content=prompt)], instructions=instructions)
            asked = await ask_first_that_answers(
                context,
                self._models,
                lambda _: [([request], ModelRequestParameters())],
                self._settings,
                lambda: say_nothing,
                self._sleep,
            )
            if asked.response is None:
                return {"failure": msgspec.to_builtins(asked.failure)}
            await report_usage(context, asked.response, self._models[asked.place])
            return {"output": asked.response.text or "", "usage": usage_of(asked.response)}

        recorded = await context.step("prompt", work, key=key, visible=False)
        if "failure" in recorded:
            raise msgspec.convert(recorded["failure"], ProviderFailure).error()
        return msgspec.convert(recorded, Prompted)
