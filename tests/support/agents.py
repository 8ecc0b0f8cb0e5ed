"""Agents for tests that talk to a server process: each does one thing that a test needs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.agents.function import agent
from holdfast.execution.context import Context


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
    """A token, then nothing until the file `gate` exists, then another token."""
    await context.token("before")
    while not Path(input["gate"]).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
    await context.token("after")
    return {}


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
    """Raises."""
    raise ValueError("no such topic")


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
