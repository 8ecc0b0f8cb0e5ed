"""Waiting for a condition that tells nobody when it comes true: bounded polls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], *, seconds: float = 30, every: float = 0.005) -> Any:
    """What `condition` gives (or its awaitable), once it is true; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            await asyncio.sleep(every)
