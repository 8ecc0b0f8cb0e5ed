"""
What the execution asks of an agent: the contract between the kernel and whatever can run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import msgspec

from holdfast.model import Step
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


@runtime_checkable
class Defined(Protocol):
    """An agent whose runs keep the definition that it had when they began, whatever its files say later."""

    async def definition(self) -> bytes:
        """What it is at this moment; equal definitions are equal bytes. `Context.definition` gives them back."""
        ...


@runtime_checkable
class Closing(Protocol):
    """An agent that shows steps as under way while its run waits, and ends them with the run."""

    def last_words(self, steps: Iterable[Step], now: int) -> Sequence[tuple[tuple[str, str], Step]]:
        """For a run that ends without being executed: the event (type, own fields) and the row that end each of these."""
        ...


class ToolPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools an agent may call. Without anything declared, all."""

    allowed: tuple[str, ...] | None = None  # None: all that are not denied
    denied: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether a tool of this name may be called; a denial wins over a permission."""
        return name not in self.denied and (self.allowed is None or name in self.allowed)


class SafetyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is not told and does not tell. Without anything declared, nothing is looked at."""

    block_prompt_injection: bool = False  # an input with a known phrase starts no run
    redact_patterns: tuple[str, ...] = ()  # regular expressions; a match leaves as `[REDACTED]`
    halt_on_violation: bool = False  # a match fails the run instead
    max_output_chars: int | None = None  # longer output JSON is cut


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is declared about an agent beside its code, by its author or in its Dockfile. All of it may be absent.

    A `Program` may have one as its attribute `spec`; `spec_of` finds it.
    """

    description: str | None = None
    version: str = "1.0.0"
    metadata: dict[str, Any] = {}
    mode: str = "handler"  # or entrypoint
    handler: str | None = None  # `module:callable`; None: found from the code
    input_schema: dict[str, Any] | None = None  # JSON Schema 2020-12; None: what the API asks for
    output_schema: dict[str, Any] | None = None  # None: any JSON value
    output_strict: bool | None = None  # True removes undeclared keys, False lets a misfit pass
    input_strict: bool = False  # undeclared keys are refused
    timeout_seconds: float | None = None  # of execution; waiting does not count
    runs_max: int | None = None  # executing at once, over all processes of the store; None: HOLDFAST_AGENT_RUNS_MAX
    priority: int = 0  # of its runs in the queue, among those of their tenant; higher goes first
    tools: ToolPolicy = ToolPolicy()
    safety: SafetyPolicy = SafetyPolicy()


EMPTY_SPEC: Final = AgentSpec()


def spec_of(program: Program) -> AgentSpec:
    """What is declared about an agent."""
    spec = getattr(program, "spec", None)
    return spec if isinstance(spec, AgentSpec) else EMPTY_SPEC


def declared_id(program: Program) -> str | None:
    """The UUID that its author gave an agent, in lower case; None: it has the one that its name makes."""
    given = getattr(program, "id", None)
    return given if isinstance(given, str) else None


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
    events: tuple[tuple[str, dict[str, Any]], ...] = ()  # of the author's own, written with `complete` in one commit


class Programs(Protocol):
    """The agents that a process serves."""

    def get(self, name: str) -> Program | None: ...

    def names(self) -> Iterable[str]: ...
