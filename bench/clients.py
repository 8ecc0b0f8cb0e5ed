"""The Python clients: how fast they make typed events of bytes, and what they keep of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil

from bench.rows import Row, row
from holdfast.client import AsyncEngineClient, AsyncRunsClient, AsyncSkillsClient

EVENTS: Final = 300_000
PIECE_BYTES: Final = 64 * 1024
TARGET: Final = 150_000
MEMORY_MIB_MAX: Final = 4.0
LOOK_EVERY: Final = 20_000
RUN: Final = "01a21de1-240b-7aa7-91c9-14d5342c7db6"


def run_frames() -> Iterator[bytes]:
    """A run's tokens, and its end."""
    for number in range(EVENTS):
        yield (
            f'id: {number}\nevent: token\ndata: {{"id":"evt_{number}","type":"token","run_id":"{RUN}",'
            f'"sequence":{number},"timestamp":"2026-11-20T23:59:19.987298Z","content":"Quan"}}\n\n'
        ).encode()
    yield (
        f'id: {EVENTS}\nevent: complete\ndata: {{"id":"evt_{EVENTS}","type":"complete","run_id":"{RUN}",'
        f'"sequence":{EVENTS},"timestamp":"2026-11-20T23:59:19.987298Z","output":{{}}}}\n\n'
    ).encode()


def turn_frames() -> Iterator[bytes]:
    """A turn's text, and its end."""
    for number in range(EVENTS):
        yield (
            f'id: {number}\nevent: text_delta\ndata: {{"type":"text_delta","task_id":"demo-001","turn_id":"{RUN}",'
            f'"sequence":{number},"timestamp":{1795219159987 + number}.298,"text":"Quan"}}\n\n'
        ).encode()
    yield (
        f'id: {EVENTS}\nevent: thread_lifecycle\ndata: {{"type":"thread_lifecycle","task_id":"demo-001","turn_id":"{RUN}",'
        f'"sequence":{EVENTS},"timestamp":{1795219159987 + EVENTS}.298,"phase":"completed","output":""}}\n\n'
    ).encode()


def skill_frames() -> Iterator[bytes]:
    """The text of a skill's step, and its end."""
    common = f'"timestamp":"2026-11-20T23:59:19.987298Z","trace_id":"t","run_id":"{RUN}"'
    for number in range(EVENTS):
        yield (
            f'id: {number}\nevent: token\ndata: {{"type":"token","message":"",{common},"step_id":"write",'
            f'"sequence":{number},"data":{{"content":"Quan"}}}}\n\n'
        ).encode()
    yield (
        f'id: {EVENTS}\nevent: done\ndata: {{"type":"done","message":"",{common},"step_id":null,"sequence":{EVENTS},'
        '"data":null,"skill_id":"my.skill","status":"completed","outputs":{}}\n\n'
    ).encode()


class Body(httpx2.AsyncByteStream):
    """Pieces as a socket gives them, made as they are asked for. `seconds` is what making them took."""

    def __init__(self, frames: Callable[[], Iterator[bytes]]) -> None:
        self.seconds = 0.0
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        frames = self._frames()
        while True:
            began = time.process_time()
            piece = bytearray()
            for frame in frames:
                piece += frame
                if len(piece) >= PIECE_BYTES:
                    break
            self.seconds += time.process_time() - began
            if not piece:
                return
            yield bytes(piece)


class Wire(httpx2.AsyncBaseTransport):
    """Answers the one request with a body."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=self._body)


async def decoding(directory: Path) -> list[Row]:
    """Typed events of one stream in a loop of the caller's, without a network. Of processor time, as it is alone there."""
    body = Body(run_frames)
    async with AsyncRunsClient("http://bench", transport=Wire(body)) as runs:
        rows = await _measured("Runtime API", body, runs.events(RUN))
    body = Body(turn_frames)
    async with AsyncEngineClient("http://bench", transport=Wire(body)) as engine:
        rows += await _measured("Engine API", body, engine.replay("demo-001", turn_id=RUN))
    body = Body(skill_frames)
    async with AsyncSkillsClient("http://bench", transport=Wire(body)) as skills:
        return rows + await _measured("Skills API", body, skills.events(RUN))


async def _measured(name: str, body: Body, events: AsyncIterator[Any]) -> list[Row]:
    count, resident = 0, [0.0]
    began = time.process_time()
    async for _ in events:
        count += 1
        if count % LOOK_EVERY == 0:
            resident.append(_resident_mib())
    rate = count / (time.process_time() - began - body.seconds)
    grown = max(resident) - resident[1]
    assert count == EVENTS + 1
    return [
        row("C1", f"client, {name}: typed events", rate, "events/s", None, f">= {TARGET:,}", rate >= TARGET),
        row("C1", f"client, {name}: growth over {EVENTS:,}", grown, "MiB", None, "flat", grown < MEMORY_MIB_MAX),
    ]


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


ROWS = {"C1": decoding}
