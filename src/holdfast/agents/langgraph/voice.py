"""What a graph says while it runs: its models' text, their usage, and what nodes write with a stream writer."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.errors import GraphBubbleUp

from holdfast.agents.objects import written
from holdfast.errors import InvalidOutput, ToolDenied
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.context import Context

_SILENT: Final = frozenset({"nostream", "langsmith:nostream"})
_THINKING: Final = ("reasoning", "thinking")


class Voice(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """
    Emits what models say, inside of the node that asks them, in the thread that it runs in.

    Its second base class is how a model is told to stream though it was asked for a whole answer; LangGraph's own
    handler does the same.
    """

    run_inline = True
    raise_error = True  # a run that ends says so by what emitting raises

    def __init__(self, context: Context) -> None:
        self._context = context
        self._silent: set[UUID] = set()
        self._speaking: set[UUID] = set()
        self._calls: dict[UUID, dict[str, Any]] = {}

    def tap_output_aiter(self, run_id: UUID, output: Any) -> Any:
        return output

    def tap_output_iter(self, run_id: UUID, output: Any) -> Any:
        return output

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, tags: list[str] | None = None, **_: Any
    ) -> None:
        if _SILENT & set(tags or ()):
            self._silent.add(run_id)

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, tags: list[str] | None = None, **_: Any
    ) -> None:
        if _SILENT & set(tags or ()):
            self._silent.add(run_id)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        if run_id in self._silent:
            return
        self._speaking.add(run_id)
        message = getattr(chunk, "message", None)
        if isinstance(message, BaseMessage):
            self._say(message)
        elif isinstance(token, str) and token:
            self._context.sync_emit_token(token)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        generation = response.generations[0][0] if response.generations and response.generations[0] else None
        if generation is not None and run_id not in self._silent:
            message = generation.message if isinstance(generation, ChatGeneration) else None
            if run_id not in self._speaking:
                if message is not None:
                    self._say(message)
                elif generation.text:
                    self._context.sync_emit_token(generation.text)
            self._report(message)
        self._silent.discard(run_id)
        self._speaking.discard(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._silent.discard(run_id)
        self._speaking.discard(run_id)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, inputs: Any = None, **other: Any) -> None:
        """
        Raises:
            ToolDenied: the agent's policy does not allow the tool, which is not called.
        """
        name = str(other.get("name") or (serialized or {}).get("name") or "tool")
        call = {"tool": name, "tool_call_id": str(other.get("tool_call_id") or run_id)}
        self._calls[run_id] = call
        given = inputs if isinstance(inputs, dict) else {"input": input_str}
        self._context.put("tool_call", {**call, "input": shown(given)})
        if not self._context.is_tool_allowed(name):
            self._end_call(run_id, error=ToolDenied.code, message=f"the policy does not allow {name}")
            raise ToolDenied(f"the agent's policy does not allow the tool {name!r}", tool=name)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end_call(run_id, output=shown(output.content if isinstance(output, BaseMessage) else output))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        if not isinstance(error, GraphBubbleUp | ToolDenied):
            self._end_call(run_id, error="tool_failed", message=f"{type(error).__name__}: {error}")

    def _end_call(self, run_id: UUID, **fields: Any) -> None:
        call = self._calls.pop(run_id, None)
        if call is not None:
            self._context.put("tool_result", {**call, **fields})

    def _say(self, message: BaseMessage) -> None:
        if isinstance(message.content, str):
            if message.content:
                self._context.sync_emit_token(message.content)
            return
        for block in message.content_blocks:
            if block["type"] == "text" and block["text"]:
                self._context.sync_emit_token(block["text"])
            elif block["type"] in _THINKING:
                thought = block.get("reasoning") or block.get("thinking")
                if isinstance(thought, str) and thought:
                    self._context.put("thinking", {"content": thought})

    def _report(self, message: BaseMessage | None) -> None:
        usage = message.usage_metadata if isinstance(message, AIMessage) else None
        if usage:
            fields = {
                "model": (message.response_metadata or {}).get("model_name") if message is not None else None,
                "input_tokens": usage.get("input_tokens", 0),
                "output_tokens": usage.get("output_tokens", 0),
                "cache_hit_tokens": (usage.get("input_token_details") or {}).get("cache_read", 0),
            }
            self._context.put("usage", fields)


def shown(value: Any) -> Any:
    """A value as an event shows it; what is no JSON, as text."""
    try:
        return decode_result(encode_result(value, what="the value"))
    except InvalidOutput:
        return str(value)


def emit_written(context: Context, value: Any) -> None:
    """Emit what a node writes with its stream writer; see `written`."""
    context.put_any(*written(value))
