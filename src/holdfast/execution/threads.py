"""
Sync code in threads: one daemon thread a call, so that code which never returns cannot hold the process at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from holdfast.execution.exits import no_exit

P = ParamSpec("P")
T = TypeVar("T")


def run_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """
    Call the function in a thread of its own, with the caller's context variables; a future of this event loop.

    Cancelling the future does not stop the function: its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("the function raised StopIteration"))
        else:
            future.set_exception(error)
            future.exception()  # who waits gets it; where nobody does any more, there is nothing to report

    def work() -> None:
        result, error = None, None
        try:
            with no_exit:
                result = context.run(function, *args, **kwargs)
        except BaseException as exc:  # noqa: BLE001  whatever it is, the caller gets it
            error = exc
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=work, name=f"holdfast-{getattr(function, '__name__', 'call')}", daemon=True).start()
    return future


async def to_its_end(work: asyncio.Future[T]) -> T:
    """
    What a thread's work came to. Cancelled, it waits for the thread before it lets the cancellation pass: the code in
    it is told by its next call of the context, and where it never calls, the run ends without it.
    """
    while not work.done():
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.done():
                await asyncio.wait([work])
            raise
    return work.result()
