"""
What clients promise on bad lines, once for each combination of server (a process behind a proxy, the fake), form (async,
sync) and API: whatever happens to the connection, each event comes once, in order, up to the last one.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.client.errors import ClientError
from holdfast.testing import FakeServer
from tests.integration.clients.cells import KINDS, Cell, all_of
from tests.support import fault_agents
from tests.support.lines import RealServer, line_to

SETTINGS = {"HOLDFAST_HEARTBEAT_SECONDS": "0.1", "HOLDFAST_AGENT": "gated"}
CELLS = list(itertools.product(("fake", "real"), ("async", "sync"), KINDS))

# Every so many-th byte is cut, from another one on each day; the campaign (mark `faults`) cuts at all of them.
STRIDES = {("fake", "async"): 1, ("fake", "sync"): 17, ("real", "async"): 29, ("real", "sync"): 43}


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


def _stride(request: pytest.FixtureRequest) -> int:
    server, form, _ = request.node.callspec.params["cell"]
    return STRIDES[server, form]


async def test_where_a_stream_is_cut_changes_nothing(cell: Cell, request: pytest.FixtureRequest) -> None:
    stride = _stride(request)

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
    assert (output, len(events)) == ("é", 3)


async def test_a_start_that_is_cut_is_made_once(cell: Cell) -> None:
    """Its answer is cut before it begins, in its head, before its first event, and behind it."""
    client = await cell.client()
    for after_bytes in (0, 60, 300, 600):
        cell.line.cut(after_bytes, times=2)
        stream = cell.kind.start(client, "word", "?")

        events = await all_of(stream)

        assert [event.sequence for event in events] == [0, 1, 2]
        assert await all_of(cell.kind.follow(client, stream.run_id)) == events


async def test_a_server_that_is_killed_goes_on_with_the_stream(cell: Cell, tmp_path: Path) -> None:
    """What was said before is void and told so; what the valid events say is whole."""
    gate = tmp_path / "gate"
    void: list[tuple[str, int, int]] = []
    client = await cell.client()
    stream = cell.kind.start(client, "gated", str(gate), on_discard=lambda *what: void.append(what))
    events = [await anext(stream), await anext(stream)]
    cell.wait_seconds_max = 0.01

    await cell.line.restart()
    gate.touch()
    events += await all_of(stream)

    assert [event.sequence for event in events] == list(range(len(events)))
    assert void == [(stream.run_id, 1, 1)]
    assert "".join(cell.kind.text(event) for event in events[2:]) == "beforeafter"
    assert await stream.result() == "beforeafter"


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_refusal_is_waited_for_in_the_place_of_a_start_and_of_a_resumption(
    cell: Cell, tmp_path: Path, status: int
) -> None:
    gate = tmp_path / "gate"
    client = await cell.client()
    cell.line.refuse(status, retry_after=7)
    cell.line.refuse(status)
    stream = cell.kind.start(client, "gated", str(gate))
    events = [await anext(stream), await anext(stream)]
    assert cell.slept[0] == 7.0, "Retry-After"
    assert 0 < cell.slept[1] < 7.0
    cell.slept.clear()

    cell.line.refuse(status, retry_after=11)
    cell.line.unreachable()
    cell.line.drop()
    gate.touch()
    events += await all_of(stream)

    assert [event.sequence for event in events] == [0, 1, 2, 3]
    assert 11.0 in cell.slept


async def test_a_refusal_that_lasts_is_the_callers(cell: Cell) -> None:
    client = await cell.client(reconnect_seconds=20.0)
    cell.line.refuse(503, retry_after=15)
    cell.line.refuse(503, retry_after=30)

    with pytest.raises(ClientError) as told:
        await all_of(cell.kind.start(client, "word", "?"))

    assert (getattr(told.value, "status_code", None), getattr(told.value, "retry_after", None)) == (503, 30.0)
    assert cell.slept == [15.0], "what takes longer than the client's patience is not waited for"
