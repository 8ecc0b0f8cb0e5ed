"""An event loop of its own, in a thread: what sync clients run their async twins on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Carries out async work for threads without a loop. Started with the first call, gone with the process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        What the work comes to, or raises. Interrupting the wait (as by Ctrl-C) cancels the work.

        Raises:
            RuntimeError: it is called in the loop's own thread, which would wait for itself.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            raise RuntimeError("a sync client was called on its own event loop: use the async client in async handlers")
        future = asyncio.run_coroutine_threadsafe(work(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def make(self, make: Callable[[], T]) -> T:
        """What a plain function makes, called on the loop."""

        async def made() -> T:
            return make()

        return self.call(made)

    def close(self) -> None:
        """
        End the loop and what is at work on it: calls that other threads wait for raise CancelledError there. The next
        call starts another loop.
        """
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(_ended(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="holdfast client", daemon=True)
                self._thread.start()
            return self._loop


async def _ended() -> None:
    """Cancel all other tasks of this loop, and wait for them: a stopped loop would leave who waits for one waiting."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_asyncgens()
