"""
Idempotency-Key on calls that start no run: the same key, path, query and body have one effect and one answer.

(A call that starts a run hands its key to `Runs.start`, which keeps it in the transaction that starts the run.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec.structs import replace

from holdfast.api.http.call import Call
from holdfast.api.http.reply import Reply
from holdfast.errors import IdempotencyInProgress, IdempotencyKeyReused
from holdfast.runs import fingerprint
from holdfast.store.base import IdempotencyRow

KEPT_MICROSECONDS: Final = 24 * 3600 * 1_000_000
# A repeat waits so long for the first call.
WAIT_SECONDS = 10.0
POLL_SECONDS = 0.05

REPLAYED: Final = (b"idempotency-replayed", b"true")


def idempotency_row(call: Call, query: Any, body: Any, key: str | None = None) -> IdempotencyRow | None:
    """The row of this call, kept for 24 h; None if it came without a key. On a WebSocket a message brings the key."""
    key = key or call.idempotency_key()
    if key is None:
        return None
    now = call.services.clock.now()
    return IdempotencyRow(
        tenant=call.caller.tenant,
        method=call.method,
        path=call.scope["path"],
        key=key,
        fingerprint=fingerprint(query, body),
        created_at=now,
        expires_at=now + KEPT_MICROSECONDS,
    )


async def once(
    call: Call, query: Any, body: Any, work: Callable[[], Awaitable[Reply]], *, is_outside: bool = False
) -> Reply:
    """
    The answer of `work`, or the one that the first call with this key got.

    Only an answer below 300 is kept; after anything else the key may be used again. `is_outside`: the effect of the call
    is not in the store, so that one which a crash left at work is not done again.

    Raises:
        IdempotencyKeyReused, IdempotencyInProgress
    """
    row = idempotency_row(call, query, body)
    if row is None:
        return await work()
    known = await _begin(call, row, is_outside=is_outside)
    if known is not None:
        return Reply(known.status, known.body, (REPLAYED,))
    store = call.runs.store
    try:
        reply = await work()
    except BaseException:
        await store.finish_idempotent(row)
        raise
    is_kept = reply.status < 300
    await store.finish_idempotent(replace(row, status=reply.status, body=reply.body) if is_kept else row)
    return reply


async def _begin(call: Call, row: IdempotencyRow, *, is_outside: bool) -> IdempotencyRow | None:
    """Claim the key for this call (None), or the finished row of the first one."""
    store, loop = call.runs.store, asyncio.get_running_loop()
    deadline = loop.time() + WAIT_SECONDS
    while True:
        known = await store.begin_idempotent(row)
        if known is None:
            return None
        if known.fingerprint != row.fingerprint:
            raise IdempotencyKeyReused("this Idempotency-Key was used for another call")
        if known.status:
            return known
        if known.created_at < call.services.started_at:
            if is_outside:
                raise IdempotencyInProgress(
                    "the outcome of the first call with this key is unknown: a crash came first",
                    reason="outcome_unknown",
                )
            # A crash left it at work. The calls that come here may be done again: their effects are in the store.
            return None
        if loop.time() >= deadline:
            raise IdempotencyInProgress("the first call with this Idempotency-Key is still at work")
        await asyncio.sleep(POLL_SECONDS)
