"""
The context in sync code, which runs in a thread: the same calls without `await`.

Emitting goes straight into the pending buffer; what has to wait (steps, questions) is carried out on the event loop
while the thread waits. Cancelling cannot interrupt a thread, so it is told by its next call here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

from holdfast.errors import Cancelled, InvalidOutput
from holdfast.execution.context import Approval, Context, in_step, scope
from holdfast.execution.emitting import Emitting, canonical_fields, checked_token, progress_fields, raise_ended, text_of
from holdfast.execution.files import GivenFile
from holdfast.execution.released import Released
from holdfast.execution.steps import Retry, raise_recorded
from holdfast.model import Message

T = TypeVar("T")

_MISSING: Any = object()


class SyncContext(Emitting):
    """See `Context`; every method of it stands here for threads."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._execution = context.execution
        self._writer = self._execution.writer
        self._record = self._execution.record
        self._loop = loop
        self._waits: set[concurrent.futures.Future[Any]] = set()
        self._execution.on_ending.append(self._on_ending)

    @property
    def run_id(self) -> str:
        return self._context.run_id

    @property
    def thread_id(self) -> str | None:
        return self._context.thread_id

    @property
    def agent_name(self) -> str:
        return self._context.agent_name

    @property
    def tenant(self) -> str:
        return self._context.tenant

    @property
    def attempt(self) -> int:
        return self._context.attempt

    @property
    def metadata(self) -> dict[str, Any]:
        return self._context.metadata

    @property
    def cancelled(self) -> bool:
        """Ask this in long loops that make no other call here."""
        return self._context.cancelled

    def history(self) -> list[Message]:
        """What was said in the run's thread before this turn; see `Context.history`."""
        return self._wait(self._context.history())

    def token(self, content: str) -> None:
        """Emit a piece of text of the answer."""
        self._check()
        if self._context.is_known():
            return
        self._writer.token(checked_token(content), scope())
        self._room()

    def thinking(self, content: str) -> None:
        """Emit a piece of the model's thinking."""
        self._put("thinking", canonical_fields({"content": text_of(content, "content")}))

    def progress(self, progress: float, message: str = "", *, step: str | None = None) -> None:
        """Tell how far the work is: 0 to 1, clamped."""
        self._put("progress", progress_fields(step or scope(), progress, message))

    # Here, the documented names mean the same with and without `sync_`: nothing can be awaited.
    checkpoint = Emitting.sync_checkpoint
    emit = Emitting.sync_emit
    emit_progress = Emitting.sync_emit_progress
    emit_token = Emitting.sync_emit_token
    emit_step = Emitting.sync_emit_step
    emit_heartbeat = Emitting.sync_emit_heartbeat
    emit_started = Emitting.sync_emit_started
    emit_complete = Emitting.sync_emit_complete
    emit_error = Emitting.sync_emit_error
    emit_cancelled = Emitting.sync_emit_cancelled

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        attempts: int = 1,
        backoff_seconds: float = 1.0,
        backoff_multiplier: float = 2.0,
        at_most_once: bool = False,
        side_effects: bool = True,
        visible: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Do a piece of work once, in this thread, and return its recorded result; see `Context.step`."""
        self._check()
        context = self._context
        step_key = context.step_key(name, key)
        recorded = context.recorded(step_key)
        if recorded is not None:
            return raise_recorded(recorded)
        retry = Retry(attempts, backoff_seconds, backoff_multiplier)
        opened = self._wait(context.open_step(step_key, name, at_most_once, side_effects, visible))
        if opened.is_settled:
            return opened.result
        while True:
            try:
                with in_step(step_key):
                    result = function(*args, **kwargs)
            except (Cancelled, Released):
                raise  # the run ends, or is let go: the step is not over
            except Exception as exc:  # noqa: BLE001  whatever the function raised is the step's failure
                self._wait(context.fail_step(opened, exc, retry))
                self._pause(retry.delay(opened.attempt))
                self._wait(context.try_again(opened))
                continue
            try:
                return self._wait(context.complete_step(opened, result, side_effects))
            except InvalidOutput as exc:
                self._wait(context.fail_step(opened, exc, Retry(1, 0, 1)))

    def ask(
        self,
        question: str,
        *,
        choices: Sequence[str] | None = None,
        expires_in: float | None = None,
        default: Any = _MISSING,
        key: str | None = None,
    ) -> Any:
        """Ask a person and return the answer; see `Context.ask`."""
        given = {} if default is _MISSING else {"default": default}
        return self._wait(self._context.ask(question, choices=choices, expires_in=expires_in, key=key, **given))

    def approve(
        self, question: str, *, expires_in: float | None = None, default: bool | None = None, key: str | None = None
    ) -> Approval:
        """Ask a person for permission; see `Context.approve`."""
        return self._wait(self._context.approve(question, expires_in=expires_in, default=default, key=key))

    def sleep_until(self, when: datetime | float) -> None:
        """Sleep until a time, through crashes and restarts."""
        self._wait(self._context.sleep_until(when))

    def call_tool(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        *,
        expires_in: float | None = None,
        on_expiry: str | None = None,
        default: str | None = None,
        key: str | None = None,
    ) -> str:
        """Have the caller execute a tool; see `Context.call_tool`."""
        call = self._context.call_tool(name, args, expires_in=expires_in, on_expiry=on_expiry, default=default, key=key)
        return self._wait(call)

    def file(self, reference: str) -> GivenFile:
        """A file that this run was given; see `Context.file`."""
        return self._wait(self._context.file(reference))

    def run(self, agent: str, input: Any = None) -> Any:
        """Run another agent as a child and return its output."""
        return self._wait(self._context.run(agent, input))

    @property
    def _mark(self) -> str | None:
        return scope()

    def _is_known(self) -> bool:
        return self._context.is_known()

    def _room(self) -> None:
        if self._writer.size > self._execution.pending_bytes_max:
            self._writer.room_in_thread()

    def _check(self) -> None:
        if self._execution.is_ending:
            raise_ended(self._execution)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry something out on the event loop while this thread waits."""
        try:
            self._check()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waits.add(future)
        try:
            if self._execution.is_ending:
                future.cancel()
            return future.result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise_ended(self._execution)
        finally:
            self._waits.discard(future)

    def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, 0.05))

    def _on_ending(self) -> None:
        for future in tuple(self._waits):
            future.cancel()
