"""
What clients promise on bad lines, once for each combination of server (a process behind a proxy, the fake), form (async,
sync) and API: whatever happens to the connection, each event comes once, in order, up to the last one.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import AsyncRunsClient
from holdfast.client.errors import ClientClosed, ClientError, RunCancelled
from holdfast.testing import FakeServer
from tests.integration.clients.cells import KINDS, Cell, all_of, is_reading, silence_of
from tests.support import fault_agents
from tests.support.lines import RealLine, RealServer, line_to
from tests.support.served_skills import SKILL_ROOT
from tests.support.server import KEY
from tests.support.until import until

SETTINGS = {
    "HOLDFAST_HEARTBEAT_SECONDS": "0.1",
    "HOLDFAST_AGENT": "gated",
    "HOLDFAST_SKILLS_ROOTS": str(SKILL_ROOT),
}
CELLS = list(itertools.product(("fake", "real"), ("async", "sync"), KINDS))

# Every so many-th byte is cut, from another one on each day; the campaign (mark `faults`) cuts at all of them.
STRIDES = {
    ("fake", "async", "runs"): 1,
    ("fake", "async", "engine"): 1,
    ("fake", "async", "skills"): 5,  # twice as long, and at every byte in tests/unit/test_client_skills.py
    **{("fake", "sync", kind): 17 for kind in KINDS},
    **{("real", "async", kind): 29 for kind in KINDS},
    **{("real", "sync", kind): 43 for kind in KINDS},
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    agents = Path(fault_agents.__file__)
    server = RealServer(tmp_path_factory.mktemp("faults") / "data", agents=agents, settings=SETTINGS)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer(*fault_agents.AGENTS, settings=SETTINGS) as server:
        yield server


@pytest.fixture(params=CELLS, ids="-".join)
async def cell(request: pytest.FixtureRequest) -> AsyncIterator[Cell]:
    server, form, kind = request.param
    async with line_to(request.getfixturevalue(server)) as line, AsyncExitStack() as stack:
        yield Cell(line, form, KINDS[kind], stack)
        assert line.faults_left == 0


async def test_where_a_stream_is_cut_changes_nothing(cell: Cell, request: pytest.FixtureRequest) -> None:
    stride = STRIDES[request.node.callspec.params["cell"]]

    await _cut_at(cell, datetime.now(UTC).toordinal() % stride, stride)


@pytest.mark.faults
async def test_where_a_stream_is_cut_changes_nothing_at_any_byte(cell: Cell) -> None:
    await _cut_at(cell, 0, 1)


async def _cut_at(cell: Cell, first: int, stride: int) -> None:
    """Head and body of an answer are cut after so many bytes, and each time after `stride` more."""
    client = await cell.client()
    stream = cell.kind.start(client, "word", "?")
    events, output = await all_of(stream), await stream.result()
    for after_bytes in itertools.count(first, stride):
        before = cell.line.requests
        cell.line.cut(after_bytes)

        again = cell.kind.follow(client, stream.run_id)

        assert await all_of(again) == events, f"cut after {after_bytes} bytes"
        assert await again.result() == output
        if cell.line.requests == before + 1:  # the answer was not that long
            break
    assert after_bytes > 600, "the answer is shorter than any that is one"
    assert output == cell.kind.output("word", "?")
    assert [event.sequence for event in events] == list(range(len(events)))


async def test_a_start_that_is_cut_is_made_once(cell: Cell) -> None:
    """Its answer is cut before it begins, in its head, before its first event, and behind it."""
    client = await cell.client()
    await all_of(cell.kind.start(client, "word", "?"))
    before = await cell.runs_made()
    for made, after_bytes in enumerate((0, 60, 300, 600), start=1):
        cell.line.cut(after_bytes, times=2)
        stream = cell.kind.start(client, "word", "?")

        events = await all_of(stream)

        assert [event.sequence for event in events] == list(range(len(events)))
        assert await all_of(cell.kind.follow(client, stream.run_id)) == events
        assert await cell.runs_made() == before + made


async def test_a_server_that_is_killed_goes_on_with_what_is_read_and_waited_for(cell: Cell, tmp_path: Path) -> None:
    """What was said before is void and told so; what the valid events say is whole."""
    gate, other = tmp_path / "gate", tmp_path / "other"
    void: list[tuple[str, int, int]] = []
    client = await cell.client()
    stream = cell.kind.start(client, "gated", str(gate), on_discard=lambda *what: void.append(what))
    events = await cell.until_text(stream)
    called = asyncio.ensure_future(cell.kind.call(client, "gated", str(other)))
    await until(Path(f"{other}.in").exists)
    cell.wait_seconds_max = 0.01

    await cell.line.restart()
    gate.touch()
    other.touch()
    events += await all_of(stream)

    assert await called == cell.kind.output("gated", str(other))
    cell.assert_whole(events, "beforebeforeafter")
    voided = {(run_id, number) for run_id, first, last in void for number in range(first, last + 1)}
    valid = [event for event in events if (stream.run_id, event.sequence) not in voided]
    assert "".join(cell.kind.text(event) for event in valid) == "beforeafter"
    assert await stream.result() == cell.kind.output("gated", str(gate))


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_refusal_is_waited_for_in_the_place_of_a_start_and_of_a_resumption(
    cell: Cell, tmp_path: Path, status: int
) -> None:
    gate = tmp_path / "gate"
    client = await cell.client()
    cell.line.refuse(status, retry_after=7)
    cell.line.refuse(status)
    stream = cell.kind.start(client, "gated", str(gate))
    events = await cell.until_text(stream)
    assert cell.slept[0] == 7.0, "Retry-After"
    assert 0 < cell.slept[1] < 7.0
    cell.slept.clear()

    cell.line.refuse(status, retry_after=11)
    cell.line.unreachable()
    cell.line.drop()
    gate.touch()
    events += await all_of(stream)

    cell.assert_whole(events, "beforeafter")
    assert 11.0 in cell.slept

    cell.line.refuse(status, retry_after=5)
    assert await cell.kind.call(client, "word", "?") == cell.kind.output("word", "?")
    assert cell.slept[-1] == 5.0


async def test_a_refusal_that_lasts_is_the_callers(cell: Cell) -> None:
    client = await cell.client(reconnect_seconds=20.0)
    cell.line.refuse(503, retry_after=15)
    cell.line.refuse(503, retry_after=30)

    with pytest.raises(ClientError) as told:
        await all_of(cell.kind.start(client, "word", "?"))

    assert (getattr(told.value, "status_code", None), getattr(told.value, "retry_after", None)) == (503, 30.0)
    assert cell.slept == [15.0], "what takes longer than the client's patience is not waited for"


async def test_a_connection_that_says_nothing_is_left_within_two_heartbeats(cell: Cell, tmp_path: Path) -> None:
    """It stays open, so nothing but the missing heartbeats tells; what else ends a wait takes 27 s and more."""
    client = await cell.client(heartbeat_seconds=0.2)
    gate = tmp_path / "gate"
    gate.touch()
    cell.line.freeze(after_bytes=300)
    began = time.monotonic()

    stream = cell.kind.start(client, "gated", str(gate))
    events = await all_of(stream)

    cell.assert_whole(events, "beforeafter")
    assert 0.2 < silence_of(stream) < 0.4
    assert 0.2 < time.monotonic() - began < 10


async def test_a_run_that_another_client_cancels_ends_as_cancelled(cell: Cell, tmp_path: Path) -> None:
    client, other = await cell.client(), await cell.client()
    stream = cell.kind.start(client, "gated", str(tmp_path / "gate"))
    events = await cell.until_text(stream)

    cell.line.drop()
    await cell.kind.cancel(other, events[0])
    events += await all_of(stream)

    cell.assert_whole(events, "before")
    with pytest.raises(RunCancelled):
        await stream.result()


async def test_who_stops_reading_leaves_nothing_open_and_the_run_goes_on(cell: Cell, tmp_path: Path) -> None:
    """The tasks that read and that wait are cancelled; a thread, which cannot be, leaves the block of its stream."""
    gate, other = tmp_path / "gate", tmp_path / "other"
    client, tasks = await cell.client(), asyncio.all_tasks()
    stream = cell.kind.start(client, "gated", str(gate))
    events = await cell.until_text(stream)

    if cell.is_sync:
        async with stream:
            pass
    else:
        reading = asyncio.ensure_future(anext(stream))
        calling = asyncio.ensure_future(cell.kind.call(client, "gated", str(other)))
        await until(lambda: is_reading(stream) and Path(f"{other}.in").exists())
        reading.cancel()
        calling.cancel()
        await asyncio.wait({reading, calling})

    await until(lambda: cell.line.open == 0)
    assert asyncio.all_tasks() == tasks
    gate.touch()
    other.touch()
    whole = await all_of(cell.kind.follow(await cell.client(), stream.run_id))
    cell.assert_whole(whole, "beforeafter")
    assert whole[: len(events)] == events


async def test_a_client_that_is_closed_ends_what_is_read_by_it(cell: Cell, tmp_path: Path) -> None:
    """A stream that somebody waits for, one that stands still, and a call; none is made again, and no thread is left."""
    threads = set(threading.enumerate())
    gate, other = tmp_path / "gate", tmp_path / "other"
    client = await cell.client()
    waiting = cell.kind.start(client, "gated", str(gate))
    events = await cell.until_text(waiting)
    still = cell.kind.follow(client, waiting.run_id)
    assert await anext(still) == events[0]
    reading = asyncio.ensure_future(anext(waiting))
    calling = asyncio.ensure_future(cell.kind.call(client, "gated", str(other)))
    await until(lambda: is_reading(waiting) and Path(f"{other}.in").exists())

    await (client.close() if cell.is_sync else client.aclose())

    for work in (reading, calling):
        with pytest.raises(ClientClosed):
            await work
    await until(lambda: cell.line.open == 0)
    assert not [thread.name for thread in set(threading.enumerate()) - threads if "client" in thread.name]
    with pytest.raises(ClientClosed):
        await all_of(still)
    gate.touch()
    other.touch()
    after = cell.kind.follow(await cell.client(), waiting.run_id)
    assert await after.result() == cell.kind.output("gated", str(gate))


async def test_a_stream_that_is_closed_tells_who_waits_for_it(cell: Cell, tmp_path: Path) -> None:
    """From another task, or thread. It is not opened again, and the run goes on."""
    gate = tmp_path / "gate"
    client = await cell.client()
    stream = cell.kind.start(client, "gated", str(gate))
    await cell.until_text(stream)
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: is_reading(stream))

    async with stream:
        pass

    with pytest.raises(ClientClosed):
        await reading
    assert await all_of(stream) == []
    await until(lambda: cell.line.open == 0)
    gate.touch()
    cell.assert_whole(await all_of(cell.kind.follow(client, stream.run_id)), "beforeafter")


async def test_a_stream_that_nobody_has_any_more_is_closed(cell: Cell, tmp_path: Path) -> None:
    """Somebody broke out of a loop without a block around it. No look for cycles is needed to find it."""
    gate = tmp_path / "gate"
    client = await cell.client()
    stream = cell.kind.start(client, "gated", str(gate))
    await cell.until_text(stream)
    run_id = stream.run_id
    gc.collect()
    gc.disable()
    try:
        del stream

        await until(lambda: cell.line.open == 0)
    finally:
        gc.enable()
    gate.touch()
    cell.assert_whole(await all_of(cell.kind.follow(client, run_id)), "beforeafter")


def test_a_program_that_breaks_out_and_ends_says_nothing(real: RealServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither stream nor client is closed. The event loop, which closes what it finds open, finds nothing to complain of."""

    async def program() -> None:
        client = AsyncRunsClient(real.process.url, KEY)
        async for _ in client.stream({"message": "?"}, agent="ask"):
            break

    asyncio.run(program())

    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_reader_that_pauses_holds_nothing_up_and_nothing_in_memory(cell: Cell) -> None:
    """It takes one event and waits until the run is over; so long, the rest waits in the server's store."""
    client = await cell.client()
    stream = cell.kind.start(client, "pour", "600")
    events = [await anext(stream)]

    assert await cell.kind.follow(await cell.client(), stream.run_id).result() == cell.kind.output("pour", "600")

    assert cell.line.carried(1) > 2_400_000
    assert cell.line.carried(0) < 1_000_000, "what its sockets hold, and no more"
    events += await all_of(stream)
    cell.assert_whole(events, "".join(f"{number} {fault_agents.PIECE}" for number in range(600)))


