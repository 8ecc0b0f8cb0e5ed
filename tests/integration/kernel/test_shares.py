"""Fair shares, as runs see them: who gets the next place, and how many execute at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.agents.function import FunctionAgent
from holdfast.clock import HeldClock
from holdfast.errors import QueueFull, TenantQueueFull
from holdfast.model import Run, Status
from holdfast.runs import Caller, StartRequest
from holdfast.store.base import RunQuery
from holdfast.store.postgres import PostgresStore
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace
from tests.support.postgres import PostgresServer
from tests.support.until import until


class Stage:
    """An agent whose runs stay on until they are told to leave, and who was seen on it."""

    def __init__(self, **declared: Any) -> None:
        self.on: dict[str, asyncio.Event] = {}
        self.seen: list[str] = []
        self.most = 0

        @agent("actor", **declared)
        async def actor(input: str) -> str:
            self.on[input] = gate = asyncio.Event()
            self.seen.append(input)
            self.most = max(self.most, len(self.on))
            try:
                await gate.wait()
            finally:
                del self.on[input]
            return input

        self.agent: FunctionAgent = actor

    async def leave(self, name: str) -> None:
        """Let one end, once it is there."""
        await until(lambda: name in self.on)
        self.on[name].set()


async def enter(it: Kernel, name: str, *, tenant: str = "a", **request: Any) -> Run:
    caller = Caller("tester", tenant)
    return (await it.runs.start(caller, StartRequest(agent="actor", input=name, **request))).run


async def statuses(it: Kernel) -> Counter[Status]:
    return Counter(run.status for run in await it.store.runs(RunQuery(tenant=None)))


async def ended(it: Kernel, count: int) -> None:
    """Wait until so many runs are completed, and none is left."""

    async def are_completed() -> bool:
        return await statuses(it) == {Status.COMPLETED: count}

    await until(are_completed, seconds=30)


async def test_no_more_runs_of_a_tenant_execute_than_may(tmp_path: Path) -> None:
    stage = Stage()
    async with kernel(tmp_path, stage.agent, settings=replace(QUICK, tenant_runs_max=2)) as it:
        begun = [(await enter(it, f"a{index}")).status for index in range(5)]
        other = await enter(it, "b0", tenant="b")
        for index in range(5):
            await stage.leave(f"a{index}")
        await stage.leave("b0")
        await ended(it, 6)

    assert begun == [Status.RUNNING] * 2 + [Status.QUEUED] * 3
    assert other.status is Status.RUNNING
    assert stage.most == 3


@pytest.mark.parametrize("declared", [{"runs_max": 1}, {}])
async def test_no_more_runs_of_an_agent_execute_than_may(tmp_path: Path, declared: dict[str, int]) -> None:
    """What the agent declares goes before the setting."""
    stage = Stage(**declared)
    settings = replace(QUICK, agent_runs_max=5 if declared else 1)
    async with kernel(tmp_path, stage.agent, settings=settings) as it:
        for index in range(4):
            await enter(it, str(index), tenant=str(index % 2))
        for index in range(4):
            await stage.leave(str(index))
        await ended(it, 4)

    assert stage.most == 1
    assert stage.seen == ["0", "1", "2", "3"]


async def test_who_has_little_does_not_stand_behind_who_has_much(tmp_path: Path) -> None:
    stage = Stage()
    async with kernel(tmp_path, stage.agent, settings=replace(QUICK, runs_max=2)) as it:
        for index in range(6):
            await enter(it, f"a{index}")
        await enter(it, "b0", tenant="b")
        await stage.leave("a0")
        await until(lambda: len(stage.seen) == 3)
        third = stage.seen[-1]
        for name in ("b0", *(f"a{index}" for index in range(1, 6))):
            await stage.leave(name)
        await ended(it, 7)

    assert third == "b0"


async def test_a_new_run_does_not_overtake_those_that_wait_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place that gets free is for the queue, not for whoever calls at that moment."""
    stage = Stage()
    late: list[asyncio.Task[Run]] = []
    async with kernel(tmp_path, stage.agent, settings=replace(QUICK, runs_max=1)) as it:
        forget = it.worker.forget

        def forgetting(execution: Any) -> None:
            forget(execution)
            if not late:  # the place is free, and nobody has looked into the queue yet
                assert it.worker.has_room
                late.append(asyncio.create_task(enter(it, "late")))

        monkeypatch.setattr(it.worker, "forget", forgetting)
        await enter(it, "first")
        waits = await enter(it, "waits")
        for name in ("first", "waits", "late"):
            await stage.leave(name)
        await ended(it, 3)

    assert (waits.status, late[0].result().status) == (Status.QUEUED, Status.QUEUED)
    assert stage.seen == ["first", "waits", "late"]


async def test_what_an_agent_declares_urgent_goes_first(tmp_path: Path) -> None:
    stage = Stage()
    hurried: list[str] = []

    @agent("siren", priority=5)
    async def siren() -> None:
        hurried.extend(stage.seen)

    async with kernel(tmp_path, stage.agent, siren, settings=replace(QUICK, runs_max=1)) as it:
        await enter(it, "first")
        await enter(it, "second")
        urgent = await it.runs.start(Caller("tester", "a"), StartRequest(agent="siren"))
        await stage.leave("first")
        await stage.leave("second")
        await ended(it, 3)

    assert urgent.run.priority == 5
    assert hurried == ["first"]


