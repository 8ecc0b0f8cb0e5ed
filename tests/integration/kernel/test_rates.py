"""Rates where runs are started: what counts, what does not, and for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast import agent
from holdfast.errors import RateLimited, RunExists
from holdfast.rates import Rate
from holdfast.runs import Caller, StartRequest, fingerprint
from holdfast.store.base import IdempotencyRow
from tests.support.kernel import Kernel, kernel

ADA = Caller("ada", "acme", "executor", rate=Rate(2, 3600))


@agent("echo")
async def echo(input: Any) -> Any:
    return input


async def start(it: Kernel, caller: Caller, **request: Any) -> bool:
    return (await it.runs.start(caller, StartRequest(agent="echo", input={}, **request))).replayed


async def test_so_many_runs_are_started_and_no_more_and_others_are_not_concerned(tmp_path: Path) -> None:
    async with kernel(tmp_path, echo) as it:
        await start(it, ADA)
        await start(it, ADA)

        with pytest.raises(RateLimited) as refused:
            await start(it, ADA)
        with pytest.raises(RateLimited):
            it.runs.check_rate(ADA)

        assert 3590 < refused.value.details["retry_after"] <= 3600
        await start(it, replace(ADA, name="bob"))
        await start(it, replace(ADA, tenant="other"))
        await start(it, replace(ADA, rate=None))


async def test_what_started_no_run_does_not_count(tmp_path: Path) -> None:
    key = IdempotencyRow(
        tenant="acme",
        method="POST",
        path="/runs",
        key="k",
        fingerprint=fingerprint({}, {}),
        created_at=0,
        expires_at=1 << 60,
    )
    async with kernel(tmp_path, echo) as it:
        assert not await start(it, ADA, run_id="r-1", idempotency=key)
        assert await start(it, ADA, run_id="r-1", idempotency=key)
        with pytest.raises(RunExists):
            await start(it, ADA, run_id="r-1")

        await start(it, ADA)
        with pytest.raises(RateLimited):
            await start(it, ADA)


async def test_runs_that_a_run_starts_are_not_their_callers_starts(tmp_path: Path) -> None:
    @agent("parent")
    async def parent(context: Any, input: Any) -> Any:
        return [await context.run("echo", number) for number in range(3)]

    async with kernel(tmp_path, echo, parent) as it:
        started = await it.runs.start(ADA, StartRequest(agent="parent", input={}))
        run = await it.runs.wait(ADA, started.run.run_id, timeout=20, until_waiting=False)

        assert run.output == b"[0,1,2]"
