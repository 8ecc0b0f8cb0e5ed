"""What both ledgers promise: a call is taken by one at a time, its answer stays, an event is stored once."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from holdfast.client.workflow import Answer, Beginning, FileLedger, Ledger, MemoryLedger
from holdfast.client.workflow import ledger as ledger_module
from holdfast.client.workflow.file_ledger import KEPT_SECONDS

KEY = (17, "call_5b0e6c2f9a4d4e1f")
ANSWER = Answer(KEY[1], "no\u2028on \U0001f553")


@pytest.fixture(params=["memory", "file"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    made: Ledger = MemoryLedger() if request.param == "memory" else FileLedger(tmp_path / "ledger")
    yield made
    await made.aclose()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[[], FileLedger]]:
    """Makes ledgers on one file, as that many processes have them: a lock belongs to who opened its file."""
    made: list[FileLedger] = []

    def open_one() -> FileLedger:
        made.append(FileLedger(tmp_path / "ledger"))
        return made[-1]

    yield open_one
    for one in made:
        if one._database is not None:
            await one.aclose()


async def test_of_many_who_begin_a_call_one_has_it(ledger: Ledger) -> None:
    begun = await asyncio.gather(*(ledger.begin(KEY) for _ in range(10)))

    assert sorted(one.beginning.value for one in begun) == ["busy"] * 9 + ["fresh"]


async def test_an_answer_stays_and_nobody_begins_again(ledger: Ledger) -> None:
    await ledger.begin(KEY)
    before = await ledger.answer(KEY)

    await ledger.finish(KEY, ANSWER)
    await ledger.abandon(KEY)

    assert before is None
    assert await ledger.answer(KEY) == ANSWER
    assert (await ledger.begin(KEY)) == ledger_module.Begun(Beginning.DONE, ANSWER)


async def test_an_error_is_kept_as_one(ledger: Ledger) -> None:
    await ledger.begin(KEY)
    await ledger.finish(KEY, Answer(KEY[1], "failed", errored=True))

    assert await ledger.answer(KEY) == Answer(KEY[1], "failed", errored=True)


async def test_what_was_given_back_is_begun_again(ledger: Ledger) -> None:
    await ledger.begin(KEY)
    await ledger.abandon(KEY)

    begun = [(await ledger.begin(KEY)).beginning for _ in range(2)]

    assert begun == [Beginning.AGAIN, Beginning.BUSY]


async def test_a_call_id_is_one_of_its_run(ledger: Ledger) -> None:
    await ledger.begin(KEY)

    assert (await ledger.begin((18, KEY[1]))).beginning is Beginning.FRESH


async def test_an_event_is_stored_once_and_known_when_it_is_done(ledger: Ledger) -> None:
    added = [await ledger.add_event("msg_1", b"{}"), await ledger.add_event("msg_1", b"[]")]
    await ledger.add_event("msg_2", b"2")
    unfinished = await ledger.take_events()
    await ledger.finish_event("msg_1")

    assert added == [True, False]
    assert unfinished == [("msg_1", b"{}"), ("msg_2", b"2")]
    assert await ledger.take_events() == [("msg_2", b"2")]
    assert await ledger.add_event("msg_1", b"{}") is False


async def test_memory_forgets_the_oldest_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ANSWERS_MAX", 2)
    ledger = MemoryLedger()

    for task in range(3):
        await ledger.finish((task, "call"), Answer("call", str(task)))

    assert [await ledger.answer((task, "call")) for task in range(3)] == [
        None,
        Answer("call", "1"),
        Answer("call", "2"),
    ]


async def test_memory_forgets_large_answers_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ANSWERS_BYTES_MAX", 100)
    ledger = MemoryLedger()

    await ledger.finish((1, "call"), Answer("call", "x" * 60))
    await ledger.finish((2, "call"), Answer("call", "y" * 60))

    assert await ledger.answer((1, "call")) is None
    assert await ledger.answer((2, "call")) is not None


async def test_a_file_is_shared(opened: Callable[[], FileLedger]) -> None:
    first, second = opened(), opened()
    begun = [(await one.begin(KEY)).beginning for one in (first, second)]

    await first.finish(KEY, ANSWER)

    assert begun == [Beginning.FRESH, Beginning.BUSY]
    assert await second.answer(KEY) == ANSWER
    assert await second.add_event("msg_1", b"{}")
    assert not await first.add_event("msg_1", b"{}")
    assert await first.take_events() == []


async def test_what_a_closed_file_left_is_taken_by_another(opened: Callable[[], FileLedger]) -> None:
    first, second = opened(), opened()
    await first.begin(KEY)
    await first.add_event("msg_1", b"{}")
    assert (await second.begin(KEY)).beginning is Beginning.BUSY

    await first.aclose()

    assert (await second.begin(KEY)).beginning is Beginning.AGAIN
    assert await second.take_events() == [("msg_1", b"{}")]


async def test_nobody_gives_back_what_another_one_has(opened: Callable[[], FileLedger]) -> None:
    first, second = opened(), opened()
    await first.begin(KEY)

    await second.abandon(KEY)

    assert (await second.begin(KEY)).beginning is Beginning.BUSY


async def test_of_many_files_opened_at_once_one_has_a_call(opened: Callable[[], FileLedger]) -> None:
    begun = await asyncio.gather(*(opened().begin(KEY) for _ in range(8)))

    assert sorted(one.beginning.value for one in begun) == ["busy"] * 7 + ["fresh"]


async def test_a_file_is_its_users_alone(opened: Callable[[], FileLedger], tmp_path: Path) -> None:
    await opened().begin(KEY)

    assert stat.S_IMODE((tmp_path / "ledger").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ledger-owners").stat().st_mode) == 0o700


async def test_a_file_forgets_what_nobody_asks_for_any_more(
    opened: Callable[[], FileLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    await first.finish(KEY, ANSWER)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEPT_SECONDS + 1)

    assert await opened().answer(KEY) is None


async def test_the_files_of_owners_that_are_gone_are_removed(opened: Callable[[], FileLedger], tmp_path: Path) -> None:
    first = opened()
    await first.begin(KEY)
    (tmp_path / "ledger-owners" / "gone").touch()

    await opened().answer(KEY)

    names = {path.name for path in (tmp_path / "ledger-owners").iterdir()}
    assert "gone" not in names
    assert first._owner in names
    assert len(names) == 2


async def test_an_owner_cannot_lock_his_file_while_it_is_being_removed(
    opened: Callable[[], FileLedger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who made it and has not locked it yet would take it for his own afterwards, and be dead to all others."""
    await opened().begin(KEY)
    (tmp_path / "ledger-owners" / "slow").touch()
    locked: list[str] = []
    unlink = Path.unlink

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinking)
    await opened().answer(KEY)
    monkeypatch.undo()

    assert locked == ["slow"]


async def test_a_file_that_could_not_be_opened_is_opened_later(tmp_path: Path) -> None:
    """Say a full disk: the second attempt waited for the lock that the first one had left, for ever."""
    path = tmp_path / "ledger"
    path.write_bytes(b"this is no database, and it is long enough to be told apart from one that is empty" * 20)
    ledger = FileLedger(path)
    for _ in range(2):
        with pytest.raises(sqlite3.DatabaseError):
            await ledger.begin(KEY)

    path.unlink()

    assert (await ledger.begin(KEY)).beginning is Beginning.FRESH
    await ledger.aclose()
