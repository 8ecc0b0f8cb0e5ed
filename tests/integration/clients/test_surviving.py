"""The clients against a real server that dies, and a network that cuts, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from holdfast.client import AsyncEngineClient, AsyncRunsClient
from holdfast.client.engine import TextDelta, ThreadLifecycle
from holdfast.client.runtime import Complete, Restarted, RunEvent, Token
from tests.support.proxy import Proxy
from tests.support.server import KEY, ServerProcess, running_server, start_server

SETTINGS = {"HOLDFAST_HEARTBEAT_SECONDS": "1", "HOLDFAST_AGENT": "gated"}


async def test_streams_go_on_when_the_server_was_killed_and_started_again(tmp_path: Path) -> None:
    """A run by its stream, one by invoke, and a turn, all in the middle; what was void is told."""
    gate, data = tmp_path / "gate", tmp_path / "data"
    told: list[tuple[str, int, int]] = []
    first = await asyncio.to_thread(start_server, data, environment=SETTINGS)
    second: ServerProcess | None = None
    try:
        async with Proxy("127.0.0.1", first.port) as proxy, asyncio.timeout(90):
            url = f"http://127.0.0.1:{proxy.port}"
            async with AsyncRunsClient(url, KEY) as runs, AsyncEngineClient(url, KEY) as engine:
                stream = runs.stream({"gate": str(gate)}, on_discard=lambda *what: told.append(what))
                turn = engine.stream(str(gate), "demo", on_discard=lambda *what: told.append(what))
                invoked = asyncio.create_task(runs.invoke({"gate": str(gate)}, run_id="invoked"))
                seen = [await anext(stream), await anext(stream)]
                frames = [await anext(turn), await anext(turn)]
                await _until_token(runs, "invoked")

                first.kill()
                gate.touch()
                second = await asyncio.to_thread(start_server, data, environment=SETTINGS)
                proxy._target = ("127.0.0.1", second.port)
                seen += [event async for event in stream]
                frames += [frame async for frame in turn]

                assert (await invoked).output == {}
    finally:
        first.kill()
        if second is not None:
            second.kill()

    assert [event.sequence for event in seen] == list(range(len(seen)))
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert isinstance(seen[-1], Complete)
    assert isinstance(frames[-1], ThreadLifecycle)
    (restarted,) = (event for event in seen if isinstance(event, Restarted))
    assert sorted(told) == sorted([(str(stream.run_id), 1, 1), (str(turn.run_id), 1, 1)])
    assert restarted.discard == ((1, 1),)
    valid = {event.sequence: event.content for event in seen if isinstance(event, Token) and event.sequence != 1}
    assert "".join(valid.values()) == "beforeafter"
    assert "".join(frame.text for frame in frames[2:] if isinstance(frame, TextDelta)) == "beforeafter"


async def _until_token(runs: AsyncRunsClient, run_id: str) -> None:
    while True:
        async for event in runs.events(run_id):
            if isinstance(event, Token):
                return


async def test_a_connection_that_says_nothing_is_left_within_two_heartbeats(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_server(tmp_path / "data", environment=SETTINGS) as server:
        async with (
            Proxy("127.0.0.1", server.port) as proxy,
            AsyncRunsClient(f"http://127.0.0.1:{proxy.port}", KEY, heartbeat_seconds=1.0) as runs,
        ):
            stream = runs.stream({"gate": str(gate)})
            seen: list[RunEvent] = [await anext(stream), await anext(stream)]

            proxy.freeze()
            gate.touch()
            began = asyncio.get_running_loop().time()
            # The wait for `retry:` counts no more than any other; what is measured is the finding.
            found: list[float] = []
            runs._http.sleep = _noting(found)
            seen += [event async for event in stream]

    assert [event["sequence"] for event in seen] == [0, 1, 2, 3]
    assert found[0] - began < 2.5, "two intervals, and room for a busy machine"


def _noting(found: list[float]) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        found.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)

    return sleep


async def _cut_stream(server: ServerProcess, count: int, cut_seconds: float) -> tuple[list[int], int]:
    """The sequences that arrive through a proxy that cuts everything again and again; and how often it was opened."""
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        AsyncRunsClient(f"http://127.0.0.1:{proxy.port}", KEY) as runs,
    ):
        runs._http.sleep = lambda _: asyncio.sleep(0)  # each wait for `retry:` would be a second and more

        async def cut() -> None:
            while True:
                await asyncio.sleep(cut_seconds)
                proxy.cut()

        cutting = asyncio.create_task(cut())
        try:
            sequences = [event["sequence"] async for event in runs.stream({"n": count}, agent="count")]
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
        return sequences, proxy.accepted


async def test_a_stream_through_a_proxy_that_cuts_arrives_whole(server: ServerProcess) -> None:
    sequences, connections = await _cut_stream(server, 3_000, 0.01)

    assert sequences == list(range(3_002))
    assert connections > 1


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_hundred_thousand_events_through_a_proxy_that_cuts_every_50_ms(server: ServerProcess) -> None:
    sequences, connections = await _cut_stream(server, 100_000, 0.05)

    assert sequences == list(range(100_002))
    assert connections > 5
