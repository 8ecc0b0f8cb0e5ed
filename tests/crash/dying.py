"""
A server that kills itself at a named point, loaded with the agents into its process by the variable CRASH_AT.

    before:token:8        when the commit with the 8th `token` event is about to begin
    after:complete:1      when the commit with the first `complete` is on disk, and nobody has been told
    take_up:1             when the first run of a dead process is about to be taken up

Events are counted over the life of the process. It ends by SIGKILL, so nothing of it can tidy up.

With CRASH_MUTANT=early the process shows events before they are committed: to see that the books catch it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

from holdfast.execution.program import Program
from holdfast.execution.recovery import Recovery, TakenUp
from holdfast.journal.journal import Journal
from holdfast.journal.writer import Taken, Writer
from holdfast.model import Run
from holdfast.store.base import Append, Outcome, StartRun, Write
from holdfast.store.postgres import PostgresStore
from holdfast.store.sqlite import SQLiteStore

# What the disk takes for a commit that never comes to its end: time for others to do what they should not.
COMMIT_SECONDS = 0.05


def install(point: str | None, mutant: str | None = None) -> None:
    """Patch the product so that this process dies there; None: it lives."""
    if mutant == "early":
        _show_early()
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
    store: type[SQLiteStore | PostgresStore] = PostgresStore if os.environ.get("HOLDFAST_STORE") else SQLiteStore
    commit = store.commit
    mark = f'"type":"{name}"'.encode()
    seen = 0

    async def dying(self: Any, writes: Sequence[Write]) -> list[Outcome]:
        nonlocal seen
        before = seen
        for write in writes:
            if isinstance(write, StartRun | Append) and write.segment is not None:
                seen += write.segment.body.count(mark)
        is_here = before < count <= seen
        if is_here and where == "before":
            await asyncio.sleep(COMMIT_SECONDS)
            _die()
        outcomes = await commit(self, writes)
        if is_here:
            _die()
        return outcomes

    store.commit = dying  # type: ignore[method-assign]  # that is the point


def _show_early() -> None:
    commit = Journal._commit

    async def early(self: Journal, writers: Sequence[Writer], taken: Sequence[Taken], submitted: Sequence[Any]) -> None:
        for writer, item in zip(writers, taken, strict=True):
            if item.chunk is not None:
                self.tails.publish(writer.number, writer.tenant, item.chunk, finished=False)
        await commit(self, writers, taken, submitted)

    Journal._commit = early  # type: ignore[method-assign]  # that is the point


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
