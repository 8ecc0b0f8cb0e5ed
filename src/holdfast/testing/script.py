"""
Agents that do what a test says, item by item.

    scripted("greeter", Token("Hel"), Token("lo"), Ask("Go on?"), Return("Hello"))

They are agents like any other: executed by the real kernel, so numbers, durability, questions, restarts and what is void
after them are those of a real server. Done again after a restart, an item that has its result on record is not done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.agents.function import check_name
from holdfast.errors import AgentFailed
from holdfast.execution.context import Context
from holdfast.execution.program import Result
from holdfast.model.lifecycle import Restart as RestartPolicy


class Token(msgspec.Struct, frozen=True):
    """A piece of text of the answer."""

    text: str


class Thinking(msgspec.Struct, frozen=True):
    """A piece of the model's thinking."""

    text: str


class Progress(msgspec.Struct, frozen=True):
    """How far the work is, 0 to 1."""

    progress: float
    message: str = ""


class Emit(msgspec.Struct, frozen=True):
    """An event of the agent's own."""

    type: str
    data: Any = None


class Step(msgspec.Struct, frozen=True):
    """A step and its result: the events step_started and step_completed."""

    name: str
    output: Any = None


class Tool(msgspec.Struct, frozen=True):
    """A tool call with what came of it: the events tool_call and tool_result."""

    name: str
    input: dict[str, Any] = {}
    output: Any = None
    error: str | None = None
    id: str = "call_1"


class Ask(msgspec.Struct, frozen=True):
    """A question; the run waits until it is answered."""

    question: str
    choices: tuple[str, ...] | None = None
    expires_in: float | None = None


class Approve(msgspec.Struct, frozen=True):
    """A permission that a person has to give; refused, the script goes on."""

    question: str
    expires_in: float | None = None


class CallTool(msgspec.Struct, frozen=True):
    """A tool that the caller of the run executes (Workflow API); an error that it answers fails the run."""

    name: str
    arguments: dict[str, Any] = {}


class Wait(msgspec.Struct, frozen=True):
    """Wait until the test calls `FakeServer.go_on(name)`."""

    name: str = "gate"


class Drop(msgspec.Struct, frozen=True):
    """The network cuts all connections, once; the run goes on."""


class Restart(msgspec.Struct, frozen=True):
    """The server is killed and started anew, once; the run is taken up again."""


class Fail(msgspec.Struct, frozen=True):
    """The end: the run fails with this message."""

    message: str = "the script says so"


class Return(msgspec.Struct, frozen=True):
    """The end: the run completes with this output. Without it, the joined text is the output."""

    output: Any


Item = (
    Token | Thinking | Progress | Emit | Step | Tool | Ask | Approve | CallTool | Wait | Drop | Restart | Fail | Return
)


class Happenings:
    """What the server does at a script's word; each fault of a run happens once, however often the run is executed."""

    def __init__(self, drop: Callable[[], None], restart: Callable[[], None]) -> None:
        self._drop, self._restart = drop, restart
        self._done: set[tuple[str, int]] = set()
        self._gates: dict[str, asyncio.Event] = {}

    def gate(self, name: str) -> asyncio.Event:
        """What `Wait` waits for; on the server's event loop."""
        return self._gates.setdefault(name, asyncio.Event())

    async def drop(self, run_id: str, place: int) -> None:
        """Cut the connections, once for this place of this run."""
        if self._is_first(run_id, place):
            self._drop()

    async def restart(self, run_id: str, place: int) -> None:
        """Have the server killed; what calls this ends with it."""
        if self._is_first(run_id, place):
            self._restart()
            await asyncio.Event().wait()

    def _is_first(self, run_id: str, place: int) -> bool:
        if (run_id, place) in self._done:
            return False
        self._done.add((run_id, place))
        return True


class ScriptedAgent:
    """See `scripted`."""

    framework = "custom"
    restart = RestartPolicy.ALWAYS
    is_sync = False

    def __init__(self, name: str, items: tuple[Item, ...]) -> None:
        self.name = check_name(name)
        self.items = items
        self.happenings: Happenings | None = None  # of the server that serves it
        self.inputs: list[Any] = []  # of its runs, as often as they were executed

    async def execute(self, context: Context, input: Any) -> Any:
        """Perform the script."""
        self.inputs.append(input)
        texts: list[str] = []
        for place, item in enumerate(self.items):
            if isinstance(item, Return):
                return Result(output=item.output, text="".join(texts) or None)
            if isinstance(item, Token):
                texts.append(item.text)
            await self._perform(context, place, item)
        return "".join(texts)

    async def _perform(self, context: Context, place: int, item: Item) -> None:
        match item:
            case Token(text):
                await context.token(text)
            case Thinking(text):
                await context.thinking(text)
            case Progress(progress, message):
                await context.progress(progress, message)
            case Emit(type, data):
                await context.emit(type, data)
            case Step(name, output):
                await context.step(name, lambda: output)
            case Tool():
                await _tell_tool(context, item)
            case Ask(question, choices, expires_in):
                await context.ask(question, choices=choices, expires_in=expires_in)
            case Approve(question, expires_in):
                await context.approve(question, expires_in=expires_in)
            case CallTool(name, arguments):
                await context.call_tool(name, arguments)
            case Fail(message):
                raise AgentFailed(message)
            case Wait() | Drop() | Restart():
                await self._happen(context, place, item)
            case Return():
                raise AssertionError("the end of a script is not performed")

    async def _happen(self, context: Context, place: int, item: Wait | Drop | Restart) -> None:
        happenings = self.happenings
        if happenings is None:
            raise RuntimeError(f"{type(item).__name__} needs a FakeServer that serves {self.name!r}")
        if isinstance(item, Wait):
            await happenings.gate(item.name).wait()
            return
        # What was said before it is on disk, and on its way to those who read.
        await context.execution.writer.durable()
        if isinstance(item, Drop):
            await happenings.drop(context.run_id, place)
        else:
            await happenings.restart(context.run_id, place)


async def _tell_tool(context: Context, item: Tool) -> None:
    call = {"tool": item.name, "tool_call_id": item.id}
    await context.event("tool_call", **call, input=item.input)
    if item.error is None:
        await context.event("tool_result", **call, output=item.output, truncated=False)
    else:
        await context.event("tool_result", **call, error="tool_failed", message=item.error)


def scripted(name: str, *items: Item) -> ScriptedAgent:
    """
    An agent that performs these items in their order at each of its runs; for `FakeServer`, or to be served.

    Raises:
        ValueError: the name is none.
    """
    return ScriptedAgent(name, items)
