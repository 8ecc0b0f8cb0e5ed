"""Agents for tests that talk to a server process: each does one thing that a test needs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from holdfast import errors
from holdfast.agents.function import agent
from holdfast.execution.context import Context
from holdfast.execution.program import AgentSpec, SafetyPolicy
from holdfast.execution.sync import SyncContext


@agent("tutor", restart="always")
async def tutor(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Answers one word."""
    await context.token("Quan")
    return {"answer": "Quan"}


@agent("count", restart="always")
async def count(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """`n` tokens, as fast as they go."""
    for number in range(input["n"]):
        await context.token(f"{number} ")
    return {"n": input["n"]}


@agent("flood", restart="always")
async def flood(context: Context, input: dict[str, Any]) -> None:
    """`n` tokens of `size` characters."""
    for _ in range(input["n"]):
        await context.token("x" * input["size"])


@agent("gated", restart="always")
async def gated(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A token, then nothing until the file `gate` (or that the message names) exists, then another token."""
    await context.token("before")
    while not Path(input.get("gate") or input["message"]).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
    await context.token("after")
    return {}


@agent("fleeting", restart="never")
async def fleeting(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Like `gated`, but it does not survive its process."""
    await context.token("before")
    while not Path(input["gate"]).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
    return {}


@agent("guarded")
async def guarded(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Is not told what looks like an attack."""
    return {}


guarded.spec = AgentSpec(safety=SafetyPolicy(block_prompt_injection=True))


@agent("say")
async def say(context: Context, input: dict[str, Any]) -> Any:
    """The texts of the input, as tokens; then its `output`."""
    for text in input["texts"]:
        await context.token(text)
    return input.get("output")


@agent("step", restart="always")
async def step(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """One step with a result."""

    async def fetch() -> dict[str, int]:
        return {"pages": 3, "size": 10}

    return {"fetched": await context.step("fetch", fetch)}


@agent("fail")
async def fail(context: Context, input: dict[str, Any]) -> None:
    """Raises; an error of Holdfast if the input names one."""
    if "error" in input:
        raise getattr(errors, input["error"])("raised by the agent")
    raise ValueError("no such topic")


@agent("loop")
def loop(context: SyncContext, input: dict[str, Any]) -> None:
    """A sync function that computes until the file `gate` exists, and looks at nothing of its run; then it emits."""
    context.token("here")
    Path(input["gate"]).with_suffix(".in").touch()
    while not Path(input["gate"]).exists():
        sum(range(1000))
    try:
        context.token("late")
    finally:
        Path(input["gate"]).with_suffix(".left").touch()


@agent("polite")
def polite(context: SyncContext, input: dict[str, Any]) -> None:
    """A sync function that looks whether its run was cancelled, and notes that it stopped."""
    context.token("here")
    while not context.cancelled:
        time.sleep(0.01)
    Path(input["note"]).touch()


@agent("approve", restart="always")
async def approve(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """An approval."""
    approval = await context.approve("May I?", expires_in=input.get("expires_in"), default=input.get("default"))
    return {"approved": approval.approved, "note": approval.note, "by": approval.by}


@agent("tools", restart="always")
async def tools(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Two calls that the caller executes, in one round."""
    calls = (context.call_tool("files.read", {"path": path}) for path in ("a", "b"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    return {"results": [str(result) for result in results]}


@agent("sleeper", restart="always")
async def sleeper(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A timer that runs out in 2100."""
    await context.sleep_until(4_102_444_800)
    return {}


@agent("ask", restart="always")
async def ask(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A question, with choices if the input has them."""
    return {"answer": await context.ask("Pay?", choices=input.get("choices"))}


@agent("stuck", restart="always")
async def stuck(context: Context, input: dict[str, Any]) -> None:
    """Never ends by itself."""
    await context.token("here")
    await asyncio.Event().wait()


@agent("script", restart="always")
async def script(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Does what the list `do` says: pairs of a word and what belongs to it."""
    for word, value in input["do"]:
        if word == "tokens":
            for text in value:
                await context.token(text)
        elif word == "flood":
            for _ in range(value["n"]):
                await context.token("x" * value["size"])
        elif word == "thinking":
            await context.thinking(value)
        elif word == "progress":
            await context.progress(value)
        elif word == "checkpoint":
            await context.checkpoint(value)
        elif word == "step":
            await context.step(value, _nothing)
        elif word == "emit":
            await context.emit(value, {"of": value})
        else:
            while not Path(value).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
                await asyncio.sleep(0.01)
    return {}


async def _nothing() -> None:
    return None


@agent("ticking", restart="always")
async def ticking(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A token every tenth of a second, until the file `gate` exists."""
    while not Path(input["gate"]).exists():  # noqa: ASYNC240  # another process opens it
        await context.token("tick ")
        await asyncio.sleep(0.1)
    return {}
