"""
Model requests as steps: asked of the provider once, then found in the record.

What the model says is emitted while it arrives, inside of the step: if the process dies in the middle, the step is not
recorded, what was emitted is discarded, and the request is made again. Recorded, it is returned without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from holdfast.agents.assistant.attempts import Asked, Form, Say, Sleep, ask_first_that_answers
from holdfast.agents.assistant.compaction import (
    LOST,
    SUMMARIZE,
    Compaction,
    compacted,
    estimated_tokens,
    next_level,
    transcripts,
)
from holdfast.agents.assistant.history import in_plain_words, with_notes
from holdfast.agents.assistant.providers import ProviderFailure
from holdfast.agents.assistant.structured import Shape
from holdfast.agents.assistant.turn import Turn, usage_of
from holdfast.agents.assistant.voice import Voice, report_call, report_usage
from holdfast.agents.models.media import fitting


class IterationsExhausted(Exception):
    """The turn has made as many model requests as it may."""


class RecordedModel(WrapperModel):
    """A model whose requests are steps of one turn. The agent asks it for whole responses; it streams by itself."""

    def __init__(
        self,
        wrapped: Model[Any],
        turn: Turn,
        *,
        fallback: Model[Any] | None = None,
        notes: str | None = None,
        shape: Shape | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(wrapped)
        self._models = (wrapped,) if fallback is None else (wrapped, fallback)
        self._turn = turn
        self._notes = notes  # stand before this turn's message, and in no later turn
        self._shape = shape
        self._sleep = sleep
        # What the turn has learned about its models: which one answers, and in which form it takes requests.
        self._place = self._form = 0
        self.compaction: Compaction | None = None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """
        The response of the provider, or of the record.

        Raises:
            ModelFailed: the provider did not answer; that too is recorded.
            BudgetExceeded: the turn has used up its tokens; no request was made.
            IterationsExhausted: no request was made.
        """
        turn = self._turn
        if turn.requests >= turn.limits.iterations_max:
            raise IterationsExhausted
        messages = with_notes(messages, self._notes, turn.context.run_id)
        while True:
            turn.check_budget()
            shown = compacted(messages, self.compaction)
            outcome = await turn.context.step(
                "model", self._ask, shown, model_settings, model_request_parameters, visible=False
            )
            self._place, self._form = outcome.get("place", 0), outcome.get("form", 0)
            if "failure" not in outcome:
                break
            failure = msgspec.convert(outcome["failure"], ProviderFailure)
            if not (failure.is_overflow and await self._compact(messages, model_settings)):
                raise failure.error()
        response = ModelMessagesTypeAdapter.validate_json(msgspec.json.encode([outcome["response"]]))[0]
        assert isinstance(response, ModelResponse)
        turn.add(response)
        return response

    async def _ask(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> dict[str, Any]:
        """Inside the step: ask, and say what happens."""
        asked = await self._asked(
            lambda model: self._forms(messages, parameters, model), settings, lambda: Voice(self._turn).say
        )
        outcome: dict[str, Any] = {"place": asked.place, "form": asked.form}
        if asked.response is None:
            return outcome | {"failure": msgspec.to_builtins(asked.failure)}
        await self._report(asked.response, self._models[asked.place])
        return outcome | {"response": ModelMessagesTypeAdapter.dump_python([asked.response], mode="json")[0]}

    async def _asked(
        self,
        forms_for: Callable[[Model[Any]], list[Form]],
        settings: ModelSettings | None,
        say: Callable[[], Say],
    ) -> Asked:
        return await ask_first_that_answers(
            self._turn.context,
            self._models,
            forms_for,
            settings,
            say,
            self._sleep,
            place=self._place,
            form=self._form,
        )

    def _forms(self, messages: list[ModelMessage], parameters: ModelRequestParameters, model: Model[Any]) -> list[Form]:
        """
        The forms of a request, the best first. A later one does without what the provider may refuse the request for: a
        schema that it does not take, or what earlier turns have beside words, say a URL that is dead by now.
        """
        fit = fitting(messages, model)
        bare = in_plain_words(fit, self._turn.context.run_id)
        shaped = None if self._shape is None else self._shape.asked_for(parameters, model)
        forms = [] if shaped is None else [(fit, shaped)]
        forms.append((fit, parameters))
        return forms if bare == fit else [*forms, (bare, parameters)]

    async def _report(self, response: ModelResponse, model: Model[Any]) -> None:
        """The calls that the model wants, whole, and what the request cost."""
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                await report_call(self._turn, part)
        await report_usage(self._turn.context, response, model)

    # A conversation that is too long

    async def _compact(self, messages: list[ModelMessage], settings: ModelSettings | None) -> bool:
        """Show the conversation shorter from now on; false: there is no shorter way."""
        context, last = self._turn.context, self.compaction
        way = next_level(messages, context.run_id, last) if self._turn.limits.compaction else None
        if way is None:
            return False

        async def work() -> dict[str, Any]:
            summary, usage = way.summary, None
            if summary == "":
                summary, usage = await self._summarize(messages[: way.collapsed], settings)
            made = msgspec.structs.replace(way, summary=summary)
            before, after = (compacted(messages, item) for item in (last, made))
            await context.event(
                "compaction",
                messages_collapsed=way.collapsed,
                tokens_before=estimated_tokens(before),
                tokens_after=estimated_tokens(after),
            )
            return {"compaction": msgspec.to_builtins(made), "usage": usage}

        recorded = await context.step("compact", work, visible=False)
        self.compaction = msgspec.convert(recorded["compaction"], Compaction)
        if recorded["usage"] is not None:
            self._turn.add_usage(recorded["usage"])
        return True

    async def _summarize(
        self, messages: Sequence[ModelMessage], settings: ModelSettings | None
    ) -> tuple[str, dict[str, int] | None]:
        """What these messages come to, and what it cost to find out; without an answer, that they are lost."""
        for text in transcripts(messages):
            asked = await self._asked(_to_summarize(text), settings, lambda: say_nothing)
            if asked.response is not None:
                await report_usage(self._turn.context, asked.response, self._models[asked.place])
                return asked.response.text or LOST, usage_of(asked.response)
            if asked.failure is None or not asked.failure.is_overflow:
                break
        return LOST, None


def _to_summarize(text: str) -> Callable[[Model[Any]], list[Form]]:
    request = ModelRequest(parts=[UserPromptPart(content=text)], instructions=SUMMARIZE)
    return lambda _: [([request], ModelRequestParameters())]


async def say_nothing(_: ModelResponseStreamEvent) -> None:
    """A summary is not the answer."""
