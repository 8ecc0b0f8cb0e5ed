"""
A journal is a list. Whatever is appended, read, pruned, closed and killed in whatever order: every reader sees the
list from its cursor on, nothing that was seen or acknowledged ever goes or changes, and the hash chain holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.clock import SystemClock
from holdfast.execution.events import segment_of
from holdfast.execution.worker import Worker
from holdfast.ids import SeededIds
from holdfast.journal import END, GAP, Chunk, Journal, Reader
from holdfast.journal.writer import Writer
from holdfast.model import Run, Status
from holdfast.model.encoding import decode_event, encode_fields, repair
from holdfast.runs import Caller, Runs
from holdfast.shutdown import Shutdown
from holdfast.store.base import Started, StartRun, Write
from holdfast.store.sqlite import SQLiteStore
from tests.support.kernel import Agents

T = TypeVar("T")
AGENT = "naive"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
BACK = st.integers(0, 6) | st.integers(0, 100)  # so many events before the end does a reader begin
WHICH = st.integers(0, 20)  # an index, modulo how many there are
WHICH_LAST = -1
IS_AWAITED = st.sampled_from([True, True, False])
TEXTS = st.lists(ANY_TEXT, min_size=1, max_size=6)


class Listed:
    """A run, as a naive list has it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.writer: Writer | None = None
        self.contents: list[tuple[str, Any]] = [("started", None)]
        self.durable = 1  # so many are acknowledged or were seen
        self.first = 0  # the oldest one that is kept
        self.seen: dict[int, str] = {}  # the bytes, by sequence
        self.is_finished = False


class Following:
    """A reader and where it is. It survives the process as a client's cursor does."""

    def __init__(self, listed: Listed, cursor: int) -> None:
        self.listed = listed
        self.cursor = cursor
        self.reader: Reader | None = None


