"""
A model that says what a test tells it to, and remembers what it was asked.

    AssistantProgram(model=ScriptedModel([Says("Let me look."), Calls("find", {"name": "*.md"})], [Says("Two files.")]))

It loads the model library, so it is not a part of `holdfast.testing` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.profiles import ModelProfile


class Says(msgspec.Struct, frozen=True):
    """A piece of text."""

    text: str


class Thinks(msgspec.Struct, frozen=True):
    """A piece of thinking."""

    text: str


class Calls(msgspec.Struct, frozen=True):
    """A tool call; `arguments` are an object or the raw text of one."""

    tool: str
    arguments: dict[str, Any] | str = {}
    id: str = "c1"


# It takes whatever it is asked with.
_PROFILE: Final[ModelProfile] = {
    "supports_thinking": True,
    "supports_json_schema_output": True,
    "supports_json_object_output": True,
}

Piece = Says | Thinks | Calls | Exception
Response = Sequence[Piece]


class ScriptedModel(FunctionModel):
    """
    Gives the n-th response of its script to the n-th request of a turn, also when the turn is executed again.

    A response whose pieces hold an exception breaks off there; of `attempts` of a response, given as a list of
    responses in `retried`, each is used once.
    """

    def __init__(self, *script: Response, retried: dict[int, list[Response]] | None = None) -> None:
        super().__init__(stream_function=self._respond, model_name="scripted", profile=_PROFILE)
        self.script = script
        self.parts: dict[str, Sequence[Response]] = {}  # the script of a turn with this message: of a part of the work
        self.thinking: list[Any] = []  # of each request, how long it was to think
        self.asked: list[int] = []  # which response was wanted, in the order of the requests
        self.messages: list[list[ModelMessage]] = []  # what each request held
        self._attempts = {number: list(responses) for number, responses in (retried or {}).items()}

    async def _respond(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        number = _responses_of_this_turn(messages)
        self.asked.append(number)
        self.messages.append(list(messages))
        self.thinking.append(info.model_request_parameters.thinking)
        script = self.parts.get(_message_of_this_turn(messages), self.script)
        attempts = self._attempts.get(number)
        if not attempts and number >= len(script):
            raise AssertionError(
                f"the model was asked for response {number + 1} of this turn, and its script has {len(script)}"
            )
        for index, piece in enumerate(attempts.pop(0) if attempts else script[number]):
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            yield _delta(index, piece)


def _delta(index: int, piece: Says | Thinks | Calls) -> Any:
    if isinstance(piece, Says):
        return piece.text
    if isinstance(piece, Thinks):
        return {0: DeltaThinkingPart(content=piece.text)}
    arguments = piece.arguments if isinstance(piece.arguments, str) else msgspec.json.encode(piece.arguments).decode()
    return {index + 1: DeltaToolCall(name=piece.tool, json_args=arguments, tool_call_id=piece.id)}


def _message_of_this_turn(messages: Sequence[ModelMessage]) -> str:
    prompts = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return prompts[-1].content if prompts and isinstance(prompts[-1].content, str) else ""


def _responses_of_this_turn(messages: Sequence[ModelMessage]) -> int:
    count = 0
    for message in messages:
        if isinstance(message, ModelResponse):
            count += 1
        elif any(isinstance(part, UserPromptPart) for part in message.parts) and not any(
            isinstance(part, ToolReturnPart)  # files beside the answer of a tool
            for part in message.parts
        ):
            count = 0
    return count
