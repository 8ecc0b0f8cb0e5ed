"""Agents for the tests of limits."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from holdfast import Context, agent
from tests.support.until import until


@agent("flood", restart="always")
async def flood(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """For each of the files `gates`: once it is there, `count` tokens of `size` characters, as fast as they go."""
    text = "x" * input["size"]
    for gate in input["gates"]:
        await until(partial(_exists, gate), seconds=60, every=0.005)
        for _ in range(input["count"]):
            await context.token(text)
    return {}


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
