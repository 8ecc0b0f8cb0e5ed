"""
A store that died is not a backup that was restored: what was refused leaves no mark that could be taken for lost history.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Context, agent
from holdfast.errors import IdempotencyKeyReused, LeaseLost, RunExists, ThreadBusy
from holdfast.store.base import Append, IdempotencyRow
from holdfast.store.sqlite import SQLiteStore
from tests.support.kernel import CALLER, Kernel, kernel


@agent("asker")
async def asker(context: Context, input: Any) -> Any:
    return await context.ask("Which?")


def _row(fingerprint: bytes) -> IdempotencyRow:
    return IdempotencyRow(
        tenant="default",
        method="POST",
        path="/runs",
        key="k",
        fingerprint=fingerprint,
        created_at=1,
        expires_at=None,
    )


async def _refused_start(it: Kernel, error: type[Exception], **request: Any) -> None:
    with pytest.raises(error):
        await it.start("asker", **request)


async def _refused_append(it: Kernel) -> None:
    """What a process writes that was paused for too long."""
    run = await it.runs.get(CALLER, "first")
    (segment, *_) = await it.store.segments(run.number, after=-1, bytes_max=1 << 20)
    sequence, time = run.tail_sequence + 1, run.last_timestamp + 10_000_000
    late = msgspec.structs.replace(
        segment, first=sequence, last=sequence, first_timestamp=time, last_timestamp=time, body=b"{}\n"
    )
    write = Append(number=run.number, lease_epoch=run.lease_epoch + 7, tail=run.tail_sequence, segment=late)
    (outcome,) = await it.store.commit([write])
    assert isinstance(outcome, LeaseLost)


@pytest.mark.crash
@pytest.mark.parametrize("how", ["run id", "thread", "idempotency key", "repeat", "lease"])
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_a_refused_write_is_no_lost_history(tmp_path: Path, how: str, is_killed: bool) -> None:
    """It was the last thing that happened before the process ended."""
    async with kernel(tmp_path, asker, crash=is_killed) as it:
        run = await it.start("asker", run_id="first", thread_id="t", idempotency=_row(b"1" * 32))
        await it.waiting(run)
        if how == "run id":
            await _refused_start(it, RunExists, run_id="first")
        elif how == "thread":
            await _refused_start(it, ThreadBusy, thread_id="t")
        elif how == "idempotency key":
            await _refused_start(it, IdempotencyKeyReused, idempotency=_row(b"2" * 32))
        elif how == "repeat":
            assert (await it.start("asker", idempotency=_row(b"1" * 32))).number == run.number
        else:
            await _refused_append(it)

    store = SQLiteStore(tmp_path)
    info = await store.open()
    row = await store.run_by_number(run.number)
    await store.close()

    assert not info.restored
    assert row is not None
    assert row.epoch == 0
