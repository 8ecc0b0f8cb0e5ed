"""Agents for the tests of clients on bad lines. Their input is one text, `message`, so that every API can start them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.agents.function import FunctionAgent, agent
from holdfast.execution.context import Context

PIECE = "x" * 4000


@agent("word", restart="always")
async def word(context: Context, input: dict[str, Any]) -> str:
    """One word."""
    await context.token("é")
    return "é"


@agent("gated", restart="always")
async def gated(context: Context, input: dict[str, Any]) -> str:
    """A word, then nothing until the file that the message names exists, then another. `.in` behind its name: it waits."""
    await context.token("before")
    Path(input["message"] + ".in").touch()  # noqa: ASYNC240  # the test looks for it
    while not Path(input["message"]).exists():  # noqa: ASYNC110, ASYNC240  # the test makes it
        await asyncio.sleep(0.01)
    await context.token("after")
    return "beforeafter"


@agent("ask", restart="always")
async def ask(context: Context, input: dict[str, Any]) -> str:
    """A question."""
    return str(await context.ask("Go on?"))


@agent("pour", restart="always")
async def pour(context: Context, input: dict[str, Any]) -> str:
    """As many pieces of four kilobytes as the message says, as fast as they go."""
    for number in range(int(input["message"])):
        await context.token(f"{number} {PIECE}")
    return str(input["message"])


AGENTS = [one for one in list(globals().values()) if isinstance(one, FunctionAgent)]
