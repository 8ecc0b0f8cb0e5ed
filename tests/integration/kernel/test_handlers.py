"""Handlers as the documented runtime has them: how they get context and payload, what they emit, what they return."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

import pydantic
import pytest

import holdfast
from holdfast import Context, StreamContext, SyncContext, get_current_context
from holdfast.agents.function import FunctionAgent, agent
from holdfast.errors import Cancelled
from holdfast.execution import emitting
from holdfast.model import Status
from tests.support.kernel import CALLER, QUICK, kernel, replace
from tests.support.until import until


async def outputs(directory: Path, handlers: dict[str, Callable[..., Any]], input: Any) -> dict[str, Any]:
    """What each handler came to, under one kernel."""
    async with kernel(directory, *[agent(name)(handler) for name, handler in handlers.items()]) as served:
        found = {}
        for name in handlers:
            events = await served.events(await served.start(name, input))
            found[name] = events[-1].get("output", events[-1])
        return found


async def test_the_context_goes_to_its_parameter_by_name_or_annotation(tmp_path: Path) -> None:
    def named(payload: Any, context: Any = None) -> list[Any]:
        return [payload, type(context).__name__]

    async def named_async(payload: Any, context: Any = None) -> list[Any]:
        return [payload, type(context).__name__]

    def annotated(payload: Any, one: SyncContext) -> list[Any]:
        return [payload, type(one).__name__]

    async def annotated_as_text(stream: StreamContext, payload: Any) -> list[Any]:
        return [payload, type(stream).__name__]

    async def optional(payload: Any, one: Optional[Context] = None) -> list[Any]:  # noqa: UP045
        return [payload, type(one).__name__]

    async def union(payload: Any, one: Context | None = None) -> list[Any]:
        return [payload, type(one).__name__]

    async def real_union(payload: Any, one: Any = None) -> list[Any]:
        return [payload, type(one).__name__]

    real_union.__annotations__["one"] = Context | None
    annotated_as_text.__annotations__["stream"] = "holdfast.StreamContext"
    handlers: dict[str, Callable[..., Any]] = {
        function.__name__: function
        for function in (named, named_async, annotated, annotated_as_text, optional, union, real_union)
    }

    found = await outputs(tmp_path, handlers, {"a": 1})

    sync = {"named", "annotated"}
    assert found == {name: [{"a": 1}, "SyncContext" if name in sync else "Context"] for name in handlers}


async def test_whatever_can_be_called_is_a_handler(tmp_path: Path) -> None:
    class Async:
        async def __call__(self, payload: Any) -> Any:
            return payload

        def method(self, payload: Any) -> Any:
            return payload

    async def two(extra: int, payload: Any) -> list[Any]:
        return [extra, payload]

    def returns_coroutine(payload: Any) -> Any:
        return two(2, payload)

    async def pieces(payload: Any) -> AsyncIterator[str]:
        for letter in payload:
            yield letter

    def sync_pieces(payload: Any) -> Iterator[Any]:
        yield from payload
        yield {"length": len(payload)}

    def returns_pieces(payload: Any) -> Any:
        return pieces(payload)

    found = await outputs(
        tmp_path,
        {
            "object": Async(),
            "method": Async().method,
            "partial": functools.partial(two, 2),
            "returns_coroutine": returns_coroutine,
            "pieces": pieces,
            "sync_pieces": sync_pieces,
            "returns_pieces": returns_pieces,
        },
        "abc",
    )

    assert found == {
        "object": "abc",
        "method": "abc",
        "partial": [2, "abc"],
        "returns_coroutine": [2, "abc"],
        "pieces": "abc",
        "sync_pieces": {"length": 3},
        "returns_pieces": "abc",
    }


EMITTED = [
    ("progress", {"step": "load", "progress": 1.0, "message": "done"}),
    ("token", {"content": "a"}),
    ("token", {"content": "b", "finish_reason": "stop"}),
    ("checkpoint", {"name": "state", "data": {"n": 1}}),
    (
        "step_completed",
        {
            "step": "node",
            "attempt": 1,
            "message": "",
            "output": None,
            "duration_ms": 12.5,
            "input_keys": ["a"],
            "output_keys": ["b"],
        },
    ),
    ("heartbeat", {}),
    ("own", {"a": 1}),
    ("own", {"a": 2}),
]


def own_fields(events: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    fixed = ("id", "type", "run_id", "sequence", "timestamp")
    return [
        (event["type"], {name: value for name, value in event.items() if name not in fixed}) for event in events[1:-1]
    ]


async def test_the_documented_names_emit_and_give_the_event(tmp_path: Path) -> None:
    returned: list[Any] = []

    @agent
    async def handle(payload: Any, context: Any = None) -> None:
        returned.append(await context.emit_progress("load", 1.7, "done"))
        returned.append(await context.emit_token("a"))
        returned.append(await context.emit_token("b", finish_reason="stop"))
        returned.append(await context.checkpoint("state", {"n": 1}))
        returned.append(await context.emit_step("node", 12.5, ["a"], ["b"]))
        returned.append(await context.emit_heartbeat())
        returned.append(await context.emit("own", {"a": 1}))
        returned.append(await context.emit("own", a=2))

    async with kernel(tmp_path, handle) as served:
        events = await served.events(await served.start("handle"))

    assert own_fields(events) == EMITTED
    assert returned == events[1:-1]


async def test_the_sync_twins_emit_the_same_and_are_true(tmp_path: Path) -> None:
    returned: list[Any] = []

    def emit_all(context: Any) -> None:
        returned.append(context.sync_emit_progress("load", 1.7, "done"))
        returned.append(context.sync_emit_token("a"))
        returned.append(context.sync_emit_token("b", finish_reason="stop"))
        returned.append(context.sync_checkpoint("state", {"n": 1}))
        returned.append(context.sync_emit_step("node", 12.5, ["a"], ["b"]))
        returned.append(context.sync_emit_heartbeat())
        returned.append(context.sync_emit("own", {"a": 1}))
        returned.append(context.sync_emit("own", a=2))

    @agent
    def sync(payload: Any, context: Any = None) -> None:
        emit_all(context)

    @agent
    async def on_the_loop(payload: Any, context: Any = None) -> None:
        emit_all(context)

    @agent
    async def in_a_thread(payload: Any) -> None:
        await asyncio.to_thread(lambda: emit_all(get_current_context()))

    async with kernel(tmp_path, sync, on_the_loop, in_a_thread) as served:
        for name in ("sync", "on_the_loop", "in_a_thread"):
            assert own_fields(await served.events(await served.start(name))) == EMITTED

    assert returned == [True] * 24


async def test_what_readers_are_not_shown_is_recorded_and_told(tmp_path: Path) -> None:
    returned: list[Any] = []

    @agent
    async def handle(context: Context) -> None:
        assert context.events_filter == ("token", "custom:mine")
        returned.append(await context.emit_token("a") is not None)
        returned.append(await context.emit_progress("s", 0.5))
        returned.append(await context.emit("mine") is not None)
        returned.append(await context.emit("other"))
        returned.append(context.sync_emit("other"))

    settings = replace(QUICK, events_allowed=("token", "custom:mine"))
    async with kernel(tmp_path, handle, settings=settings) as served:
        events = await served.events(await served.start("handle"))

    assert returned == [True, None, True, None, False]
    assert [event["type"] for event in events[1:-1]] == ["token", "progress", "mine", "other", "other"]


async def test_the_servers_own_events_are_not_written_and_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emitting._warned.clear()

    @agent
    async def handle(context: Context) -> None:
        for _ in range(2):
            calls: list[Any] = [context.emit_started(), context.emit_complete({"a": 1}), context.emit_cancelled()]
            assert [await call for call in (*calls, context.emit_error("no", code="x"))] == [None] * 4
        context.sync_emit_complete({})

    async with kernel(tmp_path, handle) as served:
        events = await served.events(await served.start("handle"))

    assert [event["type"] for event in events] == ["started", "complete"]
    assert capsys.readouterr().out.count("not_emitted") == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.emit("token", {}),
        lambda context: context.emit("complete"),
        lambda context: context.emit("own", {"sequence": 1}),
        lambda context: context.emit("own", run_id="x"),
        lambda context: context.emit("2own"),
        lambda context: context.emit("own", data="x" * 1_100_000),
        lambda context: context.emit("own", data="ä" * 600_000),
        lambda context: context.emit_token("x" * 1_100_000),
        lambda context: context.token("x" * 1_100_000),
    ],
)
async def test_what_cannot_be_emitted_is_a_value_error(tmp_path: Path, call: Callable[[Context], Any]) -> None:
    @agent
    async def handle(context: Context) -> str:
        with pytest.raises(ValueError):
            await call(context)
        return "refused"

    async with kernel(tmp_path, handle) as served:
        events = await served.events(await served.start("handle"))

    assert [event.get("output") for event in events[1:]] == ["refused"]


async def test_what_a_context_tells(tmp_path: Path) -> None:
    @agent
    async def handle(context: Context) -> list[Any]:
        return [
            context.run_id,
            context.cancelled,
            context.is_tool_allowed("any"),
            context.events_filter,
            *told(context),
        ]

    @agent
    def sync(context: SyncContext) -> list[Any]:
        return [
            context.run_id,
            context.cancelled,
            context.is_tool_allowed("any"),
            context.events_filter,
            *told(context),
        ]

    def told(context: Any) -> list[Any]:
        return [context.queue_mode, context.streaming_backend, context.drain_queued_events()]

    async with kernel(tmp_path, handle, sync) as served:
        for name in ("handle", "sync"):
            run = await served.start(name)
            events = await served.events(run)
            assert events[-1]["output"] == [run.run_id, False, True, None, False, None, []]


async def test_the_current_context_is_that_of_the_run_in_all_its_tasks_and_threads(tmp_path: Path) -> None:
    async with ThreadPools() as shared:

        def current() -> str | None:
            context = get_current_context()
            return None if context is None else context.run_id

        def in_bare_thread() -> str | None:
            found: list[str | None] = []
            thread = threading.Thread(target=lambda: found.append(current()))
            thread.start()
            thread.join()
            return found[0]

        def in_pool() -> str | None:
            return shared.pool.submit(current).result()

        @agent
        async def asynchronous() -> list[Any]:
            loop = asyncio.get_running_loop()
            return [
                current(),
                await asyncio.create_task(asyncio.to_thread(current)),
                await loop.run_in_executor(None, current),
                await asyncio.to_thread(in_bare_thread),
                await asyncio.to_thread(in_pool),
            ]

        @agent
        def sync() -> list[Any]:
            return [current(), in_bare_thread(), in_pool()]

        async with kernel(tmp_path, asynchronous, sync) as served:
            runs = [await served.start(name) for name in ("asynchronous", "sync", "asynchronous", "sync")]
            for run in runs:
                assert set((await served.events(run))[-1]["output"]) == {run.run_id}

        assert current() is None
        assert shared.pool.submit(current).result() is None
        assert await asyncio.to_thread(in_bare_thread) is None


class ThreadPools:
    """A pool that outlives runs, as modules have them."""

    async def __aenter__(self) -> ThreadPools:
        self.pool = ThreadPoolExecutor(2)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pool.shutdown()


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    at: datetime
    nested: list[Path] = []


@dataclasses.dataclass
class Point:
    x: int
    model: Model | None = None


AT = datetime(2026, 11, 20, 23, 59, 19, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "json"),
    [
        (Model(at=AT, nested=[Path("a/b")]), {"at": "2026-11-20T23:59:19Z", "nested": ["a/b"]}),
        (Point(1, Model(at=AT)), {"x": 1, "model": {"at": "2026-11-20T23:59:19Z", "nested": []}}),
        ({"at": AT, "day": date(2026, 11, 20)}, {"at": "2026-11-20T23:59:19Z", "day": "2026-11-20"}),
        (timedelta(seconds=90), "PT90S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        ([Colour.RED, Path("a/b"), b"\x00\xff"], ["red", "a/b", "AP8="]),
        ({"s": {1}, "f": frozenset({2}), "t": (3,)}, {"s": [1], "f": [2], "t": [3]}),
        ({1: "a", Colour.RED: "b"}, {"1": "a", "red": "b"}),
        (None, None),
    ],
)
async def test_results_become_json(tmp_path: Path, result: Any, json: Any) -> None:
    async def returned() -> Any:
        return result

    async def emitted(context: Context) -> None:
        await context.emit("own", value=result)
        await context.checkpoint("c", result)

    async with kernel(tmp_path, agent(returned), agent(emitted)) as served:
        assert (await served.events(await served.start("returned")))[-1]["output"] == json
        events = await served.events(await served.start("emitted"))
        assert (events[1]["value"], events[2]["data"]) == (json, json)


async def test_what_is_no_json_fails_the_run(tmp_path: Path) -> None:
    found = await outputs(tmp_path, {"opaque": lambda: [object()]}, None)

    assert found["opaque"]["code"] == "invalid_output"


async def test_sync_code_learns_of_a_cancel_at_its_next_twin_whatever_context_it_has(tmp_path: Path) -> None:
    began, raised, on = threading.Event(), [], threading.Event()

    def loops(context: Any) -> None:
        began.set()
        on.wait(10)
        try:
            while True:
                context.sync_emit_token("x")
        except Cancelled:
            raised.append(type(context).__name__)
            raise

    @agent
    def sync(context: SyncContext) -> None:
        loops(context)

    @agent
    async def threaded(context: Context) -> None:
        await asyncio.to_thread(loops, context)

    made: list[FunctionAgent] = [sync, threaded]
    async with kernel(tmp_path, *made, settings=replace(QUICK, cancel_seconds=5)) as served:
        for name in ("sync", "threaded"):
            began.clear()
            on.clear()
            run = await served.start(name)
            await asyncio.to_thread(began.wait, 10)
            cancelling = asyncio.create_task(served.runs.cancel(CALLER, run.run_id))
            execution = served.worker.execution(run.number)
            assert execution is not None
            await until(lambda: execution.is_ending)  # noqa: B023  done before the next one
            on.set()
            await cancelling
            assert (await served.finished(run)).status is Status.CANCELLED
    assert raised == ["SyncContext", "Context"]


def test_stream_context_is_the_context() -> None:
    assert holdfast.StreamContext is Context
