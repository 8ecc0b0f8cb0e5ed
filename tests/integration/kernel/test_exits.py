"""Code that wants to end the process, and code that fails with far too much to say: failures of its own run alone."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, SyncContext
from holdfast.agents.function import agent
from holdfast.errors import ExecutionError
from holdfast.execution.emitting import EVENT_BYTES_MAX
from holdfast.execution.steps import MESSAGE_CHARACTERS_MAX
from holdfast.model import Status
from tests.support.kernel import CALLER, kernel
from tests.support.until import until


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


class Beside(BaseException):
    """As test libraries and other event loops have them."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


async def awaits_what_was_cancelled(context: Context, input: Any) -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def raises_beside(context: Context, input: Any) -> None:
    raise Beside("x")


def raises_beside_in_a_thread(context: SyncContext, input: Any) -> None:
    raise Beside("x")


async def raises_a_group(context: Context, input: Any) -> None:
    raise BaseExceptionGroup("several", [Beside("x")])


async def raises_the_end_of_a_generator(context: Context, input: Any) -> None:
    raise GeneratorExit


async def says_nothing(context: Context, input: Any) -> None:
    raise Mute


async def tells_what_is_no_json(context: Context, input: Any) -> None:
    raise ExecutionError("x", fact=object())


async def steps_beside(context: Context, input: Any) -> None:
    async def fails() -> None:
        raise Beside("x")

    await context.step("one", fails)


ODD: list[Callable[..., Any]] = [
    awaits_what_was_cancelled,
    raises_beside,
    raises_beside_in_a_thread,
    raises_a_group,
    raises_the_end_of_a_generator,
    says_nothing,
    tells_what_is_no_json,
    steps_beside,
]


async def test_runs_end_however_their_code_does(tmp_path: Path) -> None:
    """Those of agents that are continued after a crash, too, which would be executed again and again."""
    async with kernel(tmp_path, *[agent(restart="always")(function) for function in ODD]) as served:
        runs = {function.__name__: await served.start(function.__name__) for function in ODD}
        ended = {name: await served.finished(run) for name, run in runs.items()}

    assert {name: run.status for name, run in ended.items()} == dict.fromkeys(runs, Status.FAILED)
    assert {run.attempt for run in ended.values()} == {1}
    errors = {name: run.error.message for name, run in ended.items() if run.error is not None}
    assert "cancelled" in errors["awaits_what_was_cancelled"]
    assert errors["raises_beside"] == errors["raises_beside_in_a_thread"] == "Exited: Beside: x"
    assert errors["says_nothing"] == "Mute"


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


async def test_a_repeated_cancel_does_not_say_that_a_thread_has_returned_which_has_not(tmp_path: Path) -> None:
    gate, began = threading.Event(), threading.Event()

    def computes(context: SyncContext, input: Any) -> None:
        began.set()
        gate.wait()

    async with kernel(tmp_path, agent(computes)) as served:
        try:
            run = await served.start("computes")
            await until(began.is_set)
            first = await served.runs.cancel(CALLER, run.run_id, reason="first", wait=0)
            await asyncio.sleep(0)  # the first is on its way into the code
            again = await served.runs.cancel(CALLER, run.run_id, reason="again")
        finally:
            gate.set()

    assert first.cancel is not None
    assert again.status is Status.CANCELLED
    assert again.cancel == first.cancel, "nobody knows when the code stopped"


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
