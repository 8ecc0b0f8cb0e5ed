"""Agents for the tests of the CLI. A file named in the input is a gate: what stands behind it waits until it exists."""

import asyncio
from pathlib import Path
from typing import Any

from holdfast import Context, agent


@agent("greeter")
async def greeter(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    for word in ("Hello, ", "dear ", "reader.\n"):
        await context.token(word)
    return {"greeted": True}


@agent("asker")
async def asker(context: Context) -> dict[str, Any]:
    colour = await context.ask("Which colour?", choices=["red", "blue"])
    approval = await context.approve(f"Paint it {colour}?")
    return {"colour": colour, "approved": approval.approved, "note": approval.note}


@agent("walker", restart="always")
async def walker(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    await context.step("first", walk, context, "first ")
    await gate(input)
    await context.step("second", walk, context, "second ")
    return {"steps": 2}


@agent("stubborn")
def stubborn(context: Any, input: dict[str, Any]) -> None:
    """Sync code that never looks whether it should end."""
    import time

    context.token("working")
    while not Path(input["gate"]).exists():
        time.sleep(0.01)


async def walk(context: Context, text: str) -> str:
    await context.token(text)
    return text


async def gate(input: dict[str, Any]) -> None:
    while not Path(input["gate"]).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
