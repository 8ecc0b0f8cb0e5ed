"""A model that calls the tools which the message names, all at once, and then says what came of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel


def obeying_model() -> FunctionModel:
    """A message is a JSON array of `[tool, input]`; the answer is one of what each gave, in that order."""
    return FunctionModel(stream_function=_respond, model_name="obeying")


async def _respond(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    results: list[Any] = []
    for message in reversed(messages):
        parts = message.parts if isinstance(message, ModelRequest) else []
        results = [part.content for part in parts if isinstance(part, ToolReturnPart)] + results
        prompt = next((part for part in parts if isinstance(part, UserPromptPart)), None)
        if prompt is None:
            continue
        if results:
            yield json.dumps(results)
            return
        for number, (tool, arguments) in enumerate(json.loads(str(prompt.content))):
            yield {number: DeltaToolCall(name=tool, json_args=json.dumps(arguments), tool_call_id=f"c{number}")}
        return
