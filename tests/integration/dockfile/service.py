"""The agents of these tests: one that says who it is, and ids of its own for runs."""

from __future__ import annotations

import itertools
import os
from typing import Any

from holdfast import Context

_NUMBERS = itertools.count(1)


async def handle(payload: dict[str, Any], context: Context) -> dict[str, Any]:
    """What it was told by its environment, in a step."""

    async def look() -> str | None:
        return os.environ.get("GREETING")

    return {"greeting": await context.step("look", look), "query": payload.get("query"), "extra": payload.get("extra")}


async def other(payload: dict[str, Any]) -> dict[str, Any]:
    return {"other": True}


def next_id() -> str:
    return f"own-{next(_NUMBERS)}"
