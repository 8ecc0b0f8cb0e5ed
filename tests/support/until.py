"""Waiting for a condition that tells nobody when it comes true: bounded polls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], T | Awaitable[T]], *, seconds: float = 10, every: float = 0.005) -> T:
    """What `condition` gives, once it is true; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            value: T = await found if isinstance(found, Awaitable) else found
            if value:
                return value
            await asyncio.sleep(every)
