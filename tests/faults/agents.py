"""The agents of the kill tests, and one that is silent for longer than a lease."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from holdfast import Context, agent
from tests.crash.agents import fan, fragile, ledger, sync, tale

__all__ = ["fan", "fragile", "quiet", "sync", "tale"]

SILENT_SECONDS: Final = 3.5


async def _wait(context: Context) -> str:
    token = secrets.token_hex(8)
    ledger.note("begin", context.run_id, "wait", token)
    await asyncio.sleep(SILENT_SECONDS)
    ledger.note("end", context.run_id, "wait", token)
    return token


@agent("quiet", restart="always")
async def quiet(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Writes nothing for a while: only a renewal can tell its process that the lease is gone."""
    await context.token("before ")
    token = await context.step("wait", _wait, context, key="wait")
    await context.token("after ")
    return {"steps": {"wait": token}}
