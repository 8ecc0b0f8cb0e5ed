"""Events of many runs by time, against a naive sort, however the store cuts its pages."""

from __future__ import annotations

import random
from typing import Any

import pytest

from holdfast.api.engine import timeline
from holdfast.api.engine.timeline import Timeline
from holdfast.model import Segment
from holdfast.model.encoding import encode_event, encode_fields, format_time

BASE = 1_795_219_159_000_000


class Store:
    """Segments in a list, and pages of as many as the test says."""

    def __init__(self, page: int) -> None:
        self.segments: list[Segment] = []
        self.floor: int | None = None
        self._page = page
        self._next: dict[int, int] = {}

    def commit(self, times: dict[int, list[int]]) -> None:
        """One segment of each run."""
        for number, stamps in times.items():
            first = self._next.get(number, 0)
            lines = [
                encode_event(f"run-{number}", first + index, "token", stamp, encode_fields({"content": "x"}))
                for index, stamp in enumerate(stamps)
            ]
            self._next[number] = first + len(stamps)
            self.segments.append(
                Segment(
                    number=number,
                    first=first,
                    last=first + len(stamps) - 1,
                    first_timestamp=stamps[0],
                    last_timestamp=stamps[-1],
                    body=("\n".join(lines) + "\n").encode(),
                    hash=b"",
                )
            )

    async def segments_by_time(
        self, tenant: str, *, after: int, begun_after: int | None = None, bytes_max: int, thread_id: str | None = None
    ) -> list[Segment]:
        found = [
            segment
            for segment in sorted(self.segments, key=lambda item: item.first_timestamp)
            if segment.last_timestamp > after and (begun_after is None or segment.first_timestamp > begun_after)
            if self.floor is None or segment.first_timestamp <= self.floor
        ]
        return found[: self._page]

    async def common_floor(self) -> int | None:
        return self.floor


async def drained(reader: Timeline) -> list[tuple[str, int, int]]:
    found = []
    while (pieces := await reader.next()) is not None:
        found += [
            (timeline.time_of(line), number, chunk.first + index)
            for number, chunk in pieces
            for index, line in enumerate(chunk.lines)
        ]
    return found


def everything(store: Store, after: int) -> list[tuple[str, int, int]]:
    events = [
        (timeline.time_of(line), segment.number, segment.first + index)
        for segment in store.segments
        if segment.last_timestamp > after
        for index, line in enumerate(segment.body.decode().splitlines())
    ]
    return sorted(event for event in events if event[0] > format_time(after))


def a_commit(chance: random.Random, clock: int) -> tuple[dict[int, list[int]], int]:
    """Events of some runs, side by side, all younger than those before."""
    times: dict[int, list[int]] = {}
    for _ in range(chance.randint(1, 30)):
        clock += chance.randint(2, 9)
        times.setdefault(chance.randint(1, 6), []).append(clock)
    return times, clock


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
@pytest.mark.parametrize("seed", range(10))
async def test_events_come_once_and_in_order_from_any_cursor_while_more_are_committed(page: int, seed: int) -> None:
    chance = random.Random(seed)
    store: Any = Store(page)
    clock = BASE
    for _ in range(5):
        times, clock = a_commit(chance, clock)
        store.commit(times)
    after = chance.randint(BASE - 5, clock)
    reader = Timeline(store, "default", after=after)

    found = await drained(reader)
    for _ in range(5):
        times, clock = a_commit(chance, clock)
        store.commit(times)
        found += await drained(reader)

    assert found == everything(store, after)


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
@pytest.mark.parametrize("seed", range(20))
async def test_events_of_several_processes_come_once_and_in_order_while_their_commits_overlap(
    page: int, seed: int
) -> None:
    """Each process commits its own events in order, but what is stamped first is not committed first."""
    chance = random.Random(seed)
    store: Any = Store(page)
    reader = Timeline(store, "default", after=0)
    clock = BASE
    pending: list[dict[int, list[int]]] = [{}, {}, {}]
    floors = [BASE] * len(pending)
    found: list[tuple[str, int, int]] = []
    for _ in range(60):
        place = chance.randrange(len(pending))
        if chance.random() < 0.7:
            clock += chance.randint(2, 9)
            pending[place].setdefault(10 * place + chance.randint(1, 3), []).append(clock)
        else:
            store.commit(pending[place])
            floors[place] = max([floors[place], *(stamps[-1] for stamps in pending[place].values())])
            pending[place] = {}
            store.floor = min(floors)
        if chance.random() < 0.5:
            found += await drained(reader)
    for times in pending:
        store.commit(times)
    store.floor = clock
    found += await drained(reader)

    assert found == everything(store, 0)
