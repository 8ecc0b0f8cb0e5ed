"""Walking the list of runs while it grows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.server import ServerProcess

PAGES = 10
BATCH = 100


def walk(client: httpx.Client, query: str) -> Iterator[list[str]]:
    """The ids of each page, to the last one."""
    cursor = ""
    while True:
        reply = client.get(f"/runs?{query}{cursor}")
        assert reply.status_code == 200, reply.text
        yield [run["run_id"] for run in reply.json()["runs"]]
        if reply.json()["next_cursor"] is None:
            return
        cursor = f"&cursor={reply.json()['next_cursor']}"


def test_a_walk_while_a_thousand_runs_start_shows_none_twice_and_misses_none(
    server: ServerProcess, client: httpx.Client
) -> None:
    """A hundred of them start while each page is read."""
    mark = uuid.uuid4().hex[:12]
    earlier = client.get(f"/runs/{client.post('/runs', json={}).json()['run_id']}").json()["created_at"]
    before = [f"w-{mark}-{number}" for number in range(PAGES * 10)]
    for run_id in before:
        assert client.post(f"/agents/tutor/runs?run_id={run_id}", json={}).status_code == 202
    clients = [server.client(timeout=60) for _ in range(4)]

    def start(number: int) -> int:
        return clients[number % 4].post(f"/agents/tutor/runs?run_id=n-{mark}-{number}", json={}).status_code

    walked: list[str] = []
    pages = walk(client, f"created_after={earlier}&limit=10")
    with ThreadPoolExecutor(4) as pool:
        for page in range(PAGES):
            starting = pool.map(start, range(page * BATCH, (page + 1) * BATCH))
            walked += next(pages)
            assert set(starting) == {202}
    walked += [run_id for page in pages for run_id in page]
    after = [run_id for page in walk(client, f"created_after={earlier}&limit=200") for run_id in page]
    for other in clients:
        other.close()

    for found in (walked, after):
        assert len(set(found)) == len(found)
        assert [run_id for run_id in found if run_id in before] == before[::-1]
    assert {f"n-{mark}-{number}" for number in range(PAGES * BATCH)} <= set(after)


def test_a_walk_ends_with_its_last_page(client: httpx.Client) -> None:
    thread_id = f"w-{uuid.uuid4().hex}"
    made = []
    for _ in range(4):
        made.append(client.post(f"/agents/tutor/runs?thread_id={thread_id}", json={}).json()["run_id"])
        client.get(f"/runs/{made[-1]}?wait=20")

    pages = list(walk(client, f"thread_id={thread_id}&limit=2"))

    assert pages == [made[:1:-1], made[1::-1]]


def test_a_run_without_a_thread_is_found_by_the_one_that_it_shows(client: httpx.Client) -> None:
    run_id = client.post("/runs", json={}).json()["run_id"]
    shown = client.get(f"/runs/{run_id}").json()["thread_id"]

    found = client.get(f"/runs?thread_id={shown}").json()["runs"]

    assert [run["run_id"] for run in found] == [run_id]


def test_times_are_exclusive(client: httpx.Client) -> None:
    runs = [client.get(f"/runs/{client.post('/runs', json={}).json()['run_id']}").json() for _ in range(3)]
    first, _, last = (run["created_at"] for run in runs)

    found = client.get("/runs", params={"created_after": first, "created_before": last}).json()["runs"]

    assert [run["run_id"] for run in found] == [runs[1]["run_id"]]
