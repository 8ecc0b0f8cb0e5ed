"""
A server that kills itself at a named point, loaded with the agents into its process by the variable CRASH_AT.

    before:token:8        when the commit with the 8th `token` event is about to begin
    after:complete:1      when the commit with the first `complete` is on disk, and nobody has been told
    take_up:1             when the first run of a dead process is about to be taken up

Events are counted over the life of the process. It ends by SIGKILL, so nothing of it can tidy up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from holdfast.execution.program import Program
from holdfast.execution.recovery import Recovery, TakenUp
from holdfast.model import Run
from holdfast.store.base import Append, Outcome, StartRun, Write
from holdfast.store.sqlite import SQLiteStore


def install(point: str | None) -> None:
    """Patch the product so that this process dies there; None: it lives."""
    if not point:
        return
    where, _, rest = point.partition(":")
    if where == "take_up":
        _die_at_take_up(int(rest))
    else:
        name, _, count = rest.partition(":")
        _die_at_commit(where, name, int(count))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_commit(where: str, name: str, count: int) -> None:
    commit = SQLiteStore.commit
    mark = f'"type":"{name}"'.encode()
    seen = 0

    async def dying(self: SQLiteStore, writes: Sequence[Write]) -> list[Outcome]:
        nonlocal seen
        before = seen
        for write in writes:
            if isinstance(write, StartRun | Append) and write.segment is not None:
                seen += write.segment.body.count(mark)
        is_here = before < count <= seen
        if is_here and where == "before":
            _die()
        outcomes = await commit(self, writes)
        if is_here:
            _die()
        return outcomes

    SQLiteStore.commit = dying  # type: ignore[method-assign]  # that is the point


def _die_at_take_up(count: int) -> None:
    take_up = Recovery.take_up
    seen = 0

    async def dying(self: Recovery, run: Run, program: Program) -> TakenUp:
        nonlocal seen
        seen += 1
        if seen == count:
            _die()
        return await take_up(self, run, program)

    Recovery.take_up = dying  # type: ignore[method-assign]  # that is the point
