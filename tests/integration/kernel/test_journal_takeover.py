"""Awkward ways in which an execution goes on, or cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.errors import ConflictError, StoreUnavailable
from holdfast.model import Run
from holdfast.store.base import Append, Outcome, StartRun, Store, Write
from tests.support.kernel import CALLER, QUICK, kernel, replace
from tests.support.until import until


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
    """Refuses, so many times, a write that carries an event of this type (and then all writes of events)."""

    def __init__(self, store: Store, name: str, *, times: int = 1) -> None:
        self._store = store
        self._mark = f'"type":"{name}"'.encode()
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for write in writes:
            if self.left and isinstance(write, Append) and write.segment and self._mark in write.segment.body:
                self.left -= 1
                self._mark = b""
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


async def test_a_run_whose_last_words_are_refused_for_good_is_taken_up_again_by_the_same_process(
    tmp_path: Path,
) -> None:
    """Its lease is left in our name; nobody renews it, and there may be no other process that could claim it."""

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> int:
        await context.step("work", lambda: 1)
        return 1

    settings = replace(QUICK, lease_seconds=0.3, renew_seconds=0.1)
    async with kernel(tmp_path, worker, settings=settings) as it:
        # The end, and the error that was to take its place.
        store = it.journal.store = it.worker.facts._store = RefusingStore(it.store, "complete", times=2)
        run = await it.start("worker")
        ended = await it.finished(run)
        events = await it.stored(run)
        verified = await it.runs.verify(CALLER, run.run_id)

    assert store.left == 0
    assert ended.status == "completed", ended.error
    assert [event["type"] for event in events] == [
        "started",
        "step_started",
        "step_completed",
        "restarted",
        "complete",
    ]
    assert verified.ok


class SlowToRenew:
    """Answers no renewal, and counts how often somebody looked for runs in its name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew(self, *_: object, **__: object) -> set[int]:
        raise StoreUnavailable("no answer")

    async def disown(self, owner: str, held: Sequence[int]) -> list[int]:
        self.looks += 1
        return await self._store.disown(owner, held)


async def test_what_a_process_executes_it_does_not_take_up_again_however_late_it_renews(tmp_path: Path) -> None:
    release = asyncio.Event()

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> int:
        await context.token("x")
        await release.wait()
        return 1

    settings = replace(QUICK, lease_seconds=0.02, renew_seconds=0.05)
    async with kernel(tmp_path, worker, settings=settings) as it:
        store = it.worker._store = SlowToRenew(it.store)
        run = await it.start("worker")
        await until(lambda: store.looks >= 3)
        release.set()
        ended = await it.finished(run)

    assert (ended.status, ended.attempt, ended.lease_epoch) == ("completed", 1, run.lease_epoch)


class AwayStore:
    """Its calls of this name find no database, so many times; the others do."""

    def __init__(self, store: Store, name: str, *, times: int) -> None:
        self._store, self._name = store, name
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return self._away if name == self._name and self.left else getattr(self._store, name)

    async def _away(self, *_: object, **__: object) -> None:
        self.left -= 1
        raise StoreUnavailable("no answer")


@pytest.mark.parametrize("name", ["renew", "put_file", "messages"])
async def test_a_run_waits_for_a_database_that_is_away_for_longer_than_a_lease(tmp_path: Path, name: str) -> None:
    """The call in its name gives up after a while; the run does not."""

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> int:
        await asyncio.sleep(0.05)  # longer than the lease
        await context.step("large", lambda: "x" * 300_000)
        return len(await context.history())

    settings = replace(QUICK, lease_seconds=0.02, renew_seconds=30)
    async with kernel(tmp_path, worker, settings=settings) as it:
        store = it.worker._store = it.journal.store = AwayStore(it.store, name, times=3)
        run = await it.start("worker", thread_id="t")
        ended = await it.finished(run)

    assert store.left == 0
    assert (ended.status, ended.attempt, ended.error) == ("completed", 1, None)


class LateReplyStore:
    """The first reply that tells of this comes when the test lets it; what it tells of happens at once."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.happened, self.reply = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes = await self._store.commit(writes)
        bodies = [write.segment.body for write in writes if isinstance(write, StartRun | Append) and write.segment]
        if any(f'"type":"{self._name}"'.encode() in body for body in bodies):
            await self._hold()
        return outcomes

    async def claim(self, *args: Any, **kwargs: Any) -> list[Run]:
        found = await self._store.claim(*args, **kwargs)
        if found and self._name == "claim":
            await self._hold()
        return found

    async def _hold(self) -> None:
        self.happened.set()
        await self.reply.wait()


@pytest.mark.parametrize(
    ("name", "at_most_once"), [("started", False), ("claim", False), ("step_completed", False), ("step_started", True)]
)
async def test_no_step_begins_behind_a_reply_that_came_only_after_the_lease(
    tmp_path: Path, name: str, at_most_once: bool
) -> None:
    """Another process has the run by then, and may have done the step."""
    done: list[str] = []

    @agent("worker", restart="always")
    async def worker(context: Context, input: Any) -> None:
        if name == "claim":
            await context.ask("Go on?")
        if name == "step_completed":
            await context.step("first", lambda: 1, side_effects=False)
        await context.step("work", done.append, "work", at_most_once=at_most_once)

    # Nothing is renewed by itself.
    settings = replace(QUICK, lease_seconds=0.1, renew_seconds=30)
    async with kernel(tmp_path, worker, settings=settings) as it:
        store = it.journal.store = it.worker._store = LateReplyStore(it.store, name)
        starting = asyncio.create_task(it.start("worker"))
        if name == "claim":
            run = await it.waiting(await starting)
            await it.runs.answer(CALLER, run.run_id, "yes")
        await store.happened.wait()
        taken = await until(lambda: it.store.claim("another", ["worker"], limit=1, lease_seconds=60))
        if name in ("started", "claim"):
            await it.worker.renew_leases()  # of what else is executed here; of this run it knows nothing yet
        store.reply.set()
        await starting
        await until(lambda: not it.worker.executing)

    assert len(taken) == 1
    assert done == []
