"""An assistant whose model makes all the calls that the message lists, `[{"tool": …, "input": {…}}, …]`, at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from holdfast.agents.assistant import AssistantProgram


async def _respond(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    last = messages[-1].parts
    if any(isinstance(part, ToolReturnPart) for part in last):
        yield "done"
        return
    calls = json.loads(str(next(part.content for part in last if isinstance(part, UserPromptPart))))
    yield {
        index: DeltaToolCall(name=call["tool"], json_args=json.dumps(call["input"]), tool_call_id=f"c{index}")
        for index, call in enumerate(calls)
    }


assistant = AssistantProgram(FunctionModel(stream_function=_respond, model_name="obeys"))
