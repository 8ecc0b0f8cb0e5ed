"""
The current context in threads that agent code starts by itself.

A new thread starts without the variables of the code that started it (until Python makes `thread_inherit_context` the
rule), so `get_current_context` would know nothing there. Once installed, `Thread.start` and `ThreadPoolExecutor.submit`
carry the caller's variables along, where the caller belongs to a run. Elsewhere in the process nothing changes.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_is_installed = False


def carry_contexts(is_wanted: Callable[[], bool]) -> None:
    """Install it, once a process; `is_wanted` says whether the calling code has something to carry."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    start: Callable[..., None] = threading.Thread.start
    submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    @functools.wraps(start)
    def carrying_start(thread: threading.Thread) -> None:
        if is_wanted() and thread.ident is None:
            thread.run = _run_once(thread, contextvars.copy_context())  # type: ignore[method-assign]
        start(thread)

    @functools.wraps(submit)
    def carrying_submit(
        pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if not is_wanted():
            return submit(pool, function, *args, **kwargs)
        carried = contextvars.copy_context()
        # The pool may start a thread for this, which outlives the call: it must not carry anything itself.
        return contextvars.Context().run(submit, pool, carried.run, function, *args, **kwargs)

    threading.Thread.start = carrying_start  # type: ignore[method-assign, assignment]
    ThreadPoolExecutor.submit = carrying_submit  # type: ignore[method-assign, assignment]


def _run_once(thread: threading.Thread, carried: contextvars.Context) -> Callable[[], None]:
    """
    The thread's `run` among the carried variables. It takes itself off the thread first: else thread and variables
    would hold each other, and a run that is over would be held with them until the collector comes.
    """
    run = thread.run

    def run_once() -> None:
        del thread.run
        carried.run(run)

    return run_once