async def test_two_clients_see_the_same_of_one_run(cell: Cell, tmp_path: Path) -> None:
    """One from the beginning, one from the middle on; both lose their connections; and one that comes when all is over."""
    gate = tmp_path / "gate"
    client, other = await cell.client(), await cell.client()
    first = cell.kind.start(client, "gated", str(gate))
    seen = await cell.until_text(first)
    second = cell.kind.follow(other, first.run_id)
    also = [await anext(second)]

    cell.line.drop()
    gate.touch()
    rest, others = await asyncio.gather(all_of(first), all_of(second))

    cell.assert_whole(seen + rest, "beforeafter")
    assert also + others == seen + rest == await all_of(cell.kind.follow(client, first.run_id))
    assert await first.result() == await second.result() == cell.kind.output("gated", str(gate))


async def test_a_day_of_silence_is_no_end(cell: Cell) -> None:
    """
    A run waits for an answer. Of the fake, a whole day passes on its clock and its timers, with four cuts; of a process,
    only heartbeats pass, for longer than the client would take silence for, and the connection is the same then.
    """
    client = await cell.client(heartbeat_seconds=cell.line.heartbeat_seconds)
    stream = cell.kind.start(client, "ask", "?")
    events = await cell.until_question(stream)
    reading = asyncio.ensure_future(all_of(stream))

    await cell.line.pass_a_day()

    assert cell.line.requests == (1 if isinstance(cell.line, RealLine) else 5)
    await cell.kind.answer(await cell.client(), events[-1])
    rest = await reading
    cell.assert_whole(events + rest, "")
    assert await stream.result() == cell.kind.output("ask", "?")
    assert _time(rest[0]) - _time(events[-1]) > (1 if isinstance(cell.line, RealLine) else 24 * 3600)


def _time(event: Any) -> float:
    """Seconds; each API has its own form of it."""
    stamp = event.timestamp
    return float(stamp) / 1000 if isinstance(stamp, float) else float(stamp.timestamp())
