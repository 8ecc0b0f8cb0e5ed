"""
The smallest agents: an async function, an async generator, and a sync function.

    holdfast serve examples/greeter.py
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from holdfast import Context, SyncContext, agent


@agent("greeter")
async def greeter(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Greet somebody."""
    await context.token("Hello, ")
    await context.token(input["name"])
    return {"greeted": input["name"]}


@agent("speller")
async def speller(input: str) -> AsyncIterator[str]:
    """Say a word, letter by letter; the output is the whole word."""
    for letter in input:
        yield letter


@agent("counter")
def counter(context: SyncContext, input: int) -> Iterator[str]:
    """Count, in a thread."""
    for number in range(1, input + 1):
        context.progress(number / input, f"at {number}")
        yield f"{number} "
