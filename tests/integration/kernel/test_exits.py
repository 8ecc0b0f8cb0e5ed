"""Code that wants to end the process, and code that fails with far too much to say: failures of its own run alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, SyncContext
from holdfast.agents.function import agent
from holdfast.execution.emitting import EVENT_BYTES_MAX
from holdfast.execution.steps import MESSAGE_CHARACTERS_MAX
from tests.support.kernel import kernel


async def leaves() -> None:
    sys.exit(3)


def leaves_in_a_thread() -> None:
    raise KeyboardInterrupt


async def exits(context: Context, input: Any) -> None:
    sys.exit(3)


def exits_in_a_thread(context: SyncContext, input: Any) -> None:
    sys.exit(3)


async def exits_as_it_speaks(context: Context, input: Any) -> AsyncIterator[str]:
    yield "so far"
    sys.exit(3)


async def exits_in_steps_at_once(context: Context, input: Any) -> None:
    await asyncio.gather(context.step("one", leaves), context.step("two", leaves_in_a_thread))


AGENTS: list[Callable[..., Any]] = [exits, exits_in_a_thread, exits_as_it_speaks, exits_in_steps_at_once]


@pytest.mark.parametrize("function", AGENTS)
async def test_code_that_ends_the_process_fails_its_run_and_no_other(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    async def bystander(context: Context, input: Any) -> str:
        return "here"

    async with kernel(tmp_path, agent("leaver", restart="always")(function), agent(bystander)) as served:
        *_, last = await served.events(await served.start("leaver"))
        *_, other = await served.events(await served.start("bystander"))

    assert (last["type"], last["code"]) == ("error", "agent_execution_error")
    assert "SystemExit: 3" in last["error"] or "KeyboardInterrupt" in last["error"]
    assert other["output"] == "here"


async def test_what_an_exception_says_is_cut_before_it_is_more_than_an_event_may_have(tmp_path: Path) -> None:
    async def talks(context: Context, input: Any) -> None:
        await context.step("step", fails, attempts=2, backoff_seconds=0)

    async def fails() -> None:
        raise ValueError("x" * 3 * EVENT_BYTES_MAX)

    async with kernel(tmp_path, agent(talks)) as served:
        events = await served.events(await served.start("talks"))

    failed = [event["error"] for event in events if "error" in event]
    assert len(failed) == 3
    assert all(text.endswith("…") and len(text) <= MESSAGE_CHARACTERS_MAX for text in failed)
