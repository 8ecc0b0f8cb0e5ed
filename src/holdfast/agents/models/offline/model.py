"""
The offline model as a pydantic-ai model: it reads the conversation, asks `replies` and streams word by word.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from pydantic_ai._run_context import RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from holdfast.agents.models.offline.examples import example_of
from holdfast.agents.models.offline.replies import Answer, Conversation, Exchange, Reply, reply_to

NAME = "offline"


class OfflineModel(Model[None]):
    """
    Answers by rules, always the same, one word at a time.

    Between two words it lets other tasks run, for `word_delay_seconds`. Its usage numbers are word counts.
    """

    _announces_lookalike_notes: ClassVar[bool] = False  # such notes are for models that read them

    def __init__(self, *, word_delay_seconds: float) -> None:
        # It is held to a schema by giving an example of it.
        super().__init__(profile=ModelProfile(supports_json_schema_output=True))
        self._word_delay_seconds = word_delay_seconds

    @property
    def model_name(self) -> str:
        return NAME

    @property
    def system(self) -> str:
        return "holdfast"

    @property
    def provider(self) -> None:
        return None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        async with self.request_stream(messages, model_settings, model_request_parameters) as stream:
            async for _ in stream:
                pass
        return stream.get()

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        conversation = conversation_of(messages, [tool.name for tool in parameters.function_tools])
        reply = reply_to(conversation)
        if parameters.output_object is not None and not reply.wishes:
            value = example_of(parameters.output_object.json_schema, reply.text)
            reply = msgspec.structs.replace(reply, text=msgspec.json.encode(value).decode())
        yield _Stream(
            model_request_parameters=parameters,
            reply=reply,
            # Ids of calls must be unique in a turn and the same in every run of a test.
            call_prefix=f"call_{len(messages)}",
            input_words=sum(_words_of(message) for message in messages),
            word_delay_seconds=self._word_delay_seconds,
        )


@dataclass
class _Stream(StreamedResponse):
    """One reply while it is spoken."""

    reply: Reply
    call_prefix: str
    input_words: int
    word_delay_seconds: float
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        parts = self._parts_manager
        self._usage = RequestUsage(input_tokens=self.input_words)
        for word in words(self.reply.thinking):
            for event in parts.handle_thinking_delta(vendor_part_id="thinking", content=word):
                yield event
            await self._spoke(1)
        for word in words(self.reply.text):
            for event in parts.handle_text_delta(vendor_part_id="text", content=word):
                yield event
            await self._spoke(1)
        for number, wish in enumerate(self.reply.wishes, 1):
            arguments = msgspec.json.encode(wish.input).decode()
            yield parts.handle_tool_call_part(
                vendor_part_id=f"call {number}",
                tool_name=wish.tool,
                args=arguments,
                tool_call_id=f"{self.call_prefix}_{number}",
            )
            await self._spoke(_count(arguments))
        self.finish_reason = "tool_call" if self.reply.wishes else "stop"

    async def _spoke(self, count: int) -> None:
        self._usage += RequestUsage(output_tokens=count)
        await asyncio.sleep(self.word_delay_seconds)

    async def close_stream(self) -> None:
        """There is no connection to close."""

    @property
    def model_name(self) -> str:
        return NAME

    @property
    def provider_name(self) -> str | None:
        return None

    @property
    def provider_url(self) -> str | None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self.started_at


def words(text: str) -> list[str]:
    """A text in pieces of one word each, with the space behind it; joined they are the text."""
    return re.findall(r"\s*\S+\s*", text)


def conversation_of(messages: Sequence[ModelMessage], tools: Sequence[str]) -> Conversation:
    """What the rules need of the model messages: earlier turns, the last message, and what tools answered since."""
    earlier: list[Exchange] = []
    user, said = "", ""
    inputs: dict[str, dict[str, Any]] = {}
    answers: list[Answer] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            said = "".join(part.content for part in message.parts if isinstance(part, TextPart)) or said
            inputs |= {
                part.tool_call_id: part.args_as_dict() for part in message.parts if isinstance(part, ToolCallPart)
            }
            answers = []
            continue
        answered = any(isinstance(part, ToolReturnPart) for part in message.parts)
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                if answered:
                    continue  # files beside the answer of a tool
                if said:
                    earlier.append(Exchange(user, said))
                user, said, answers = _text(part), "", []
            elif isinstance(part, ToolReturnPart):
                answers.append(
                    Answer(part.tool_name, inputs.get(part.tool_call_id, {}), part.content, part.outcome != "success")
                )
    return Conversation(message=user, earlier=earlier, answers=answers, tools=frozenset(tools))


def _text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return " ".join(item for item in part.content if isinstance(item, str))


def _words_of(message: ModelMessage) -> int:
    if isinstance(message, ModelRequest):
        texts = [_text(part) for part in message.parts if isinstance(part, UserPromptPart)]
        texts += [str(part.content) for part in message.parts if isinstance(part, ToolReturnPart)]
        texts.append(message.instructions or "")
    else:
        texts = [part.content for part in message.parts if isinstance(part, TextPart)]
    return sum(_count(text) for text in texts)


def _count(text: str) -> int:
    return len(text.split())
