"""An event loop of its own, in a thread: what sync clients run their async twins on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from holdfast.client.errors import ClientClosed

T = TypeVar("T")

# So long an interrupted call waits for its work to let go of what it has open. It takes some steps of the loop.
ENDING_SECONDS: Final = 5.0


class Portal:
    """Carries out async work for threads without a loop. Started with the first call, gone with the process."""

    def __init__(self) -> None:
        self._thread: _Thread | None = None
        self._starting = threading.Lock()
        _portals.add(self)

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        What the work comes to, or raises. Interrupting the wait (as by Ctrl-C) cancels the work, and waits for its end.

        Raises:
            ClientClosed: another thread called `close`.
            RuntimeError: it is called in the loop's own thread, which would wait for itself.
        """
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        loop: asyncio.AbstractEventLoop | None = None
        task: asyncio.Task[T] | None = None

        def begin() -> None:
            nonlocal task
            task = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(lambda task: _tell(task, done))

        def cancel() -> None:
            if task is not None:
                task.cancel()
            elif done.cancel():  # interrupted before it was begun
                done.set_running_or_notify_cancel()

        try:
            # Under the lock, so that what is begun here is there when `close` ends everything.
            with self._starting:
                if self._thread is None:
                    self._thread = _Thread()
                elif threading.current_thread() is self._thread:
                    raise RuntimeError(
                        "a sync client was called on its own event loop: use the async client in async handlers"
                    )
                loop = self._thread.loop
                loop.call_soon_threadsafe(begin)
            return done.result()
        except BaseException as exc:
            if loop is not None and not done.done():
                with contextlib.suppress(RuntimeError):  # the loop was ended meanwhile, and the work with it
                    loop.call_soon_threadsafe(cancel)
                concurrent.futures.wait([done], ENDING_SECONDS)
            if isinstance(exc, concurrent.futures.CancelledError) and self._is_ended(loop):
                raise ClientClosed("the client was closed") from None
            raise

    def make(self, make: Callable[[], T]) -> T:
        """What a plain function makes, called on the loop."""

        async def made() -> T:
            return make()

        return self.call(made)

    def close(self) -> None:
        """
        End the loop and what is at work on it: calls that other threads wait for raise ClientClosed there. The next
        call starts another loop.
        """
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def _is_ended(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        thread = self._thread
        return thread is None or thread.loop is not loop

    def forget(self) -> None:
        """In a process that was forked: there is no thread here, and the lock may be held for ever."""
        if self._thread is not None:
            _of_parents.append(self._thread)
        self._thread, self._starting = None, threading.Lock()


class _Thread(threading.Thread):
    """A thread with its event loop."""

    def __init__(self) -> None:
        super().__init__(name="holdfast client", daemon=True)
        self.loop = asyncio.new_event_loop()
        self._is_ending = False
        self.start()

    def run(self) -> None:
        while not self._is_ending:
            # What a task raises of this kind, its caller is told, in his own thread. Here it would end the loop under all
            # others, who would wait for ever.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(_ended(), self.loop).result()
        self._is_ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()
        self.loop.close()


def _tell(task: asyncio.Task[T], done: concurrent.futures.Future[T]) -> None:
    if task.cancelled():
        done.cancel()
        done.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def _ended() -> None:
    """Cancel all other tasks of this loop, and wait for them: a stopped loop would leave who waits for one waiting."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_asyncgens()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
# Kept for good: closing such a loop would take its wake-up out of the parent's, with whom its selector is shared.
_of_parents: list[_Thread] = []


def _forget_all() -> None:
    for portal in list(_portals):
        portal.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
