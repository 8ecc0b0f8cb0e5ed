"""Agents of which something is declared, for tests that talk to a server process."""

from __future__ import annotations

from typing import Any

from holdfast.agents.function import FunctionAgent, agent
from holdfast.execution.context import Context
from holdfast.execution.program import AgentSpec, SafetyPolicy

INPUT = {
    "type": "object",
    "properties": {
        "query": {"type": "string"},
        "level": {"enum": ["low", "high"]},
        "count": {"type": "integer", "minimum": 1, "default": 3},
        "user": {"$ref": "#/$defs/user"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["query"],
    "$defs": {"user": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
}
OUTPUT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def declared(name: str, **spec: Any) -> FunctionAgent:
    """An agent that returns its input, or what the input names `output`."""

    @agent(name, restart="always")
    async def made(context: Context, input: Any) -> Any:
        return input["output"] if isinstance(input, dict) and "output" in input else input

    made.spec = AgentSpec(**spec)
    return made


checked = declared("checked", input_schema=INPUT, version="2.1.0", metadata={"tags": ["a"]}, description="Checks.")
closed = declared("closed", input_schema=INPUT, input_strict=True)
listed = declared("listed", input_schema={"type": "array"})
shaped = declared("shaped", output_schema=OUTPUT)
trimmed = declared("trimmed", output_schema=OUTPUT, output_strict=True)
loose = declared("loose", output_schema=OUTPUT, output_strict=False)
wary = declared("wary", safety=SafetyPolicy(block_prompt_injection=True))
brief = declared("brief", safety=SafetyPolicy(max_output_chars=10))
