"""What fulfils the capabilities of the skills with which the clients are tested."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast import NotRetryable


async def count(n: int, context: Any) -> str:
    """`n` tokens, as fast as they go."""
    for number in range(n):
        await context.token(f"{number} ")
    return str(n)


async def pour(n: int, context: Any) -> str:
    """`n` tokens of four kilobytes."""
    for number in range(n):
        await context.token(f"{number} {'x' * 4000}")
    return str(n)


async def gated(gate: str, context: Any) -> str:
    """A token, then nothing until the file `gate` exists, then another token. `.in` behind its name: it waits."""
    await context.token("before")
    Path(gate + ".in").touch()  # noqa: ASYNC240  # another process looks for it
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # another process opens it
        await asyncio.sleep(0.01)
    await context.token("after")
    return gate


async def flaky(note: str, context: Any) -> str:
    """Says half of it and fails, as long as the file `note` is not there; it is from then on."""
    await context.token("half")
    if _made(Path(note)):
        raise OSError("not there yet")
    await context.token("whole")
    return note


async def fail(text: str) -> str:
    """Fails for good."""
    raise NotRetryable(f"no such topic: {text}")


def _made(file: Path) -> bool:
    """Whether the file was made now, since it was not there."""
    if file.exists():
        return False
    file.touch()
    return True
