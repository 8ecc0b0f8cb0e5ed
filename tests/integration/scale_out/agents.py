"""Agents for many processes. Each says in the ledger, a file named in its input, which process executes it."""

import asyncio
import os
from pathlib import Path
from typing import Any

from holdfast import Context, agent


@agent("traveller", restart="always")
async def traveller(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Asks for the way, then waits until the file `gate` exists."""
    await context.step("pack", say, context, "packed ")
    way = await context.ask("Which way?", choices=["north", "south"])
    await context.step("leave", say, context, f"going {way} ")
    sign(input)
    await gate(input)
    await context.token("arrived")
    return {"way": way}


@agent("walker", restart="always")
async def walker(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """A step, then a wait until the file `gate` exists, then a step."""
    await context.step("first", say, context, "first ")
    sign(input)
    await gate(input)
    await context.step("second", say, context, "second ")
    return {"steps": 2}


@agent("teller", restart="always")
async def teller(context: Context, input: dict[str, Any]) -> int:
    """A step, then three tokens after each of the files in `gates` exists."""
    await context.step("first", say, context, "first ")
    for number, path in enumerate(input["gates"]):
        await gate({"gate": path})
        for part in range(3):
            await context.token(f"{number}.{part} ")
    return len(input["gates"])


@agent("greeter")
async def greeter(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    for word in ("Hello, ", "dear ", "reader.\n"):
        await context.token(word)
    return {"pid": os.getpid()}


async def say(context: Context, text: str) -> str:
    await context.token(text)
    return text


def sign(input: dict[str, Any]) -> None:
    with Path(input["ledger"]).open("a") as ledger:
        ledger.write(f"{os.getpid()}\n")


async def gate(input: dict[str, Any]) -> None:
    while not Path(input["gate"]).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
