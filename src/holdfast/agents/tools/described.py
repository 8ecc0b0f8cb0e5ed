"""Tools whose input is described by a JSON Schema, because they were declared somewhere else than in Python."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from holdfast.agents.tools.tool import Tool, ToolError
from holdfast.execution.schema import InvalidSchema, schema_of

MISFITS_SHOWN: Final = 5
# What all known providers take.
MODEL_NAME_MAX: Final = 64


class DescribedTool(Tool[Any], frozen=True, kw_only=True):
    """A tool with a schema; its function is given the arguments as they are."""

    schema: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.schema

    def read(self, arguments: dict[str, Any]) -> Any:
        check_arguments(self.schema, arguments)
        return arguments


class RedeclaredTool(Tool[Any], frozen=True, kw_only=True):
    """Another tool under a name, a description and a schema of its own; its input has to fit both."""

    schema: dict[str, Any]
    inner: Tool[Any]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.inner.names)

    @property
    def parameters(self) -> dict[str, Any]:
        return self.schema

    def read(self, arguments: dict[str, Any]) -> Any:
        check_arguments(self.schema, arguments)
        return self.inner.read(arguments)


def check_arguments(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    """
    Let arguments pass that fit. A schema that we do not understand lets all pass: whoever gave it looks for itself.

    Raises:
        ToolError: they do not (`invalid_input`).
    """
    try:
        misfits = schema_of(schema).misfits(arguments)
    except InvalidSchema:
        return
    if misfits:
        raise ToolError("invalid_input", "; ".join(misfit.text for misfit in misfits[:MISFITS_SHOWN]))


def model_name(name: str) -> str:
    """A name that all providers take, for a tool whose own name they would not; different ones stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if len(plain) <= MODEL_NAME_MAX:
        return plain
    return f"{plain[: MODEL_NAME_MAX - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
