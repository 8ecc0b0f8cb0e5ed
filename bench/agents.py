"""The agents that the benchmarks run. Tokens that measure latency carry the machine's monotonic time of their birth."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from holdfast import Context, SyncContext, agent


@agent("burst")
async def burst(context: Context, input: dict[str, Any]) -> dict[str, int]:
    """As many tokens as fast as they go."""
    for _ in range(input["tokens"]):
        await context.token("token ")
    return {"tokens": input["tokens"]}


@agent("burst-sync")
def burst_sync(context: SyncContext, input: dict[str, Any]) -> dict[str, int]:
    """The same from a thread."""
    for _ in range(input["tokens"]):
        context.token("token ")
    return {"tokens": input["tokens"]}


@agent("ticker")
async def ticker(context: Context, input: dict[str, Any]) -> dict[str, int]:
    """Tokens at a rate, each with the time of its birth."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(input.get("delay", 0))
    start = loop.time()
    for n in range(input["tokens"]):
        await asyncio.sleep(max(start + n / input["rate"] - loop.time(), 0))
        await context.token(str(time.monotonic_ns()))
    return {"tokens": input["tokens"]}


@agent("one")
async def one(context: Context, input: dict[str, Any]) -> dict[str, int]:
    """A single token."""
    await context.token("token ")
    return {"tokens": 1}


@agent("stepper")
async def stepper(context: Context, input: dict[str, Any]) -> dict[str, int]:
    """Durable steps, one after the other."""

    async def work(n: int) -> int:
        return n

    for n in range(input["steps"]):
        await context.step("work", work, n)
    return {"steps": input["steps"]}


@agent("idle")
async def idle(context: Context, input: dict[str, Any]) -> str:
    """Says nothing until it is cancelled."""
    await asyncio.Event().wait()
    return ""


@agent("caller", restart="always")
async def caller(context: Context, input: dict[str, Any]) -> int:
    """Asks its caller for the tool in slot "1", as often as slot "2" says."""
    times = int(input["strings"]["2"])
    for _ in range(times):
        await context.call_tool(input["strings"]["1"])
    return times
