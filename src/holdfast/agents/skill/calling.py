"""
Making one call, within its time.

What is late is cut off and not waited for: async code is cancelled, a sync function is left alone in its thread. Either
way it is fenced: what it returns is dropped, and what it asks of its context raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

import msgspec

from holdfast.agents.skill.at_work import StepAtWork
from holdfast.agents.skill.failures import StepTimeoutError, UpstreamFailureError
from holdfast.agents.skill.model import Capability
from holdfast.agents.skill.units import Unit
from holdfast.errors import Cancelled
from holdfast.execution.emitting import checked_token
from holdfast.execution.threads import run_in_thread

# Threads whose functions were late and have not returned yet. Past this many something is very wrong, and more of them
# would only eat the memory.
LATE_THREADS_MAX: Final = 256

# Of what an author's code says in one event beside its outputs, in characters.
TEXT_MAX: Final = 4000

Json = Any


class Call(msgspec.Struct):
    """A call that is about to be made, or under way."""

    step: StepAtWork
    unit: Unit
    capability: Capability
    inputs: dict[str, Json]
    seconds: float
    stream: bool = False
    is_over: bool = False  # it has ended for whoever made it: nothing of it counts any more

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this call, and for no other."""
        step, place = self.step, self.unit.place
        for kind in ("item:", "turn:", "member:"):
            place = place.removeprefix(kind)
        return f"{step.work.context.run_id}/{step.shown}" + (f"#{place}" if place else "")

    def failed(self, text: str, *, is_final: bool = False) -> UpstreamFailureError:
        """The error of what fulfils the capability."""
        error = UpstreamFailureError(f"Step '{self.step.shown}': {text[:TEXT_MAX]}")
        error.is_final = is_final
        return error

    def late(self) -> StepTimeoutError:
        return StepTimeoutError(f"Step '{self.step.shown}': over {self.seconds:g} s.")

    # What the code of a capability may do while it is at work

    def check(self) -> None:
        """
        Raises:
            Cancelled: the call is over.
        """
        if self.is_over or self.step.work.execution.is_ending:
            raise Cancelled(f"the call of {self.capability.id} is over")

    def progress(self, progress: float, message: str) -> None:
        """Tell how far the call is, from any thread."""
        self.check()
        share = min(max(float(progress), 0.0), 1.0)
        text = str(message)[:TEXT_MAX]
        fields = {"step": self.step.shown, "progress": share, "message": text, **self.unit.facts}
        self.step.work.write(("progress", fields), mark=self.step.key)

    def token(self, content: str) -> None:
        """Tell a piece of text, where the step streams; else it is dropped."""
        self.check()
        content = checked_token(content)
        if self.stream and content:
            self.step.work.write(("token", {"content": content, "step": self.step.shown}), mark=self.step.key)


async def carry_out(call: Call) -> Json:
    """
    Make the call; what it returned, unchecked.

    Raises:
        UpstreamFailureError, UpstreamTimeoutError: what fulfils it failed.
        StepTimeoutError: it was too slow.
    """
    try:
        return await call.step.work.bindings.of(call.capability.bind).call(call)
    finally:
        call.is_over = True


async def within(call: Call, work: Coroutine[Any, Any, Json]) -> Json:
    """
    What async code gives, in time. Late or cancelled, it is told so and not waited for.

    Raises:
        StepTimeoutError
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait((task,), timeout=call.seconds)
    except asyncio.CancelledError:
        _abandon(call, task)
        raise
    if not done:
        _abandon(call, task)
        raise call.late()
    if task.cancelled():  # by itself, for whoever waits for it was not
        raise call.failed("the code cancelled itself")
    return task.result()


def _abandon(call: Call, task: asyncio.Future[Json]) -> None:
    call.is_over = True
    task.add_done_callback(_drop)
    task.cancel()


def _drop(task: asyncio.Future[Json]) -> None:
    """Whatever came of it, it was looked at: nothing is to be reported."""
    if not task.cancelled():
        task.exception()


class _Late:
    """A function that may be left alone in its thread; it counts from then on until it returns."""

    all: ClassVar[set[_Late]] = set()

    def __init__(self) -> None:
        self._has_returned = False

    def leave(self) -> None:
        self.all.add(self)
        if self._has_returned:  # just now: it has not seen that it counts
            self.all.discard(self)

    def returned(self) -> None:
        self._has_returned = True
        self.all.discard(self)


async def in_thread(call: Call, function: Callable[[], Json]) -> Json:
    """
    What a sync function gives, in time. The time begins when a thread of the process is free.

    Raises:
        StepTimeoutError
        UpstreamFailureError: too many functions were late and have not returned.
    """
    if len(_Late.all) >= LATE_THREADS_MAX:
        raise call.failed(f"{LATE_THREADS_MAX} functions that were too slow have not returned; no more are called")
    late = _Late()

    def carried() -> Json:
        try:
            return function()
        finally:
            late.returned()

    async with call.step.work.execution.threads:
        future = run_in_thread(carried)
        try:
            done, _ = await asyncio.wait((future,), timeout=call.seconds)
        except asyncio.CancelledError:
            _leave(call, future, late)
            raise
        if not done:
            _leave(call, future, late)
            raise call.late()
        return future.result()


def _leave(call: Call, future: asyncio.Future[Json], late: _Late) -> None:
    call.is_over = True
    if not future.done():
        late.leave()
        future.cancel()
