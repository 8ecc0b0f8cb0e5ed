"""Agents for tests of the Workflow API: each asks its caller for something, or does one thing that a test needs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.function import agent
from holdfast.errors import ToolCallFailed
from holdfast.execution.context import Context
from holdfast.execution.sync import SyncContext

CLOCK_ID = "5f7b1a2e-0c7d-4a51-9f0e-3b8d2c6a1e77"


@agent("clock", restart="always", id=CLOCK_ID)
async def clock(context: Context, input: dict[str, Any]) -> str:
    """Asks its caller for the time."""
    return f"It is {await context.call_tool('get_current_time')}."


@agent("YOUR_AGENT_UUID", restart="always")
async def documented(context: Context, input: dict[str, Any]) -> str:
    """The agent of the documented client."""
    return f"It is {await context.call_tool('get_current_time')}."


@agent("rounds", restart="always")
async def rounds(context: Context, input: dict[str, Any]) -> list[list[str]]:
    """As many rounds as slot "1" says, each of as many calls as slot "2" says."""
    times, width = int(input["strings"]["1"]), int(input["strings"]["2"])
    found = []
    for number in range(times):
        asked = (context.call_tool(f"crm.find_{call}", {"round": number}) for call in range(width))
        found.append(list(await asyncio.gather(*asked)))
    return found


@agent("sync_clock", restart="always")
def sync_clock(context: SyncContext, input: dict[str, Any]) -> str:
    """The same as `clock`, in a thread."""
    try:
        return f"It is {context.call_tool('get_current_time')}."
    except ToolCallFailed as error:
        return f"failed: {error.message}"


@agent("say", restart="always")
async def say(context: Context, input: dict[str, Any]) -> Any:
    """What slot "1" holds."""
    return input["strings"].get("1")


@agent("broken")
async def broken(context: Context, input: dict[str, Any]) -> None:
    """Fails."""
    raise ValueError("no such topic")


@agent("steps", restart="always")
async def steps(context: Context, input: dict[str, Any]) -> str:
    """Two steps with a round between them; the texts are as long as slot "1" says."""
    size = int(input["strings"].get("1", 3))

    async def make(letter: str) -> str:
        return letter * size

    await context.step("first", make, "a")
    answer = await context.call_tool("look", {"for": "b" * min(size, 1000)})
    await context.step("second", make, "c")
    return answer


@agent("gated", restart="always")
async def gated(context: Context, input: dict[str, Any]) -> str:
    """Executes until the file that slot "1" names exists."""
    gate = Path(input["strings"]["1"])
    await context.token("here")
    while not gate.exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
    return "open"


@agent("asking", restart="always")
async def asking(context: Context, input: dict[str, Any]) -> list[Any]:
    """A question while a round is open."""
    return list(await asyncio.gather(context.call_tool("look"), context.ask("Which one?", choices=["a", "b"])))


@agent("parent", restart="always")
async def parent(context: Context, input: dict[str, Any]) -> Any:
    """Has `clock` do the work."""
    return await context.run("clock", {"strings": {}, "images": {}})


@agent("hasty", restart="always")
async def hasty(context: Context, input: dict[str, Any]) -> str:
    """Asks with a deadline of 1 s that does what slot "1" says."""
    try:
        how = input["strings"]["1"]
        return await context.call_tool("look", expires_in=1, on_expiry=how, default="nothing")
    except ToolCallFailed as error:
        return f"failed: {error.message}"


@agent("typed", restart="always")
async def typed(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Gives back its declared input."""
    return input


typed.spec = msgspec.structs.replace(
    typed.spec,
    input_schema={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}},
        "required": ["city"],
    },
)


@agent("reader", restart="always")
async def reader(context: Context, input: dict[str, Any]) -> list[Any]:
    """Names, types and lengths of the files in its slots."""
    slots = {**input["strings"], **input["images"]}
    found = []
    for _, reference in sorted(slots.items()):
        file = await context.file(reference)
        found.append([file.name, file.media_type, len(file.content)])
    return found


@agent("finder", restart="always")
async def finder(context: Context, input: dict[str, Any]) -> str:
    """Asks for `crm.lookup` with the arguments in slot "1"."""
    try:
        return await context.call_tool("crm.lookup", input["strings"]["1"])
    except ToolCallFailed as error:
        return f"failed: {error.message}"


@agent("tagged", restart="always")
async def tagged(context: Context, input: Any) -> None:
    """Does nothing, under tags."""


tagged.spec = msgspec.structs.replace(tagged.spec, version="3", metadata={"tags": ["time", "demo"]})


@agent("step_clock", restart="always")
async def step_clock(context: Context, input: Any) -> Any:
    """The same as `clock`, in a step."""
    return await context.step("look_up", context.call_tool, "get_current_time")