class JournalAgainstList(RuleBasedStateMachine):
    """Random appends, readers, restarts and pruning."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-journal-"))
        self.runner = asyncio.Runner()
        self.clock = SystemClock()
        self.ids = SeededIds(self.clock)
        self.listed: list[Listed] = []
        self.followings: list[Following] = []
        self._do(self._open())
        # Two runs, each read along from its start: most of what can go wrong needs a reader beside a writer.
        for _ in range(2):
            self.start()
            self.follow(WHICH_LAST, back=0)

    def teardown(self) -> None:
        try:
            self._do(self._check_everything())
            self._do(self._close())
        finally:
            self.runner.close()
            shutil.rmtree(self.directory)

    # What happens

    @rule()
    def start(self) -> None:
        self._do(self._start())

    @rule(which=WHICH, batches=st.lists(st.tuples(TEXTS, IS_AWAITED), min_size=1, max_size=4))
    def append(self, which: int, batches: list[tuple[list[str], bool]]) -> None:
        """Tokens one by one, and two events in one write; the batches of one call may or may not be committed apart."""
        listed = self.listed[which % len(self.listed)]
        if listed.writer is None:
            return
        for texts, is_awaited in batches:
            for text in texts:
                assert listed.writer.token(text) == len(listed.contents)
                listed.contents.append(("token", repair(text)))
            one = ("checkpoint", encode_fields({"content": texts[0]}))
            assert listed.writer.write(one, one) == len(listed.contents) + 1
            listed.contents += [("checkpoint", repair(texts[0]))] * 2
            if is_awaited:
                self._do(self._acknowledge(listed))

    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        listed = self.listed[which % len(self.listed)]
        if listed.writer is None:
            return
        listed.writer.write(
            ("complete", encode_fields({"content": None})),
            status=Status.COMPLETED,
            ended_at=self.clock.now(),
            release=True,
        )
        listed.contents.append(("complete", None))
        self._do(self._acknowledge(listed))
        listed.writer.close()
        self._release(listed)
        listed.writer = None
        listed.is_finished = True

    @rule(which=WHICH, back=BACK)
    def follow(self, which: int, back: int) -> None:
        listed = self.listed[which % len(self.listed)]
        following = Following(listed, max(listed.durable - 1 - back, -1))
        self.followings.append(following)
        self._do(self._subscribe(following))

    @rule(which=WHICH)
    def read(self, which: int) -> None:
        self._do(self._read(self.followings[which % len(self.followings)]))

    @rule(which=WHICH, backs=st.lists(BACK, min_size=1, max_size=3))
    def look_in_from_anywhere(self, which: int, backs: list[int]) -> None:
        listed = self.listed[which % len(self.listed)]
        for back in backs:
            self._do(self._look_in(Following(listed, max(listed.durable - 1 - back, -1))))

    @rule(turns=st.integers(1, 5))
    def let_the_committer_work(self, turns: int) -> None:
        self._do(self._turn(turns))

    @rule()
    def stop_and_start(self) -> None:
        self._do(self._close())
        for listed in self.listed:
            listed.durable = len(listed.contents)  # a clean stop commits what is pending
        self._do(self._open())

    @rule(turns=st.integers(0, 3))
    def kill_and_start(self, turns: int) -> None:
        self._do(self._turn(turns))
        self._do(self._close(is_killed=True))
        self._do(self._open())

    @precondition(lambda self: any(listed.is_finished for listed in self.listed))
    @rule()
    def prune(self) -> None:
        self._do(self._prune())

    @invariant()
    def what_was_acknowledged_is_in_the_list(self) -> None:
        assert all(listed.durable <= len(listed.contents) for listed in getattr(self, "listed", ()))

    # How

    def _do(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(bounded())

    async def _open(self) -> None:
        self.store = SQLiteStore(self.directory)
        info = await self.store.open()
        self.journal = Journal(self.store, self.clock, last_timestamp=info.last_timestamp)
        await self.journal.start()
        worker = Worker(self.journal, Agents([]), self.clock, self.ids)
        self.service = Runs(self.journal, worker, self.clock, self.ids, Shutdown())
        claimed = {run.number: run for run in await self.store.claim("me", [AGENT], limit=1000, lease_seconds=60)}
        for listed in self.listed:
            await self._take_up(listed, claimed.get(listed.run.number))
        for following in self.followings:
            await self._subscribe(following)

    async def _take_up(self, listed: Listed, claimed: Run | None) -> None:
        row = await self.store.run_by_number(listed.run.number)
        assert row is not None
        assert listed.durable <= row.tail_sequence + 1 <= len(listed.contents)
        del listed.contents[row.tail_sequence + 1 :]  # what nobody was told of may be lost
        listed.durable = len(listed.contents)
        assert (claimed is None) == listed.is_finished
        if claimed is not None:
            assert claimed.lease_epoch > listed.run.lease_epoch
            listed.run = claimed
            listed.writer = self.journal.open_writer(claimed)

    async def _close(self, *, is_killed: bool = False) -> None:
        for following in self.followings:
            if following.reader is not None:
                following.reader.close()
                following.reader = None
        if is_killed:
            assert self.journal._task is not None
            self.journal._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.journal._task
        else:
            await self.journal.stop()
        await self.store.close()

    async def _start(self) -> Listed:
        run = Run(
            number=0,
            run_id=self.ids.run_id(),
            agent=AGENT,
            agent_id="",
            status=Status.RUNNING,
            input=b"null",
            created_at=self.clock.now(),
            tail_sequence=-1,
            lease_owner="me",
            lease_epoch=1,
        )

        def build(stamp: Any) -> Write:
            segment = segment_of(run, [("started", encode_fields({"content": None}))], stamp)
            row = msgspec.structs.replace(
                run, tail_sequence=0, head_hash=segment.hash, last_timestamp=segment.last_timestamp
            )
            return StartRun(run=row, segment=segment, lease_seconds=60)

        started = await self.journal.submit(build)
        assert isinstance(started, Started)
        listed = Listed(started.run)
        listed.writer = self.journal.open_writer(started.run)
        self.listed.append(listed)
        return listed

    async def _acknowledge(self, listed: Listed) -> None:
        assert listed.writer is not None
        await listed.writer.durable()
        listed.durable = len(listed.contents)

    def _release(self, listed: Listed) -> None:
        tail = self.journal.tails.get(listed.run.number)
        if tail is not None:
            self.journal.tails.release(tail)

    async def _turn(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def _subscribe(self, following: Following) -> None:
        row = await self.store.run_by_number(following.listed.run.number)
        assert row is not None
        following.reader = Reader(self.journal, row, after=following.cursor)

    async def _look_in(self, following: Following) -> None:
        """Read while the others do, and leave."""
        await self._subscribe(following)
        assert following.reader is not None
        await self._read(following)
        following.reader.close()

    async def _read(self, following: Following) -> None:
        """Everything that is acknowledged comes, in order, and what else is committed may come."""
        reader, listed = following.reader, following.listed
        assert reader is not None
        while reader.cursor < listed.durable - 1:
            chunk = await reader.next()
            if chunk is GAP:
                assert reader.cursor == listed.first - 1
            else:
                assert isinstance(chunk, Chunk)
                self._compare(following, chunk)
            following.cursor = reader.cursor
        while (more := reader.take()) is not None:
            self._compare(following, more)
        following.cursor = reader.cursor
        listed.durable = max(listed.durable, reader.cursor + 1)
        if listed.is_finished:
            assert await reader.next() is END

    def _compare(self, following: Following, chunk: Chunk) -> None:
        listed = following.listed
        # What was pruned may still be in memory, where somebody reads it.
        assert chunk.first in {following.cursor + 1, max(following.cursor + 1, listed.first)}
        following.cursor = chunk.last
        for sequence, line in enumerate(chunk.lines, chunk.first):
            event = decode_event(line)
            assert event["sequence"] == sequence
            assert (event["type"], event.get("content")) == listed.contents[sequence]
            assert listed.seen.setdefault(sequence, line) == line

    async def _prune(self) -> None:
        await self.store.prune(ended_before=self.clock.now() + 1, rows_before=0, now=0)
        for listed in self.listed:
            if listed.is_finished:
                row = await self.store.run_by_number(listed.run.number)
                assert row is not None
                assert listed.first <= row.first_sequence <= row.tail_sequence
                listed.first = row.first_sequence

    async def _check_everything(self) -> None:
        for listed in self.listed:
            if listed.writer is not None:
                await self._acknowledge(listed)
            following = Following(listed, -1)
            self.followings.append(following)
            await self._subscribe(following)
            await self._read(following)
            verified = await self.service.verify(Caller(), listed.run.run_id)
            assert verified.ok
            assert verified.events == len(listed.contents) - listed.first


JournalAgainstList.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.slow
@pytest.mark.timeout(400)  # a failure is shrunk before it is told
class TestJournalAgainstList(JournalAgainstList.TestCase):  # type: ignore[misc,valid-type]  # made at run time
    """The machine above, as a test."""


@pytest.mark.faults
@pytest.mark.timeout(1200)
class TestJournalAgainstListAtLength(JournalAgainstList.TestCase):  # type: ignore[misc,valid-type]  # as above
    """The same with more and longer histories."""

    settings = settings(JournalAgainstList.TestCase.settings, max_examples=300, stateful_step_count=80)
