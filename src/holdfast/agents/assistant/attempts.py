"""
Asking a model until it answers or no further attempt makes sense: attempts with waits, forms of a request that leave out
what a provider may refuse, and where all that failed, the next model.

What the model says is emitted while it arrives. The output of an attempt that failed is declared void.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias, cast

import msgspec
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from holdfast.agents.assistant.providers import (
    PROVIDER_ERRORS,
    SILENCE_SECONDS,
    CutOff,
    ProviderFailure,
    counts_bytes,
    failure_of,
    wait_before_retry,
)
from holdfast.execution.context import Context

Sleep: TypeAlias = Callable[[float], Awaitable[None]]
Say: TypeAlias = Callable[[ModelResponseStreamEvent], Awaitable[None]]
Form: TypeAlias = tuple[list[ModelMessage], ModelRequestParameters]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request: a response, or the last failure; and which model and which form of the request it was."""

    response: ModelResponse | None = None
    failure: ProviderFailure | None = None
    place: int = 0
    form: int = 0


async def ask_first_that_answers(
    context: Context,
    models: Sequence[Model[Any]],
    forms_for: Callable[[Model[Any]], list[Form]],
    settings: ModelSettings | None,
    say: Callable[[], Say],
    sleep: Sleep,
    *,
    place: int = 0,
    form: int = 0,
) -> Asked:
    """
    Ask the model at this place of the list, then those behind it. A context that is too long is not asked about again.

    Args:
        forms_for: the forms of the request for a model, the best first.
        form: the first one that the first model is asked in.
        say: makes what emits the events of one attempt.
    """
    asked = Asked()
    for current, model in enumerate(models[place:], place):
        attempts = _Attempts(context, model, forms_for(model), _settings_for(model, settings), say, sleep)
        asked = await attempts.ask(form if current == place else 0, is_last=current == len(models) - 1)
        asked = msgspec.structs.replace(asked, place=current)
        if asked.failure is None or asked.failure.is_overflow:
            return asked
    return asked


class _Attempts:
    """Those to have one request answered by one model."""

    def __init__(
        self,
        context: Context,
        model: Model[Any],
        forms: list[Form],
        settings: ModelSettings | None,
        say: Callable[[], Say],
        sleep: Sleep,
    ) -> None:
        self._context = context
        self._model = model
        self._forms = forms
        self._settings = settings
        self._say = say
        self._sleep = sleep

    async def ask(self, form: int, *, is_last: bool) -> Asked:
        """Ask in this form, and in the next one where the provider does not want it."""
        failing_since: float | None = None
        form = min(form, len(self._forms) - 1)
        for attempt in itertools.count(1):
            first = self._context.next_sequence
            try:
                response = await self._stream(*self._forms[form])
            except UserError:
                if form == len(self._forms) - 1:
                    raise
                form += 1  # the library itself knows that this model does not take it so
            except PROVIDER_ERRORS as exc:
                failure = failure_of(exc)
                self._context.execution.tally.provider_answers = failure.is_about_request
                if failure.is_rejected and form < len(self._forms) - 1:
                    form += 1
                    await self._announce(first, attempt, 0, failure)
                    continue
                now = time.monotonic()
                failing_since = failing_since or now  # an answer may take its time before it breaks off
                wait = wait_before_retry(failure, attempt, now - failing_since, random.random())
                if wait is None:
                    if not (is_last or failure.is_overflow):
                        await self._announce(first, attempt, 0, failure)
                    return Asked(failure=failure, form=form)
                await self._announce(first, attempt, wait, failure)
                await self._sleep(wait)
            else:
                self._context.execution.tally.provider_answers = True
                return Asked(response=response, form=form)
        raise AssertionError("there is always a next attempt, or an end")

    async def _stream(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> ModelResponse:
        """One attempt: the whole response, emitted while it arrives."""
        say = self._say()
        # Where the provider's client looks for silence, it counts bytes, of which not each makes an event.
        is_watched = counts_bytes(self._model) and "timeout" in (self._settings or {})
        patience = None if is_watched else SILENCE_SECONDS
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(patience):
                stream = await stack.enter_async_context(
                    self._model.request_stream(messages, self._settings, parameters)
                )
            events = aiter(stream)
            while True:
                async with asyncio.timeout(patience):
                    event = await anext(events, None)
                if event is None:
                    break
                await say(event)
        response = stream.get()
        if response.state == "incomplete":
            raise CutOff(f"{self._model.model_name}: the stream ended before the response did")
        return response

    async def _announce(self, first: int, attempt: int, wait: float, failure: ProviderFailure) -> None:
        """Tell that the request is made again, and which events of its failed attempt count no more."""
        context = self._context
        last = context.next_sequence - 1
        await context.emit(
            "provider_retry",
            attempt=attempt,
            wait_seconds=round(wait, 3),
            model=self._model.model_name,
            code=failure.code,
        )
        if last >= first:
            await context.event(
                "restarted", attempt=context.attempt, discard_from=first, discard=[[first, last]], reason="provider"
            )


def _settings_for(model: Model[Any], settings: ModelSettings | None) -> ModelSettings | None:
    """The settings without those that this model refuses."""
    if settings is None:
        return None
    return cast(
        ModelSettings, {name: value for name, value in settings.items() if name not in model.unsupported_settings}
    )
