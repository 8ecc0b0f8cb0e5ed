"""
A server inside of the test's process: the real one, on a store in a temporary folder, reached without a socket.

    with FakeServer(scripted("greeter", Token("Hel"), Token("lo"))) as server:
        async with AsyncRunsClient(server.url, server.key, transport=server.transport()) as client:
            ...

Journal, projections, errors and restarts are those of a real server, because they are its code. What is made up is the
network (`cut`, `freeze`, `drop`, `refuse`, `lose_answer`, `unreachable`) and what the agents say (`scripted`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from holdfast.agents.registry import Registry
from holdfast.api.http.door import Door
from holdfast.api.http.reply import Reply
from holdfast.errors import HoldfastError, RateLimited, Stopping
from holdfast.execution.program import Program
from holdfast.execution.worker import Worker
from holdfast.server import Server
from holdfast.testing.faults import FakeTransport, Faults, RequestFault, StreamFault
from holdfast.testing.network import Network
from holdfast.testing.passing import ForwardClock, ForwardLoop
from holdfast.testing.script import Happenings, ScriptedAgent
from holdfast.variables import load_settings

if TYPE_CHECKING:
    from holdfast.agents.catalog import Catalogs

START_SECONDS = 30
# Time passes in steps of such a part of a lease: they are renewed between two of them.
STEP: Final = 0.8
# How long a step waits for clients to read, by the real clock.
TAKEN_SECONDS: Final = 1.0
_DEFAULTS: Final = {
    "HOLDFAST_HEARTBEAT_SECONDS": "1",
    "HOLDFAST_DRAIN_SECONDS": "0",
    "HOLDFAST_LEASE_SECONDS": "300",
}


class FakeServer:
    """
    As a context manager: it serves within it, from a thread of its own; at the end nothing of it is left. Its methods may
    be called from any thread and any event loop.
    """

    key = "fake-key"
    """The key of an admin. Calls without it are refused, as everywhere."""

    url = "http://localhost"
    """What clients are given as the address. Nothing listens there: give them `transport()` too."""

    def __init__(
        self, *agents: Program, settings: Mapping[str, str] | None = None, catalog: Catalogs | None = None
    ) -> None:
        """
        Args:
            agents: what it serves: `scripted` ones, functions under `@agent`, `AssistantProgram(model=ScriptedModel(…))`.
            settings: as in the environment, such as `{"HOLDFAST_HEARTBEAT_SECONDS": "1"}`.
            catalog: further agents, from a catalog directory.
        """
        self._agents, self._catalog = agents, catalog
        self._settings = {**_DEFAULTS, **(settings or {})}
        self._clock = ForwardClock()
        self._network = Network()
        self._faults = Faults()
        self._happenings = Happenings(self._network.drop, self._ask_restart)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._orders: asyncio.Queue[_Order] | None = None
        self._door: Door | None = None
        self._worker: Worker | None = None
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._starts = 0
        self._started = threading.Condition()

    def __enter__(self) -> Self:
        for agent in self._agents:
            if isinstance(agent, ScriptedAgent):
                agent.happenings = self._happenings
        self._up.clear()  # it may have served before
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="fake server", daemon=True)
        self._thread.start()
        if not self._up.wait(START_SECONDS):
            raise RuntimeError(f"the fake server did not start within {START_SECONDS} s")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._order(_Order(kill=False, again=False))
        assert self._thread is not None
        self._thread.join(START_SECONDS)
        if self._failure is not None and error is None:
            raise self._failure

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self.__exit__, *error)

    def transport(self) -> FakeTransport:
        """The HTTP library's way in, for one client: give each its own."""
        return FakeTransport(self._network, self._faults)

    # Faults

    def refuse(self, status: int = 429, *, retry_after: float | None = None, times: int = 1) -> None:
        """
        Answer the next requests with this status, without doing what they ask: 429 and 503 as the server says it, others
        as a proxy in front of it would.
        """

        def reply(target: bytes) -> Reply:
            if status not in (429, 503):
                asks = () if retry_after is None else ((b"retry-after", b"%d" % math.ceil(retry_after)),)
                return Reply(status, b"<html><h1>Bad Gateway</h1></html>", asks, media_type=b"text/html")
            details = {} if retry_after is None else {"retry_after": retry_after}
            error: HoldfastError = (
                RateLimited("too many calls", **details) if status == 429 else Stopping("it stops", **details)
            )
            assert self._door is not None
            return self._door.refuse(target, error)

        self._faults.plan(RequestFault(kind="refuse", reply=reply), times)

    def unreachable(self, *, times: int = 1) -> None:
        """Let the next requests not reach the server."""
        self._faults.plan(RequestFault(kind="unreachable"), times)

    def lose_answer(self, *, times: int = 1) -> None:
        """Let the next requests be carried out, and the client not hear of it."""
        self._faults.plan(RequestFault(kind="lose_answer"), times)

    def cut(self, *, after_bytes: int, times: int = 1) -> None:
        """Cut the next streams after so many bytes of their bodies."""
        self._faults.plan(StreamFault(kind="cut", after_bytes=after_bytes), times)

    def cut_answer(self, *, after_bytes: int, times: int = 1) -> None:
        """Cut the connections of the next requests after so many bytes of their answers, heads included; 0: before any."""
        self._faults.cut_answers(after_bytes, times)

    def freeze(self, *, after_bytes: int, times: int = 1) -> None:
        """Let the next streams go silent after so many bytes, without an end: half open."""
        self._faults.plan(StreamFault(kind="freeze", after_bytes=after_bytes), times)

    def drop(self) -> None:
        """Cut all connections now."""
        self._network.drop()

    @property
    def faults_left(self) -> int:
        """How many of the planned faults have not happened yet."""
        return self._faults.left

    def restart(self, *, kill: bool = True) -> None:
        """
        End the server and start it anew on the same store; all connections end. When this returns it answers again.

        Args:
            kill: end it like kill -9; else it stops in order.
        """
        done = threading.Event()
        self._order(_Order(kill=kill, again=True, done=done.set))
        if not done.wait(START_SECONDS):
            raise RuntimeError(f"the fake server did not start again within {START_SECONDS} s")
        if self._failure is not None:
            raise self._failure

    def advance(self, seconds: float) -> None:
        """
        Let so much time pass for the server, at once: heartbeats are sent, questions expire, what is old is removed. When
        this returns, what was due has begun. Streams are read meanwhile, so in async tests call it in a thread; who reads
        nothing is one who read nothing for all that time. The clients' own clocks stand still.
        """
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._pass(seconds), self._loop).result()

    def go_on(self, name: str = "gate") -> None:
        """Let the scripts go on that wait for this (`Wait`), and all that come there later."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: self._happenings.gate(name).set())

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._starts

    def wait_starts(self, count: int, seconds: float = START_SECONDS) -> None:
        """
        Wait until it was started so often, and answers.

        Raises:
            TimeoutError: it was not, in time.
        """
        with self._started:
            if not self._started.wait_for(lambda: self._starts >= count, seconds):
                raise TimeoutError(f"the fake server was started {self._starts} times in {seconds:g} s, not {count}")

    # The thread

    def _order(self, order: _Order) -> None:
        loop, orders = self._loop, self._orders
        if loop is not None and orders is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over: it failed, which is told
                loop.call_soon_threadsafe(orders.put_nowait, order)

    def _ask_restart(self) -> None:
        """At a script's word, on the server's own loop."""
        self._order(_Order(kill=True, again=True))

    async def _pass(self, seconds: float) -> None:
        assert self._worker is not None
        while seconds > 0:
            step = min(seconds, STEP * self._worker.settings.lease_seconds)
            self._clock.ahead += step
            seconds -= step
            await asyncio.sleep(0)  # the timers that are due now
            await self._worker.renew_leases()
            ends = time.monotonic() + TAKEN_SECONDS
            while self._network.waiting() and time.monotonic() < ends:  # noqa: ASYNC110  # each link would have to tell
                await asyncio.sleep(0.0005)

    def _run(self) -> None:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="holdfast-fake-") as folder,
                asyncio.Runner(loop_factory=lambda: ForwardLoop(self._clock)) as runner,
            ):
                runner.run(self._serve(Path(folder)))
        except BaseException as error:  # noqa: BLE001  the top of a thread: whoever waits for it is told
            self._failure = error
        finally:
            self._network.refuse()
            self._up.set()

    async def _serve(self, folder: Path) -> None:
        self._loop, self._orders = asyncio.get_running_loop(), asyncio.Queue()
        settings = load_settings({"HOLDFAST_DATA": str(folder), "HOLDFAST_KEYS": self.key, **self._settings})
        order = _Order(kill=False, again=True)
        while order.again:
            programs = Registry(self._agents, catalog=self._catalog)
            server = _Embedded(settings, programs, None, None, clock=self._clock)
            config = server.http_config()
            self._door = config.app  # type: ignore[assignment]  # uvicorn takes any application
            async with server.opened() as worker:
                self._worker = worker
                self._network.serve(config)
                with self._started:
                    self._starts += 1
                    self._started.notify_all()
                self._up.set()
                order.done()
                order = await self._orders.get()
                self._network.refuse()
                if order.kill:
                    await worker.die()
                self._network.drop()
        order.done()


class _Embedded(Server):
    """A server that is a part of its process, which must not end with it."""

    def _on_failure(self) -> None:
        raise RuntimeError("nothing can be made durable any more")


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the thread is to do next."""

    kill: bool
    again: bool
    done: Callable[[], None] = lambda: None
