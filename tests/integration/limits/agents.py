"""Agents for the tests of limits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast import Context, agent


@agent("backlog", restart="always")
async def backlog(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """`count` tokens of `size` characters, as fast as they go; then a short one every 10 ms until the file `gate`."""
    text = "x" * input["size"]
    for _ in range(input["count"]):
        await context.token(text)
    ticks = 0
    while not _exists(input["gate"]):
        await context.token("tick ")
        await asyncio.sleep(0.01)
        ticks += 1
    return {"ticks": ticks}


@agent("odd", restart="always")
async def odd(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Text of one to four bytes a character, with everything that is escaped."""
    for text in ("a", "é", "日", "😀", "\r\n\n", "\u2028\u0085", "\x00", 'data: "x"\n\n'):
        await context.token(text)
    return {"text": "é😀"}


@agent("asker")
async def asker(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Waits for a person."""
    return {"answer": await context.ask("Which?")}


@agent("stuck", restart="always")
async def stuck(context: Context, input: dict[str, Any]) -> None:
    """Says one word and never ends by itself."""
    await context.token("here")
    await asyncio.Event().wait()


@agent("steady", restart="always")
async def steady(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A token and a step again and again, until the file `gate` is there."""
    count = 0
    while not _exists(input["gate"]):
        await context.token(f"{count} ")
        await context.step("work", _nothing)
        await asyncio.sleep(0.01)
        count += 1
    return {"count": count}


def _exists(path: str) -> bool:
    return Path(path).exists()


async def _nothing() -> None:
    return None