async def test_a_parent_does_not_wait_for_a_place_that_it_holds(tmp_path: Path) -> None:
    @agent("parent", restart="always")
    async def parent(context: Context) -> Any:
        return await context.run("countdown", 3)

    @agent("countdown", restart="always", runs_max=1)
    async def countdown(context: Context, input: int) -> Any:
        return 0 if input == 0 else await context.run("countdown", input - 1)

    settings = replace(QUICK, tenant_runs_max=1)
    async with kernel(tmp_path, parent, countdown, settings=settings, queued_max=0, tenant_queued_max=0) as it:
        run = await it.finished(await it.start("parent"))

    assert (run.status, run.output) == (Status.COMPLETED, b"0")


async def test_parents_that_hold_all_places_lend_them_to_their_children(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    @agent("parent", restart="always")
    async def parent(context: Context) -> Any:
        await both.wait()  # both hold their places before either has a child
        return await asyncio.gather(*(context.run("leaf", number) for number in range(3)))

    @agent("leaf", restart="always")
    async def leaf(input: int) -> int:
        return input

    async with kernel(tmp_path, parent, leaf, settings=replace(QUICK, runs_max=2)) as it:
        parents = [await it.start("parent"), await it.start("parent")]
        ended = [await it.finished(run) for run in parents]

    assert [(run.status, run.output) for run in ended] == [(Status.COMPLETED, b"[0,1,2]")] * 2


async def test_an_answered_run_takes_its_turn(tmp_path: Path) -> None:
    stage = Stage()

    @agent("asker", restart="always")
    async def asker(context: Context) -> str:
        return str(await context.ask("Go on?"))

    async with kernel(tmp_path, stage.agent, asker, settings=replace(QUICK, tenant_runs_max=1)) as it:
        asks = await it.start("asker")
        await it.waiting(asks)
        await enter(it, "busy", tenant=CALLER.tenant)
        await it.runs.answer(CALLER, asks.run_id, "yes")
        answered = await it.runs.get(CALLER, asks.run_id)
        await stage.leave("busy")
        asked = await it.finished(asks)

    assert answered.status is Status.QUEUED
    assert asked.output == b'"yes"'


async def test_refusals_come_before_a_run_is_accepted(tmp_path: Path) -> None:
    stage = Stage()
    settings = replace(QUICK, tenant_runs_max=1)
    async with kernel(tmp_path, stage.agent, settings=settings, queued_max=2, tenant_queued_max=1) as it:
        for tenant in "ab":
            await enter(it, "runs", tenant=tenant)
            await enter(it, "waits", tenant=tenant)
        await enter(it, "runs", tenant="c")
        with pytest.raises(TenantQueueFull):
            await enter(it, "late", tenant="a", run_id="late", thread_id="t1")
        with pytest.raises(QueueFull):
            await enter(it, "late", tenant="c", run_id="late", thread_id="t1")

        assert await statuses(it) == {Status.RUNNING: 3, Status.QUEUED: 2}
        assert await it.store.thread("a", "t1") is None


def test_an_agent_that_could_never_execute_is_refused() -> None:
    with pytest.raises(ValueError, match="runs_max is 0"):
        agent("never", runs_max=0)


# Many processes


@pytest.fixture
async def processes(postgres: PostgresServer, database: str, tmp_path: Path) -> AsyncIterator[Any]:
    """Makes kernels that share a database."""
    async with AsyncExitStack() as stack:

        async def process(*agents: FunctionAgent, clock: HeldClock | None = None, **settings: Any) -> Kernel:
            store = PostgresStore(postgres.url(database))
            options: dict[str, Any] = {} if clock is None else {"clock": clock}
            return await stack.enter_async_context(
                kernel(tmp_path, *agents, settings=replace(QUICK, **settings), store=store, **options)
            )

        yield process


async def test_several_processes_keep_a_limit_together(processes: Any) -> None:
    stage = Stage(runs_max=2)
    kernels = [await processes(stage.agent) for _ in range(3)]

    await asyncio.gather(*(enter(it, f"{place}-{turn}") for turn in range(3) for place, it in enumerate(kernels)))
    for _ in range(9):
        await until(lambda: bool(stage.on))
        await stage.leave(next(iter(stage.on)))
        await asyncio.sleep(0)
    await ended(kernels[0], 9)

    assert stage.most == 2
    assert len(stage.seen) == 9


async def test_time_grows_over_the_turns_of_a_thread_whose_processes_have_other_clocks(processes: Any) -> None:
    @agent("talker")
    async def talker(context: Context, input: str) -> str:
        await context.token(input)
        return input

    ahead, behind = HeldClock(), HeldClock()
    ahead.advance(3600)
    kernels = [await processes(talker, clock=clock) for clock in (ahead, behind)]
    times: list[str] = []

    for turn in range(4):
        it: Kernel = kernels[turn % 2]
        run = await it.start("talker", "hello", thread_id="t1", message="hello")
        assert (await it.finished(run)).status is Status.COMPLETED
        times += [event["timestamp"] for event in await it.stored(run)]

    assert len(times) == 12
    assert times == sorted(set(times))
