"""Awkward ways in which an execution goes on, or cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.errors import ConflictError
from holdfast.store.base import Append, Outcome, Store, Write
from tests.support.kernel import CALLER, kernel


async def test_a_step_done_again_may_leave_out_what_was_recorded_inside_it(tmp_path: Path) -> None:
    """Retries have kept inner steps under other names than the one attempt after the crash asks for."""
    entered = asyncio.Event()
    is_first_life = True

    @agent("outer", restart="always")
    async def outer(context: Context, input: Any) -> str:
        async def inner() -> str:
            return "inner"

        async def work() -> str:
            if is_first_life:
                await context.step("inner", inner)
                await context.step("inner", inner)
                entered.set()
                await asyncio.Event().wait()
            return await context.step("inner", inner)  # type: ignore[no-any-return]  # JSON

        await context.token("before")
        result = await context.step("work", work)
        await context.token("after")
        return str(result)

    async with kernel(tmp_path, outer, crash=True) as it:
        run = await it.start("outer")
        await entered.wait()
    is_first_life = False
    async with kernel(tmp_path, outer) as it:
        events = await it.events(run)

    assert events[-1]["type"] == "complete", events[-1]
    assert [event["content"] for event in events if event["type"] == "token"] == ["before", "after"]


class RefusingStore:
    """Refuses, once, a write that carries an event of this type."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._mark: bytes | None = f'"type":"{name}"'.encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for write in writes:
            if self._mark and isinstance(write, Append) and write.segment and self._mark in write.segment.body:
                self._mark = None
                outcomes.append(ConflictError("this cannot be"))
            else:
                outcomes += await self._store.commit([write])
        return outcomes


@pytest.mark.parametrize("name", ["token", "step_completed", "complete"])
async def test_a_run_whose_write_is_refused_ends(tmp_path: Path, name: str) -> None:
    """Whatever the reason, it does not stand there for ever."""

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> int:
        await context.token("x")
        await context.step("work", lambda: 1)
        return 1

    async with kernel(tmp_path, worker) as it:
        it.journal.store = RefusingStore(it.store, name)
        run = await it.start("worker")
        ended = await it.finished(run, seconds=10)
        events = await it.stored(run)
        verified = await it.runs.verify(CALLER, run.run_id)

    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "internal_error")
    assert "this cannot be" in ended.error.message
    assert events[-1]["type"] == "error"
    assert verified.ok
