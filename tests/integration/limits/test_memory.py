"""What is left in memory of a run that is not executed any more: nothing, and at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, SyncContext, agent
from holdfast.execution.execution import Execution
from tests.support.kernel import Kernel, kernel
from tests.support.until import until


@agent("plain")
async def plain(context: Context, input: Any) -> Any:
    await context.token("x")
    return await context.step("work", lambda: 1)


@agent("sync")
def sync(context: SyncContext, input: Any) -> Any:
    context.token("x")
    return context.step("work", lambda: 1)


@agent("asker")
async def asker(context: Context, input: Any) -> Any:
    return await context.ask("Which?")


@agent("broken")
async def broken(context: Context, input: Any) -> Any:
    raise ValueError("no such topic")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The server's collector comes seldom; here it does not come at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _execution(it: Kernel, name: str) -> weakref.ref[Execution]:
    run = await it.start(name)
    execution = it.worker.execution(run.number)
    assert execution is not None
    return weakref.ref(execution)


@pytest.mark.parametrize("name", ["plain", "sync", "asker", "broken"])
async def test_an_execution_that_is_over_is_freed_without_the_collector(
    tmp_path: Path, no_collector: None, name: str
) -> None:
    async with kernel(tmp_path, plain, sync, asker, broken) as it:
        left = await _execution(it, name)

        await until(lambda: left() is None)

        await until(lambda: not it.worker.executing)
        assert it.journal.tails.get(1) is None
