"""Walking the list of runs while it grows."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import httpx

from tests.support.server import ServerProcess

STARTED = 1000


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
    mark = uuid.uuid4().hex[:12]
    before = [f"w-{mark}-{number}" for number in range(100)]
    for run_id in before:
        client.post(f"/agents/tutor/runs?run_id={run_id}", json={})
    started = 0
    walks: list[list[str]] = []

    def start() -> None:
        nonlocal started
        with server.client(timeout=60) as other:
            for number in range(STARTED):
                assert other.post(f"/agents/tutor/runs?run_id=n-{mark}-{number}", json={}).status_code == 202
                started += 1

    starting = threading.Thread(target=start)
    starting.start()
    while starting.is_alive():
        walks.append([run_id for page in walk(client, "agent=tutor&limit=7") for run_id in page])
    starting.join()
    after = [run_id for page in walk(client, "agent=tutor&limit=200") for run_id in page]

    assert started == STARTED
    for found in [*walks, after]:
        assert len(set(found)) == len(found)
        assert set(before) <= set(found)
        assert [run_id for run_id in found if run_id in before] == before[::-1]
    assert {f"n-{mark}-{number}" for number in range(STARTED)} <= set(after)
    # It did grow while it was walked.
    assert any(0 < sum(run_id.startswith(f"n-{mark}") for run_id in found) < STARTED for found in walks)


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
