"""An agent of the catalog as one that can be run: the assistant with a prompt, a model and tools of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.agents.catalog.model import Definition, decode_definition
from holdfast.execution.context import Context
from holdfast.execution.program import AgentSpec, Result
from holdfast.model.lifecycle import Restart

if TYPE_CHECKING:
    from holdfast.agents.assistant.program import AssistantProgram

Make = Callable[[bytes, Definition], "AssistantProgram"]
"""The assistant that acts by a definition; the same one for the same bytes."""


class CatalogProgram:
    """
    A name and what it stands for: `define` gives the definition of the moment, or raises what keeps it from being run.
    A run is executed by the definition with which it began (`Defined`).
    """

    framework = "assistant"
    restart = Restart.ALWAYS
    is_sync = False

    def __init__(
        self, name: str, define: Callable[[], bytes], make: Make, *, description: str = "", is_internal: bool = False
    ) -> None:
        self.name = name
        self.description = description
        self.is_internal = is_internal
        self.spec = AgentSpec(description=description or None)
        self._define = define
        self._make = make

    async def definition(self) -> bytes:
        """
        Raises:
            AgentNotFound: the catalog has no such agent any more.
        """
        return self._define()

    async def refused_media(self, blocks: Sequence[Any]) -> tuple[int, str] | None:
        """The first of these blocks that a turn which begins now could not give to its model, and what it is."""
        return await self._assistant(self._define()).refused_media(blocks)

    async def execute(self, context: Context, input: Any) -> Result:
        """Answer the message in the input."""
        return await self._assistant(await context.definition()).execute(context, input)

    def _assistant(self, data: bytes) -> AssistantProgram:
        return self._make(data, decode_definition(data))
