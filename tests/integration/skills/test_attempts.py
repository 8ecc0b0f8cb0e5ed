"""Attempts at a step: when it is tried again, and what cuts it off."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast import NotRetryable
from holdfast.agents.skill import calling
from holdfast.errors import Cancelled
from holdfast.model import Status
from holdfast.model.encoding import parse_canonical_time
from tests.support.kernel import CALLER
from tests.support.skills import capability, shown, skill, skilled
from tests.support.until import until

TRY = capability("try", "", "out")


def tried(attempts: int = 3, **config: Any) -> Any:
    retry = {"max_attempts": attempts, "backoff_seconds": 0.05}
    return skill(
        "tried", {"id": "a", "uses": "try", "retry": retry, "output": {"out": "outputs.out"}, **config}, outputs="out"
    )


class Failing:
    """Fails so often, then gives 7."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.keys = times, error, []  # type: ignore[var-annotated]

    def __call__(self, context: Any) -> int:
        self.keys.append(context.idempotency_key)
        if self.left:
            self.left -= 1
            raise self.error
        return 7


async def test_two_failures_are_followed_by_a_third_attempt(tmp_path: Path) -> None:
    failing = Failing(2, RuntimeError("away"))
    async with skilled(tmp_path, [tried()], [TRY], {"try": failing}) as running:
        run, events = await running.run("skill:tried")

    assert (run.status, events[-1]["output"]) == (Status.COMPLETED, {"out": 7})
    assert shown(events)[1:-2] == [
        "step_started a",
        "step_failed a",
        "step_started a #2",
        "step_failed a",
        "step_started a #3",
        "step_completed a",
    ]
    first, second = events[2], events[4]
    assert (first["will_retry"], second["will_retry"], events[6]["attempt"]) == (True, True, 3)
    waits = [
        parse_canonical_time(event["retry_at"]) - parse_canonical_time(event["timestamp"]) for event in (first, second)
    ]
    assert waits[0] == pytest.approx(50_000, abs=20_000)
    assert waits[1] == pytest.approx(100_000, abs=20_000)
    assert failing.keys == [f"{run.run_id}/a"] * 3


async def test_the_last_attempt_is_the_last(tmp_path: Path) -> None:
    failing = Failing(9, RuntimeError("away"))
    async with skilled(tmp_path, [tried(2)], [TRY], {"try": failing}) as running:
        _, events = await running.run("skill:tried")

    assert len(failing.keys) == 2
    assert [event["will_retry"] for event in events if event["type"] == "step_failed"] == [True, False]


async def test_what_is_not_retryable_is_not_tried_again(tmp_path: Path) -> None:
    failing = Failing(9, NotRetryable("never"))
    async with skilled(tmp_path, [tried()], [TRY], {"try": failing}) as running:
        _, events = await running.run("skill:tried")

    assert (len(failing.keys), events[-1]["code"]) == (1, "upstream_failure")


async def test_a_function_without_context_that_is_called_right_here_says_so_too(tmp_path: Path) -> None:
    calls: list[str] = []

    def inline() -> None:
        calls.append("made")
        raise NotRetryable("never")

    async with skilled(tmp_path, [tried()], [TRY], {"try": inline}) as running:
        _, events = await running.run("skill:tried")

    assert (calls, events[-1]["code"]) == (["made"], "upstream_failure")


async def test_late_async_code_is_cancelled_and_fails_the_step_in_time(tmp_path: Path) -> None:
    told: list[str] = []

    async def slow(context: Any) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            told.append("cancelled")
            with pytest.raises(Exception, match="over"):
                await context.token("too late")
            raise

    async with skilled(tmp_path, [tried(1, timeout_seconds=0.2)], [TRY], {"try": slow}) as running:
        _, events = await running.run("skill:tried")

    assert told == ["cancelled"]
    assert_late(events)


