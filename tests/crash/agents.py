"""
The agents of the kill tests. Whatever they do, they also write into a ledger that the product knows nothing of.

Their text is always the same, so a reader can tell from it alone whether anything is missing or came twice, once it
has dropped what `restarted` declares void.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import Any, Final

from holdfast import Context, SyncContext, agent
from holdfast.errors import OutcomeUnknown
from tests.crash.dying import install
from tests.crash.leases import shorten
from tests.crash.texts import PARTS, TOKENS
from tests.support.ledger import Ledger

PACE_SECONDS: Final = 0.012

install(os.environ.get("CRASH_AT"), os.environ.get("CRASH_MUTANT"))
if lease_seconds := os.environ.get("CRASH_LEASE_SECONDS"):
    shorten(float(lease_seconds))
ledger = Ledger(os.environ["CRASH_LEDGER"])


async def _work(context: Context, key: str, text: str = "") -> str:
    token = secrets.token_hex(8)
    ledger.note("begin", context.run_id, key, token)
    await asyncio.sleep(PACE_SECONDS)
    if text:
        await context.token(text)
    await asyncio.sleep(PACE_SECONDS)
    ledger.note("end", context.run_id, key, token)
    return token


@agent("tale", restart="always")
async def tale(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Tokens in steps and between them, a payment that must not happen twice, a question."""
    steps: dict[str, str] = {}
    paid: str | None = None
    answer: str | None = None
    for part in range(PARTS):
        for number in range(TOKENS):
            await context.token(f"{part}.{number} ")
            await asyncio.sleep(PACE_SECONDS)
        key = f"work:{part}"
        steps[key] = await context.step("work", _work, context, key, f"[{part}] ", key=key)
        if part == 0:
            try:
                paid = await context.step("pay", _work, context, "pay", key="pay", at_most_once=True)
            except OutcomeUnknown:
                paid = "unknown"
        if part == 2:
            answer = await context.ask("Go on?", choices=["yes", "no"])
    return {"steps": steps, "paid": paid, "answer": answer}


@agent("fan", restart="always")
async def fan(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Steps at the same time, then tokens."""
    keys = [f"work:{part}" for part in range(PARTS)]
    tokens = await asyncio.gather(*(context.step("work", _work, context, key, key=key) for key in keys))
    for number in range(TOKENS * PARTS):
        await context.token(f"{number} ")
        await asyncio.sleep(PACE_SECONDS)
    last = await context.step("work", _work, context, "work:last", key="work:last")
    return {"steps": {**dict(zip(keys, tokens, strict=True)), "work:last": last}}


def _work_sync(context: SyncContext, key: str) -> str:
    token = secrets.token_hex(8)
    ledger.note("begin", context.run_id, key, token)
    time.sleep(PACE_SECONDS)
    ledger.note("end", context.run_id, key, token)
    return token


@agent("sync", restart="always")
def sync(context: SyncContext, input: dict[str, Any]) -> dict[str, Any]:
    """The like in a thread."""
    steps: dict[str, str] = {}
    for part in range(PARTS):
        for number in range(TOKENS):
            context.token(f"{part}.{number} ")
            time.sleep(PACE_SECONDS)
        key = f"work:{part}"
        steps[key] = context.step("work", _work_sync, context, key, key=key)
    answer = context.ask("Well?")
    return {"steps": steps, "answer": answer}


@agent("fragile")
async def fragile(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """What may not be executed again after a crash, but may wait through one."""
    step = await context.step("work", _work, context, "work", key="work")
    await context.token("before ")
    answer = await context.ask("Go on?")
    await context.token("after ")
    await asyncio.sleep(PACE_SECONDS)
    return {"steps": {"work": step}, "answer": answer}
