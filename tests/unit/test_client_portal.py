"""The loop that a sync client has in a thread: it ends with what is at work on it, and comes again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from holdfast.client.errors import ClientClosed
from holdfast.client.portal import Portal

SECONDS = 20.0


def test_closing_ends_the_calls_that_other_threads_wait_for() -> None:
    portal, begun = Portal(), threading.Event()
    ended: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    def wait() -> None:
        with pytest.raises(ClientClosed):
            portal.call(work)
        ended.append("wait")

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert begun.wait(SECONDS)
    portal.close()
    waiting.join(SECONDS)

    assert ended == ["work", "wait"]


def test_after_closing_the_next_call_has_a_new_loop() -> None:
    portal = Portal()

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first = portal.call(loop)
    portal.close()
    second = portal.call(loop)
    portal.close()

    assert first is not second
    assert first.is_closed()
    assert second.is_closed()


def test_closing_what_never_began_is_nothing() -> None:
    Portal().close()


def test_a_call_in_its_own_thread_is_refused() -> None:
    portal = Portal()

    async def nested() -> None:
        portal.call(nested)

    with pytest.raises(RuntimeError, match="use the async client"):
        portal.call(nested)
    portal.close()


def test_closing_lets_others_begin_anew_and_ends_what_it_found() -> None:
    """A call that comes while the loop ends has a loop of its own, which is not the one that is waited for."""
    portal, begun, may_end = Portal(), threading.Event(), threading.Event()

    async def slow_to_end() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(may_end.wait, SECONDS)

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with concurrent.futures.ThreadPoolExecutor() as threads:
        slow = threads.submit(portal.call, slow_to_end)
        assert begun.wait(SECONDS)
        closing = threads.submit(portal.close)
        while portal._thread is not None:  # closing has begun
            pass
        other = portal.call(loop)
        may_end.set()

        assert isinstance(slow.exception(SECONDS), ClientClosed)
        closing.result(SECONDS)
    assert other.is_running(), "the new loop is not ended with the old one"
    portal.close()


def test_what_would_end_a_process_is_told_to_the_caller_alone() -> None:
    """Say argparse, in what an async handler calls: the loop goes on for all others."""
    portal = Portal()

    async def leave() -> None:
        sys.exit(3)

    async def one() -> int:
        return 1

    with concurrent.futures.ThreadPoolExecutor() as threads:
        left = threads.submit(portal.call, leave).exception(SECONDS)

        assert isinstance(left, SystemExit)
        assert threads.submit(portal.call, one).result(SECONDS) == 1
        threads.submit(portal.close).result(SECONDS)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Whoever starts the tests in the background may have them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_call_returns_when_its_work_has_let_go() -> None:
    """So that what comes next, say closing the stream that was read, does not meet the work at its end."""
    portal, begun = Portal(), threading.Event()
    ended: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as closing a connection takes some steps
                await asyncio.sleep(0)
            ended.append("work")

    def interrupt() -> None:
        begun.wait(SECONDS)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident or 0
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        portal.call(work)

    assert ended == ["work"]
    interrupting.join()
    portal.close()


def test_a_forked_process_has_a_loop_of_its_own() -> None:
    portal = Portal()

    async def process() -> int:
        return os.getpid()

    assert portal.call(process) == os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads are at work: it is what is tested
        child = os.fork()
    if child == 0:  # no test any more: whatever happens, this process ends here
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(SECONDS))
        os._exit(0 if portal.call(process) == os.getpid() else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert portal.call(process) == os.getpid()
    portal.close()