async def test_a_late_sync_function_is_left_alone_and_can_change_nothing(tmp_path: Path) -> None:
    go, over, refused = threading.Event(), threading.Event(), []

    def slow(context: Any) -> dict[str, Any]:
        go.wait(30)
        with pytest.raises(Cancelled):
            context.progress(0.5, "too late")
        refused.append(str(context.cancelled))
        over.set()
        return {"out": "too late"}

    async with skilled(tmp_path, [tried(1, timeout_seconds=0.2)], [TRY], {"try": slow}) as running:
        run, events = await running.run("skill:tried")
        go.set()
        await asyncio.to_thread(over.wait, 30)
        after = await running.kernel.stored(run)

    assert refused == ["True"]
    assert [event["type"] for event in after] == [event["type"] for event in events]
    assert_late(events)


def assert_late(events: list[dict[str, Any]]) -> None:
    started, failed, ended = events[1], events[-2], events[-1]
    assert (failed["code"], failed["status"], failed["error"]) == ("step_timeout", 504, "Step 'a': over 0.2 s.")
    assert (ended["code"], ended["details"]) == ("step_timeout", {"type": "StepTimeoutError", "status": 504})
    late = parse_canonical_time(failed["timestamp"]) - parse_canonical_time(started["timestamp"])
    assert 200_000 <= late < 20_000_000, "what is late would sleep for 30 s"


async def test_cancelling_reaches_the_code_and_ends_its_step(tmp_path: Path) -> None:
    entered, told = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            told.set()

    async with skilled(tmp_path, [tried(1)], [TRY], {"try": slow}) as running:
        run = await running.start("skill:tried")
        await asyncio.wait_for(entered.wait(), 10)
        began = time.monotonic()
        await running.kernel.runs.cancel(CALLER, run.run_id, reason="enough")
        events = await running.kernel.events(run)
        await asyncio.wait_for(told.wait(), 20)

    assert time.monotonic() - began < 5
    assert shown(events) == ["started", "step_started a", "step_failed a", "cancelled"]
    assert (events[2]["code"], events[2]["will_retry"]) == ("cancelled", False)


async def test_tokens_show_where_the_step_streams_and_nowhere_else(tmp_path: Path) -> None:
    async def speak(context: Any) -> str:
        await context.token("a")
        await context.progress(0.5, "half")
        return "b"

    async with skilled(tmp_path, [tried(1), loud()], [TRY], {"try": speak}) as running:
        _, silent = await running.run("skill:tried")
        _, streamed = await running.run("skill:loud")

    assert shown(silent)[1:4] == ["step_started a", "progress a", "step_completed a"]
    assert shown(streamed)[1:5] == ["step_started a", "token a", "progress a", "step_completed a"]
    assert streamed[2]["content"] == "a"


def loud() -> Any:
    return skill("loud", {"id": "a", "uses": "try", "stream": True})


async def itself_cancelled() -> None:
    raise asyncio.CancelledError


async def exits() -> None:
    raise SystemExit(3)


def exits_in_a_thread() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("function", [itself_cancelled, exits, exits_in_a_thread])
async def test_code_that_ends_itself_ends_its_step_alone(tmp_path: Path, function: Any) -> None:
    async with skilled(tmp_path, [tried(1)], [TRY], {"try": function}) as running:
        run, events = await running.run("skill:tried")

    assert (run.status, events[-1]["code"]) == (Status.FAILED, "upstream_failure")


async def test_where_too_many_late_functions_have_not_returned_no_more_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "LATE_THREADS_MAX", 1)
    go, calls = threading.Event(), []

    def slow(context: Any) -> int:
        calls.append(context.idempotency_key)
        if len(calls) == 1:
            go.wait(30)
        return 7

    async with skilled(tmp_path, [tried(1, timeout_seconds=0.05)], [TRY], {"try": slow}) as running:
        await running.run("skill:tried")
        _, refused = await running.run("skill:tried")
        go.set()
        await until(lambda: not calling._Late.all)
        outputs = await running.outputs("skill:tried")

    assert refused[-1]["code"] == "upstream_failure"
    assert "have not returned" in refused[-1]["error"]
    assert (len(calls), outputs) == (2, {"out": 7})
