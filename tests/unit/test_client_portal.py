"""The loop that a sync client has in a thread: it ends with what is at work on it, and comes again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

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
        with pytest.raises(concurrent.futures.CancelledError):
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
