"""
Two orders that everything stands on: commit before show, subscribe before read. Each is tried against the journal as
it is and against one with the order turned round, which has to be caught.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, agent
from holdfast.clock import SystemClock
from holdfast.execution.worker import Worker
from holdfast.ids import RandomIds
from holdfast.journal import END, Journal, Reader
from holdfast.journal.chunk import Chunk
from holdfast.journal.writer import Taken, Writer, is_end
from holdfast.model.encoding import decode_event
from holdfast.runs import Runs
from holdfast.shutdown import Shutdown
from holdfast.store.sqlite import SQLiteStore
from tests.support.gates import GatedStore
from tests.support.kernel import CALLER, QUICK, Agents, Kernel, kernel
from tests.support.until import until


class EarlyJournal(Journal):
    """The mutant that shows what it is about to commit."""

    async def _commit(self, writers: Sequence[Writer], taken: Sequence[Taken], submitted: Sequence[Any]) -> None:
        for writer, item in zip(writers, taken, strict=True):
            if item.chunk is not None:
                self.tails.publish(writer.number, writer.tenant, item.chunk, finished=is_end(item.chunk))
        await super()._commit(writers, taken, submitted)


class LateReader(Reader):
    """The mutant that trusts what was read before it subscribed."""

    async def _look(self) -> None:
        self._tail.is_current = True


async def _seen_while_the_commit_is_held(directory: Path, journal_class: type[Journal]) -> tuple[int, list[str]]:
    """How many tokens a reader has while their commit is held, and the types that a new process finds after a kill."""
    go = asyncio.Event()

    @agent("speaker", restart="always")
    async def speaker(context: Context, input: Any) -> None:
        await go.wait()
        await context.token("Quan")
        await asyncio.Event().wait()

    clock = SystemClock()
    inner = SQLiteStore(directory)
    info = await inner.open()
    store = GatedStore(inner)
    journal = journal_class(store, clock, last_timestamp=info.last_timestamp)
    await journal.start()
    worker = Worker(journal, Agents([speaker]), clock, RandomIds(clock), QUICK)
    runs = Runs(journal, worker, clock, RandomIds(clock), Shutdown())
    await worker.start()
    it = Kernel(store, journal, worker, runs)
    run = await it.start("speaker")
    reader = it.runs.follow(await it.runs.get(CALLER, run.run_id), after=0)
    reading = asyncio.create_task(reader.next())
    store.hold()
    go.set()
    await store.held.wait()
    # The commit is at the gate: whoever shows events before it has done so, and the reader has had its turns.
    for _ in range(20):
        await asyncio.sleep(0)
    chunk = reading.result() if reading.done() else None
    seen = len(chunk.lines) if isinstance(chunk, Chunk) else 0
    store.die()
    reading.cancel()
    await it.die()
    assert journal._task is not None
    journal._task.cancel()
    await inner.close()

    reopened = SQLiteStore(directory)
    await reopened.open()
    segments = await reopened.segments(run.number, after=-1, bytes_max=1 << 20)
    await reopened.close()
    return seen, [decode_event(line)["type"] for segment in segments for line in segment.body.splitlines()]


async def test_no_event_is_seen_before_it_is_on_disk(tmp_path: Path) -> None:
    seen, stored = await _seen_while_the_commit_is_held(tmp_path, Journal)

    assert seen == 0
    assert stored == ["started"]


async def test_showing_events_before_their_commit_would_be_caught(tmp_path: Path) -> None:
    """The mutant: its reader holds a token that no process will ever find again."""
    seen, stored = await _seen_while_the_commit_is_held(tmp_path, EarlyJournal)

    assert seen == 1
    assert stored == ["started"]


async def _types_read_by_one_who_came_at_the_end(
    directory: Path, reader_class: type[Reader], *, seconds: float
) -> list[str] | None:
    """What a reader gets whose run ended between the look at its row and the subscription; None: it waits for so long."""
    go = asyncio.Event()

    @agent("brief")
    async def brief(context: Context, input: Any) -> None:
        await go.wait()
        await context.token("Quan")

    async with kernel(directory, brief) as it:
        run = await it.start("brief")
        stale = await it.runs.get(CALLER, run.run_id)
        go.set()
        await it.finished(run)
        # Its row is final a moment before its last events are shown here.
        await until(lambda: not it.worker.executing)
        assert it.journal.tails.get(run.number) is None, "it goes with the execution"
        reader = reader_class(it.journal, stale, after=-1)
        types: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                while (chunk := await reader.next()) is not END:
                    assert isinstance(chunk, Chunk)
                    types += chunk.types
        except TimeoutError:
            return None
        finally:
            reader.close()
    return types


async def test_a_run_that_ends_between_look_and_subscription_is_read_to_its_end(tmp_path: Path) -> None:
    read = await _types_read_by_one_who_came_at_the_end(tmp_path, Reader, seconds=20)

    assert read == ["started", "token", "complete"]


@pytest.mark.slow
async def test_reading_before_subscribing_would_be_caught(tmp_path: Path) -> None:
    """The mutant: nobody wakes it any more."""
    assert await _types_read_by_one_who_came_at_the_end(tmp_path, LateReader, seconds=1) is None


async def test_closing_a_reader_twice_takes_the_tail_from_nobody_else(tmp_path: Path) -> None:
    go = asyncio.Event()

    @agent("patient", restart="never")
    async def patient(context: Context, input: Any) -> None:
        await go.wait()

    async with kernel(tmp_path, patient) as it:
        run = await it.start("patient")
        row = await it.runs.get(CALLER, run.run_id)
        first = it.runs.follow(row, after=0)
        first.close()
        second = it.runs.follow(row, after=0)
        first.close()
        go.set()
        async with asyncio.timeout(20):
            chunk = await second.next()
        second.close()

    assert isinstance(chunk, Chunk)
    assert chunk.types == ["complete"]
