"""
Model requests as steps: asked of the provider once, then found in the record.

What the model says is emitted while it arrives, inside of the step: if the process dies in the middle, the step is not
recorded, what was emitted is discarded, and the request is made again. Recorded, it is returned without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from holdfast.agents.assistant.history import with_notes
from holdfast.agents.assistant.providers import (
    PROVIDER_ERRORS,
    SILENCE_SECONDS,
    CutOff,
    ProviderFailure,
    failure_of,
    wait_before_retry,
)
from holdfast.agents.assistant.turn import Turn, usage_of
from holdfast.agents.models.media import fitting, without_media

Sleep = Callable[[float], Awaitable[None]]

_BLOCK_TYPES: Final = {"text": "text", "thinking": "thinking", "tool-call": "tool_use"}


class IterationsExhausted(Exception):
    """The turn has made as many model requests as it may."""


class RecordedModel(WrapperModel):
    """A model whose requests are steps of one turn. The agent asks it for whole responses; it streams by itself."""

    def __init__(
        self,
        wrapped: Model[Any],
        turn: Turn,
        *,
        notes: str | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(wrapped)
        self._turn = turn
        self._notes = notes  # stand before this turn's message, and in no later turn
        self._sleep = sleep
        # The provider refused the conversation with media of earlier turns, say because a URL is dead by now.
        self._hides_media = False

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
            IterationsExhausted: no request was made.
        """
        if self._turn.requests >= self._turn.limits.iterations_max:
            raise IterationsExhausted
        messages = with_notes(messages, self._notes, self._turn.context.run_id)
        outcome = await self._turn.context.step(
            "model", self._ask, messages, model_settings, model_request_parameters, visible=False
        )
        if "failure" in outcome:
            raise msgspec.convert(outcome["failure"], ProviderFailure).error()
        response = ModelMessagesTypeAdapter.validate_json(msgspec.json.encode([outcome["response"]]))[0]
        assert isinstance(response, ModelResponse)
        self._hides_media = self._hides_media or outcome.get("hides_media", False)
        self._turn.add(response)
        return response

    async def _ask(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> dict[str, Any]:
        """Inside the step: ask until there is a response or no further attempt makes sense, and say what happens."""
        context = self._turn.context
        started = time.monotonic()
        messages = fitting(messages, self.wrapped)
        bare = without_media(messages, context.run_id)
        hides_media = self._hides_media or bare == messages
        for attempt in itertools.count(1):
            first = context.next_sequence
            try:
                response = await self._stream(bare if hides_media else messages, settings, parameters)
            except PROVIDER_ERRORS as exc:
                failure = failure_of(exc)
                context.execution.tally.provider_answers = failure.is_about_request
                if failure.is_rejected and not hides_media:
                    hides_media = True
                    await self._announce_retry(first, attempt, 0, failure)
                    continue
                wait = wait_before_retry(failure, attempt, time.monotonic() - started, random.random())
                if wait is None:
                    return {"failure": msgspec.to_builtins(failure)}
                await self._announce_retry(first, attempt, wait, failure)
                await self._sleep(wait)
            else:
                context.execution.tally.provider_answers = True
                await self._report(response)
                made = ModelMessagesTypeAdapter.dump_python([response], mode="json")[0]
                return {"response": made, "hides_media": True} if hides_media else {"response": made}
        raise AssertionError("there is always a next attempt, or an end")

    async def _stream(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> ModelResponse:
        """One attempt: the whole response, emitted while it arrives."""
        voice = _Voice(self._turn)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(SILENCE_SECONDS):
                stream = await stack.enter_async_context(self.wrapped.request_stream(messages, settings, parameters))
            events = aiter(stream)
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    event = await anext(events, None)
                if event is None:
                    break
                await voice.say(event)
        response = stream.get()
        if response.state == "incomplete":
            raise CutOff(f"{self.model_name}: the stream ended before the response did")
        return response

    async def _announce_retry(self, first: int, attempt: int, wait: float, failure: ProviderFailure) -> None:
        """Tell that the request is made again, and which events of its failed attempt count no more."""
        context = self._turn.context
        last = context.next_sequence - 1
        await context.emit(
            "provider_retry",
            attempt=attempt,
            wait_seconds=round(wait, 3),
            model=self.model_name,
            code=failure.code,
        )
        if last >= first:
            await context.event(
                "restarted", attempt=context.attempt, discard_from=first, discard=[[first, last]], reason="provider"
            )

    async def _report(self, response: ModelResponse) -> None:
        """The calls that the model wants, whole, and what the request cost."""
        context = self._turn.context
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                await _report_call(self._turn, part)
        await context.event("usage", model=response.model_name or self.model_name, **usage_of(response))
        # Not in the event: prices change, and what is recorded does not.
        with contextlib.suppress(LookupError, ValueError, AssertionError):  # the price is not known
            context.execution.tally.add_cost(context.agent_name, float(response.cost().total_price))


async def _report_call(turn: Turn, part: ToolCallPart) -> None:
    """
    The `tool_call` event. It belongs to the response: it stands as long as that does, however often the call itself
    is tried. A call that cannot be carried out at all gets its result here; the agent tells the model by itself.
    """
    arguments, problem = _arguments(part)
    if problem is None and part.tool_name in turn.client_tools:
        return  # it is told when it is asked, under the id that its caller answers
    tool = turn.tool(part.tool_name)
    name = part.tool_name if tool is None else tool.name
    await turn.context.event("tool_call", tool=name, tool_call_id=part.tool_call_id, input=arguments)
    if tool is None:
        problem = ("unknown_tool", f"there is no tool {part.tool_name!r}")
    if problem is not None:
        code, message = problem
        await turn.context.event("tool_result", tool=name, tool_call_id=part.tool_call_id, error=code, message=message)


def _arguments(part: ToolCallPart) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """The arguments as an object; what is none is shown as it came, with what is wrong."""
    if isinstance(part.args, dict):
        return part.args, None
    try:
        value = msgspec.json.decode(part.args or "{}")
    except msgspec.DecodeError as exc:
        return {"text": part.args}, ("invalid_input", f"the input is no JSON: {exc}")
    if not isinstance(value, dict):
        return {"value": value}, ("invalid_input", "the input is no JSON object")
    return value, None


class _Voice:
    """Emits what a response says, while it arrives."""

    def __init__(self, turn: Turn) -> None:
        self._context = turn.context
        self._base = turn.blocks
        self._separator = turn.separator

    async def say(self, event: ModelResponseStreamEvent) -> None:
        if isinstance(event, PartDeltaEvent):
            if isinstance(event.delta, TextPartDelta):
                await self._text(event.delta.content_delta)
            elif isinstance(event.delta, ThinkingPartDelta):
                await self._thinking(event.delta.content_delta)
        elif isinstance(event, PartStartEvent):
            await self._block("block_started", event.index, event.part)
            if isinstance(event.part, TextPart):
                await self._text(event.part.content)
            elif isinstance(event.part, ThinkingPart):
                await self._thinking(event.part.content)
        elif isinstance(event, PartEndEvent):
            await self._block("block_stopped", event.index, event.part)

    async def _text(self, content: str) -> None:
        if content:
            await self._context.token(self._separator + content if self._separator else content)
            self._separator = ""

    async def _thinking(self, content: str | None) -> None:
        if content:
            await self._context.thinking(content)

    async def _block(self, type: str, index: int, part: ModelResponsePart) -> None:
        block_type = _BLOCK_TYPES.get(part.part_kind)
        if block_type is not None:
            await self._context.event(type, block_index=self._base + index, block_type=block_type)
