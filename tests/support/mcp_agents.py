"""An assistant whose model calls the tool that the message names, `{"tool": …, "input": {…}}`, and tells the result."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from holdfast.agents.assistant import AssistantProgram


async def _respond(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    last = messages[-1].parts
    returned = [part for part in last if isinstance(part, ToolReturnPart)]
    if returned:
        yield f"{returned[0].outcome}: {returned[0].model_response_str()}"
        return
    said = next(part.content for part in last if isinstance(part, UserPromptPart))
    if said == "tools":
        yield json.dumps(sorted(tool.name for tool in info.function_tools))
        return
    wanted = json.loads(str(said))
    yield {0: DeltaToolCall(name=wanted["tool"], json_args=json.dumps(wanted.get("input", {})), tool_call_id="c1")}


assistant = AssistantProgram(FunctionModel(stream_function=_respond, model_name="obeys"))
