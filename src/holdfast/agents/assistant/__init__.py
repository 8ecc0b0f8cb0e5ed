"""The built-in assistant: an LLM loop whose every model request and tool call is a step."""

from holdfast.agents.assistant.program import AssistantProgram

__all__ = ["AssistantProgram"]
