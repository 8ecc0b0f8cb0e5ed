"""
What the execution asks of an agent: the contract between the kernel and whatever can run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from holdfast.model.lifecycle import Restart

if TYPE_CHECKING:
    from holdfast.execution.context import Context


class Program(Protocol):
    """An agent that can be executed. Implementations are in `holdfast.agents`."""

    @property
    def name(self) -> str:
        """Unique in a server: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`."""
        ...

    @property
    def framework(self) -> str:
        """How it is made, for people: custom, assistant, langgraph, skill."""
        ...

    @property
    def restart(self) -> Restart:
        """What may happen to its runs when their process dies."""
        ...

    @property
    def is_sync(self) -> bool:
        """It occupies a thread while it executes."""
        ...

    async def execute(self, context: Context, input: Any) -> Any:
        """
        Do the work and return the output, a JSON-like value.

        Called on the event loop, which it must never block. Called again from the top, with the same input, when
        an answer came or the process died: then the context returns recorded results. Cancelling it ends the work.
        """
        ...


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """
    An output with what else is worth keeping of the work. Returning a bare value is the same as `Result(output=…)`.

    In a thread, `text` becomes the agent's message (absent: the output, as JSON text if it is no text), and `detail`
    is kept with it for the next turns: the assistant keeps its model messages there.
    """

    output: Any
    stop_reason: str = "end_turn"
    usage: dict[str, Any] | None = None
    text: str | None = None
    detail: bytes | None = None


class Programs(Protocol):
    """The agents that a process serves."""

    def get(self, name: str) -> Program | None: ...

    def names(self) -> Iterable[str]: ...
